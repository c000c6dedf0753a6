"""`rlt distill`: a student learns from explanations, as rows of question -> thought -> solution.

The thought holds the very tokens that the teacher sampled where the student's tokenizer is the teacher's, and their
text encoded anew where it is not. By SFT every row is learnt; by DPO or KTO the better ones of a problem are, over the
others (preferences.py). What it forgot by that is retention.py. Left out on purpose: any other choice among rows
(`rlt select`), and any editing of them.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from math import isfinite, nan
from pathlib import Path
from typing import Literal

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from student import processes
from student.configs import DistillConfig, PreferenceConfig, SftConfig
from student.errors import ProblemError, ScoringError
from student.explanations import Explanation, read_explanations
from student.models import load_pair
from student.pairing import Numbers, Rows, labels_of, pairs_of
from student.preferences import LabelledRow, PreferenceReport, TokenPair, train_on_labels, train_on_pairs
from student.reading import StudentFormat
from student.retention import check_suite, measure_retention
from student.run_folder import begin, finish, is_finished
from student.sft import SftReport, TokenRow, train_sft
from student.tags import STYLES, Tags

TITLE = "distill"
"""What the progress bar is called."""
Thought = Literal["explanation", "none"]


def main(config: DistillConfig) -> None:
    """Carries out `rlt distill`; raises RltError where something must be mended first."""
    if config.retention is not None:
        check_suite(config, config.retention)
    if not is_finished(Path(config.out), config):
        _train(config)
    if config.retention is not None:
        measure_retention(config, config.retention)


def _train(config: DistillConfig) -> None:
    out, tags = Path(config.out), STYLES[config.tags]
    explanations = read_explanations(
        config.explanations, tags, config.skip_invalid, out.with_name(out.name + ".skipped.jsonl")
    )
    student, tokenizer = load_pair(config.student, config, to_train=True)
    lesson = prepare(explanations, StudentFormat(tokenizer, tags), config.think, keep_unclosed=config.keep_unclosed)
    begin(out, config)
    report = learn(student, tokenizer, lesson, out, config)
    counts = {"rows": lesson.given, "unclosed": lesson.unclosed, "unusable": lesson.unusable, "dropped": lesson.dropped}
    finish(out, asdict(report) | counts)


@dataclass
class Lesson:
    """Explanations as rows of tokens, and how many were left out for what reason."""

    given: int = 0
    unclosed: int = 0
    """Rows whose explanation never reached its end tag."""
    unusable: int = 0
    """Rows without an explanation, or with a control token of the student's model in a text."""
    dropped: int = 0
    """Rows that a selection turned away."""
    rows: list[TokenRow] = field(default_factory=list)
    sources: list[Explanation] = field(default_factory=list)
    """Where each row is from."""


def distill(
    student: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    explanations: Sequence[Explanation],
    out: Path,
    sft: SftConfig,
    *,
    tags: Tags,
    think: Thought = "explanation",
) -> SftReport:
    """Trains `student` in place on the closed ones of `explanations` and saves it as the folder `out`."""
    lesson = prepare(explanations, StudentFormat(tokenizer, tags), think)
    return train_sft(student, tokenizer, lesson.rows, out, sft, title=TITLE)


def prepare(
    explanations: Sequence[Explanation], student_format: StudentFormat, think: Thought, *, keep_unclosed: bool = False
) -> Lesson:
    """The rows to train on. With think "none" they are the same rows, with an empty thought.

    Raises ProblemError where no row is left.
    """
    lesson = Lesson(given=len(explanations))
    for explanation in explanations:
        if explanation.dropped is not None:
            lesson.dropped += 1
            continue
        lesson.unclosed += explanation.error is None and not explanation.closed
        if explanation.error is not None or not (explanation.closed or keep_unclosed):
            lesson.unusable += explanation.error is not None
            continue
        try:
            lesson.rows.append(token_row(explanation, student_format, think))
            lesson.sources.append(explanation)
        except ScoringError as error:
            lesson.unusable += 1
            processes.tell(f"explanation {explanation.id} left out: {error}")
    if not lesson.rows:
        raise ProblemError(
            f"none of {lesson.given} explanations can be trained on ({lesson.unclosed} unclosed, {lesson.unusable} "
            f"unusable, {lesson.dropped} dropped by a selection); keep_unclosed takes unclosed ones"
        )
    return lesson


def learn(
    student: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, lesson: Lesson, out: Path, config: DistillConfig
) -> SftReport | PreferenceReport:
    """Trains `student` in place by the method of `config` and saves it as the folder `out`."""
    if config.method == "dpo":
        pairs = pairs_among(lesson, config.preference)
        return train_on_pairs(student, tokenizer, pairs, out, config.sft, config.preference)
    if config.method == "kto":
        labelled = labels_among(lesson, config.preference)
        return train_on_labels(student, tokenizer, labelled, out, config.sft, config.preference)
    return train_sft(student, tokenizer, lesson.rows, out, config.sft, title=TITLE, lora=config.lora)


def pairs_among(lesson: Lesson, preference: PreferenceConfig) -> list[TokenPair]:
    """The better and the worse row of each pair; raises ProblemError where there is none."""
    problems, rewards = _rewarded(lesson)
    pairs = pairs_of(problems, rewards, preference.pairs, preference.margin)
    if not len(pairs.chosen):
        raise ProblemError(
            f"no pairs among {len(lesson.rows)} rows: a problem needs two explanations whose rewards differ by "
            f"preference.margin ({preference.margin:g}); explain with more --samples, and score them"
        )
    return [TokenPair(lesson.rows[a], lesson.rows[b]) for a, b in zip(pairs.chosen, pairs.rejected, strict=True)]


def labels_among(lesson: Lesson, preference: PreferenceConfig) -> list[LabelledRow]:
    """The rows whose reward says that they are good or bad; raises ProblemError where none has a reward."""
    problems, rewards = _rewarded(lesson)
    labels = labels_of(problems, rewards, preference.threshold)
    return [LabelledRow(row, bool(label)) for row, label in zip(lesson.rows, labels, strict=True) if isfinite(label)]


def _rewarded(lesson: Lesson) -> tuple[Rows, Numbers]:
    """The number of each row's problem, and its reward, NaN where it has none."""
    rewards = np.array([nan if row.score is None else row.score.reward for row in lesson.sources])
    if not np.isfinite(rewards).any():
        raise ProblemError("no row has a reward: `rlt score` the explanations first")
    _, problems = np.unique([row.problem_id for row in lesson.sources], return_inverse=True)
    return problems, rewards


def token_row(explanation: Explanation, student_format: StudentFormat, think: Thought) -> TokenRow:
    """Question -> thought -> solution as token ids; raises ScoringError on control tokens in a text."""
    thought = thought_ids(explanation, student_format) if think == "explanation" else []
    prompt = student_format.prompt_ids(explanation.question)
    return TokenRow(prompt, student_format.completion_ids(thought, explanation.solution))


def thought_ids(explanation: Explanation, student_format: StudentFormat) -> list[int]:
    """The sampled tokens where they spell the explanation in the student's vocabulary, else its text encoded."""
    tokenizer = student_format.tokenizer
    sampled = list(explanation.token_ids or ())
    if sampled and max(sampled) < len(tokenizer):
        spelled = tokenizer.decode(sampled, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        if spelled == explanation.explanation:
            return sampled
    return student_format.encode(explanation.explanation)
