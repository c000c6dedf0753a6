"""The reward model: a frozen student, and the teacher beside it, turn explanations into scores.

One path for RL, `rlt score` and the service. The teacher's log-probabilities are handed in where somebody has them (the
trainer), computed from the teacher's own model where it is given, and left out, with rKL, where there is neither.

A student with the teacher's tokenizer reads the very tokens of an explanation. Any other reads its text, in tokens of
its own: rSS is as exact, and rKL is summed over the spans of text that both have (student/scoring/alignment.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from student import processes
from student.configs import RewardConfig
from student.errors import ScoringError
from student.explanations import Score
from student.measures.steps import tokens_before
from student.reading import Passage, StudentFormat
from student.rewards import ESTIMATORS, score_explanation
from student.scoring.alignment import Span, common_spans, kl_of_spans, plain_ids, same_tokens, token_ends
from student.scoring.protocol import PassageLogps, PassageScorer
from student.scoring.scorer import Scorer, logps_and_exact_kl
from teacher.errors import NoExactKl
from teacher.prompts import Explained, TeacherFormat


@dataclass(frozen=True)
class Draft:
    """An explanation to be scored, with what it explains."""

    question: str
    solution: str
    explained: Explained
    teacher_logps_E: Tensor | None = None
    """The teacher's log-probabilities of at least the explanation's sampled tokens, where they are known already."""

    def blind(self) -> "Draft":
        """The same problem with no explanation at all."""
        return replace(self, explained=Explained([], "", closed=True, sampled_tokens=0), teacher_logps_E=None)


@dataclass(frozen=True)
class Sighting:
    """What the models made of one draft, token by token: all that its score is computed from."""

    passage: Passage
    """What the student read, in its own tokens."""
    logps: PassageLogps
    """The student's log-probabilities of it."""
    teacher_logps_E: Tensor | None
    """The teacher's, of the explanation's tokens as the draft has them; None without a teacher, and where KL is summed
    over the vocabulary."""
    kl_E: Tensor | None
    """KL at the draft's leading explanation tokens for which both have a log-probability; None without a teacher."""


def refuse_exact_kl(
    config: RewardConfig, teacher: PreTrainedTokenizerBase, student: PreTrainedTokenizerBase, scorer: PassageScorer
) -> None:
    """Raises NoExactKl where `config` asks for the exact KL of two tokenizers, of a student on servers, or of a teacher
    that is divided among processes."""
    if config.kl_estimator != "exact":
        return
    if processes.divide_models():
        raise NoExactKl("the teacher is divided among the processes", "one process a model, without FSDP or DeepSpeed")
    if not isinstance(scorer, Scorer):
        raise NoExactKl("the student is read on servers (scoring.urls)", "leave scoring.urls out")
    if not same_tokens(teacher, student):
        raise NoExactKl(
            f"teacher {teacher.name_or_path!r} and student {student.name_or_path!r} have different tokenizers",
            "a student with the teacher's tokenizer",
        )


class RewardModel:
    """Scores drafts by `config`; holds models, no state.

    A draft's explanation is in the tokens of `teacher_format`, which are the student's too where nobody else wrote it.
    Raises NoExactKl where `config` asks for what the two cannot give.
    """

    def __init__(
        self,
        teacher_format: TeacherFormat,
        student_format: StudentFormat,
        student: PassageScorer,
        config: RewardConfig,
        teacher: Scorer | None = None,
    ) -> None:
        refuse_exact_kl(config, teacher_format.tokenizer, student_format.tokenizer, student)
        self.teacher_format = teacher_format
        self.student_format = student_format
        self.student = student
        self.config = config
        self.teacher = teacher
        self.same_tokens = same_tokens(teacher_format.tokenizer, student_format.tokenizer)
        self.explanation_format = (
            student_format if self.same_tokens else StudentFormat(teacher_format.tokenizer, student_format.tags)
        )
        """Makes tokens of an explanation that is a text: the teacher's."""

    def scores(self, drafts: Sequence[Draft]) -> list[Score]:
        """The score of each draft, in the order given; raises ScoringError where a problem does not fit the student."""
        return [self.score(draft, seen) for draft, seen in zip(drafts, self.sightings(drafts), strict=True)]

    def sightings(self, drafts: Sequence[Draft]) -> list[Sighting]:
        """What scores are made of, token by token, in the order given; raises ScoringError as `scores` does."""
        passages = [self.passage(draft) for draft in drafts]
        if self.config.kl_estimator == "exact" and self.teacher is not None:
            read = self._read_by_both(drafts, passages)
            return [Sighting(passage, logps, None, kl_E) for passage, (logps, kl_E) in zip(passages, read, strict=True)]
        logps = self.student.logps(passages, self.config.temperature)
        teacher_logps: list[Tensor | None] = [None] * len(drafts)
        if self.config.kl_estimator != "exact":
            teacher_logps = self.teacher_logps(drafts)
        kls = self._sampled_kl(drafts, teacher_logps, logps)
        return [Sighting(*parts) for parts in zip(passages, logps, teacher_logps, kls, strict=True)]

    def score(self, draft: Draft, seen: Sighting) -> Score:
        """The score of one draft; raises ScoringError where a number is not finite."""
        return score_explanation(
            seen.logps.solution_S,
            seen.kl_E,
            self.config,
            closed=draft.explained.closed,
            cut_tokens=seen.passage.cut_tokens,
        )

    def blind_logps(self, draft: Draft) -> Tensor:
        """log p of each solution token where the student is given no explanation at all, shape (S,)."""
        [logps] = self.student.logps([self.passage(draft.blind())], self.config.temperature)
        return logps.solution_S

    def teacher_logps(self, drafts: Sequence[Draft]) -> list[Tensor | None]:
        """The teacher's log-probabilities of each explanation, handed in or computed; None without a teacher."""
        if self.teacher is None or all(draft.teacher_logps_E is not None for draft in drafts):
            return [draft.teacher_logps_E for draft in drafts]
        theirs = [self._teacher_passage(draft) for draft in drafts]
        return [logps.explanation_E for logps in self.teacher.logps(theirs, self.config.temperature)]

    def can_read_at(self, temperature: float) -> bool:
        """The student answers for that temperature: one on servers does for the reward's alone."""
        return isinstance(self.student, Scorer) or temperature == self.config.temperature

    def check(self, draft: Draft) -> None:
        """Raises ScoringError where the student cannot read the draft, or the teacher cannot be shown it."""
        self.passage(draft)
        if self.teacher is None:
            return
        tokens, limit = len(self._teacher_passage(draft).input_ids), self.teacher.max_tokens
        if limit is not None and tokens > limit:
            raise ScoringError(
                f"prompt and explanation take {tokens} tokens, and the teacher reads at most {limit}; leave the row out"
            )

    def passage(self, draft: Draft) -> Passage:
        """What the student reads of a draft; raises ScoringError where the problem alone does not fit."""
        return self.student_format.read(
            draft.question, self._student_ids(draft), draft.solution, max_tokens=self.student.max_tokens
        )

    def readings(self, draft: Draft, pieces: Sequence[str]) -> list[Passage]:
        """What the student reads before the first of the pieces of an explanation, and after each of them.

        Only the solution is asked about. Raises ScoringError as `passage` does.
        """
        ids, tokenizer = self._student_ids(draft), self.student_format.tokenizer
        limit = self.student.max_tokens
        return [
            self.student_format.read(draft.question, ids[:count], draft.solution, limit).solution_only()
            for count in tokens_before(tokenizer, ids, draft.explained.text, pieces)
        ]

    def _sampled_kl(
        self, drafts: Sequence[Draft], teacher_logps: Sequence[Tensor | None], logps: Sequence[PassageLogps]
    ) -> Sequence[Tensor | None]:
        return [
            None if teacher_E is None else self._kl(draft, teacher_E, logp.explanation_E)
            for draft, teacher_E, logp in zip(drafts, teacher_logps, logps, strict=True)
        ]

    def _kl(self, draft: Draft, teacher_E: Tensor, student_R: Tensor) -> Tensor:
        """At the leading tokens that the teacher sampled and the student read: both have a number for those."""
        estimate = ESTIMATORS[self.config.kl_estimator]
        known_E = teacher_E[: draft.explained.sampled_tokens].float().cpu()
        if not self.same_tokens:
            return kl_of_spans(known_E, student_R, self._spans(draft), estimate)
        length = min(len(known_E), len(student_R))
        return estimate(known_E[:length], student_R[:length])

    def _spans(self, draft: Draft) -> list[Span]:
        text = draft.explained.text
        return common_spans(
            token_ends(self.teacher_format.tokenizer, draft.explained.explanation_ids, text),
            token_ends(self.student_format.tokenizer, self._student_ids(draft), text),
        )

    def _read_by_both(
        self, drafts: Sequence[Draft], passages: Sequence[Passage]
    ) -> Sequence[tuple[PassageLogps, Tensor]]:
        assert isinstance(self.student, Scorer), "no other student is taken for the exact KL"
        assert self.teacher is not None
        theirs = [self._teacher_passage(draft) for draft in drafts]
        return logps_and_exact_kl(self.teacher, theirs, self.student, passages, self.config.temperature)

    def _student_ids(self, draft: Draft) -> list[int]:
        """The explanation as the student reads it: as it was sampled, or its text where that would be other words."""
        if self.same_tokens:
            return draft.explained.explanation_ids
        return plain_ids(self.student_format.tokenizer, draft.explained.text)

    def _teacher_passage(self, draft: Draft) -> Passage:
        return self.teacher_format.passage(draft.question, draft.solution, draft.explained.explanation_ids)
