"""The reward model: a frozen student, and the teacher beside it, turn explanations into scores.

One path for RL, `rlt score` and the service. The teacher's log-probabilities are handed in where somebody has them (the
trainer), computed from the teacher's own model where it is given, and left out, with rKL, where there is neither.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from student.configs import RewardConfig
from student.errors import ScoringError
from student.explanations import Score
from student.reading import Passage, StudentFormat
from student.rewards import ESTIMATORS, score_explanation
from student.scoring.scorer import PassageLogps, Scorer, full_vocabulary_kl
from teacher.prompts import Explained, TeacherFormat


@dataclass(frozen=True)
class Draft:
    """An explanation to be scored, with what it explains."""

    question: str
    solution: str
    explained: Explained
    teacher_logps_E: Tensor | None = None
    """The teacher's log-probabilities of at least the explanation's sampled tokens, where they are known already."""


@dataclass(frozen=True)
class Sighting:
    """What the models made of one draft, token by token: all that its score is computed from."""

    passage: Passage
    """What the student read."""
    logps: PassageLogps
    """The student's log-probabilities of it."""
    teacher_logps_E: Tensor | None
    """The teacher's, of the explanation; None without a teacher, and where KL is summed over the vocabulary."""
    kl_E: Tensor | None
    """KL at the leading explanation tokens for which both have a log-probability; None without a teacher."""


class RewardModel:
    """Scores drafts by `config`; holds models, no state."""

    def __init__(
        self,
        teacher_format: TeacherFormat,
        student_format: StudentFormat,
        student: Scorer,
        config: RewardConfig,
        teacher: Scorer | None = None,
    ) -> None:
        self.teacher_format = teacher_format
        self.student_format = student_format
        self.student = student
        self.config = config
        self.teacher = teacher

    def scores(self, drafts: Sequence[Draft]) -> list[Score]:
        """The score of each draft, in the order given; raises ScoringError where a problem does not fit the student."""
        return [self.score(draft, seen) for draft, seen in zip(drafts, self.sightings(drafts), strict=True)]

    def sightings(self, drafts: Sequence[Draft]) -> list[Sighting]:
        """What scores are made of, token by token, in the order given; raises ScoringError as `scores` does."""
        passages = [self._student_passage(draft) for draft in drafts]
        logps = self.student.logps(passages, self.config.temperature)
        exact = self.config.kl_estimator == "exact"
        teacher_logps: list[Tensor | None] = [None] * len(drafts) if exact else self.teacher_logps(drafts)
        kls = self._exact_kl(drafts, passages) if exact else self._sampled_kl(drafts, teacher_logps, logps)
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
        blind = replace(draft, explained=Explained([], "", closed=True, sampled_tokens=0))
        [logps] = self.student.logps([self._student_passage(blind)], self.config.temperature)
        return logps.solution_S

    def teacher_logps(self, drafts: Sequence[Draft]) -> list[Tensor | None]:
        """The teacher's log-probabilities of each explanation, handed in or computed; None without a teacher."""
        if self.teacher is None or all(draft.teacher_logps_E is not None for draft in drafts):
            return [draft.teacher_logps_E for draft in drafts]
        theirs = [self._teacher_passage(draft) for draft in drafts]
        return [logps.explanation_E for logps in self.teacher.logps(theirs, self.config.temperature)]

    def check(self, draft: Draft) -> None:
        """Raises ScoringError where the student cannot read the draft, or the teacher cannot be shown it."""
        self._student_passage(draft)
        if self.teacher is None:
            return
        tokens, limit = len(self._teacher_passage(draft).input_ids), self.teacher.max_tokens
        if limit is not None and tokens > limit:
            raise ScoringError(
                f"prompt and explanation take {tokens} tokens, and the teacher reads at most {limit}; leave the row out"
            )

    def _sampled_kl(
        self, drafts: Sequence[Draft], teacher_logps: Sequence[Tensor | None], logps: Sequence[PassageLogps]
    ) -> Sequence[Tensor | None]:
        estimate = ESTIMATORS[self.config.kl_estimator]
        return [
            None if teacher_E is None else estimate(*_known(draft, teacher_E, logp.explanation_E))
            for draft, teacher_E, logp in zip(drafts, teacher_logps, logps, strict=True)
        ]

    def _exact_kl(self, drafts: Sequence[Draft], passages: Sequence[Passage]) -> Sequence[Tensor | None]:
        if self.teacher is None:
            return [None] * len(drafts)
        theirs = [self._teacher_passage(draft) for draft in drafts]
        return full_vocabulary_kl(self.teacher, theirs, self.student, passages, self.config.temperature)

    def _student_passage(self, draft: Draft) -> Passage:
        return self.student_format.read(
            draft.question, draft.explained.explanation_ids, draft.solution, max_tokens=self.student.max_tokens
        )

    def _teacher_passage(self, draft: Draft) -> Passage:
        return self.teacher_format.passage(draft.question, draft.solution, draft.explained.explanation_ids)


def _known(draft: Draft, teacher_E: Tensor, student_E: Tensor) -> tuple[Tensor, Tensor]:
    """The leading tokens that the teacher sampled and the student read: both have a log-probability for those."""
    length = min(draft.explained.sampled_tokens, len(teacher_E), len(student_E))
    return teacher_E[:length].float().cpu(), student_E[:length]
