"""`rlt score`: what a student makes of explanations, whoever wrote them: the reward and further measures, row by row.

Rows keep all they had and gain a `score`, or `unscored`, the reason why this student has none for them; siblings go on.
Beside it stand `measures`, and which student it was.
A killed run goes on where it stopped. Left out: choosing rows by their scores.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from student.configs import MeasureSettings
from student.distill import thought_ids
from student.errors import ScoringError
from student.explanations import SCHEMA, Explanation, Score, read_explanations
from student.models import load_pair, load_tokenizer, weights_digest
from student.reading import StudentFormat
from student.row_file import RowFile
from student.scoring.opening import open_scorer
from student.scoring.protocol import PassageScorer
from student.scoring.scorer import Scorer
from student.tags import STYLES
from teacher.configs import ScoreConfig
from teacher.measuring import TEMPERATURE, measured
from teacher.prompts import Explained, TeacherFormat
from teacher.reward_model import Draft, RewardModel, Sighting

ROWS_AT_A_TIME = 256
"""Rows that are scored and then written together."""
_NO_GAIN = (
    "measures.gain and measures.step-credit: left out, since the servers (scoring.urls) hold the student at "
    "reward.temperature alone and both are read at 1; use --reward.temperature 1, or leave scoring.urls out"
)


def main(config: ScoreConfig) -> None:
    """Carries out `rlt score`; raises RltError where something must be mended first."""
    out = Path(config.out)
    file = RowFile(out, SCHEMA)
    aside = out.with_name(out.name + ".skipped.jsonl")
    explanations = read_explanations(config.traces, STYLES[config.tags], config.skip_invalid, aside)
    ids = [explanation.id for explanation in explanations]
    if file.begun:
        file.claim(config)
    load_tokenizer(config.student)  # says what is wrong with a name, before its weights are looked for
    reader = Reader(config.student, weights_digest(config.student), config.measures)
    if file.whole(ids, reader.constant):
        print(f"{out} is complete already, made with these settings: nothing to do")
        return
    model = load_reward_model(config)
    if (config.measures.gain or config.measures.step_credit) and not model.can_read_at(TEMPERATURE):
        print(f"rlt: {_NO_GAIN}", file=sys.stderr)
    file.claim(config)
    done = file.resume(ids, reader.constant, unit=ROWS_AT_A_TIME)
    print(summary(out, _write(file, model, reader, explanations, done)))


@dataclass(frozen=True)
class Reader:
    """Who reads the rows, and what is measured then."""

    student: str
    digest: str
    measures: MeasureSettings

    @property
    def constant(self) -> dict[str, str]:
        """What every row of one file says."""
        return {"student_digest": self.digest}


def load_reward_model(config: ScoreConfig) -> RewardModel:
    """The student, and the teacher where one is named; raises ModelError, and NoExactKl as RewardModel does."""
    student, tokenizer = open_scorer(config.student, config, config.scoring, config.reward.temperature)
    if config.teacher is None:
        return build_reward_model(student, tokenizer, None, config)
    teacher, teacher_tokenizer = load_pair(config.teacher, config)
    return build_reward_model(student, tokenizer, teacher, config, teacher_tokenizer)


def build_reward_model(
    student: PassageScorer,
    tokenizer: PreTrainedTokenizerBase,
    teacher: PreTrainedModel | None,
    config: ScoreConfig,
    teacher_tokenizer: PreTrainedTokenizerBase | None = None,
) -> RewardModel:
    """The reward model of these settings, from what is loaded; the teacher's tokenizer is the student's by default."""
    tags = STYLES[config.tags]
    return RewardModel(
        TeacherFormat(teacher_tokenizer or tokenizer, tags),
        StudentFormat(tokenizer, tags),
        student,
        config.reward,
        None if teacher is None else Scorer(teacher, config.scoring),
    )


def score_rows(model: RewardModel, rows: Sequence[Explanation], reader: Reader | None = None) -> list[Explanation]:
    """The rows with their scores, in order; one that cannot be scored says why in `unscored`.

    With a `reader` they are measured too, and say who read them.
    """
    drafts: dict[int, Draft] = {}
    reasons: dict[int, str] = {}
    for index, row in enumerate(rows):
        if row.error is not None:
            reasons[index] = "there is no explanation, see error"
            continue
        try:
            drafts[index] = draft_of(model, row)
        except ScoringError as error:
            reasons[index] = str(error)
    scores: dict[int, Score] = {}
    read: dict[int, tuple[Draft, Sighting]] = {}
    for (index, draft), seen in zip(drafts.items(), model.sightings(list(drafts.values())), strict=True):
        try:
            scores[index] = model.score(draft, seen)
            read[index] = draft, seen
        except ScoringError as error:
            reasons[index] = str(error)
    scored = [
        row.model_copy(update={"score": scores.get(index), "unscored": reasons.get(index)})
        for index, row in enumerate(rows)
    ]
    return scored if reader is None else _with_measures(model, scored, read, reader)


def _with_measures(
    model: RewardModel, rows: Sequence[Explanation], read: Mapping[int, tuple[Draft, Sighting]], reader: Reader
) -> list[Explanation]:
    byline = {"student": reader.student, "student_digest": reader.digest}
    found = measured(model, reader.measures, rows, read)
    return [row.model_copy(update={**byline, "measures": measures}) for row, measures in zip(rows, found, strict=True)]


def draft_of(model: RewardModel, row: Explanation) -> Draft:
    """What is scored of a row; raises ScoringError where the student, or the teacher, cannot read it."""
    ids = thought_ids(row, model.explanation_format)
    draft = Draft(row.question, row.solution, Explained(ids, row.explanation, row.closed, sampled_tokens=len(ids)))
    model.check(draft)
    return draft


def _write(
    file: RowFile,
    model: RewardModel,
    reader: Reader,
    rows: Sequence[Explanation],
    done: Sequence[dict[str, object]],
) -> list[Explanation]:
    scored = [Explanation.model_validate(row) for row in done]
    owed = iter(rows[len(scored) :])
    with tqdm(total=len(rows), initial=len(scored), desc=file.out.name, unit="row") as bar:
        while batch := list(islice(owed, ROWS_AT_A_TIME)):
            made = score_rows(model, batch, reader)
            file.append(made)
            scored.extend(made)
            bar.update(len(made))
    file.finish()
    return scored


def summary(out: Path, rows: Sequence[Explanation]) -> str:
    """What the closing line says: how many rows, means of the parts, and what was out of the ordinary."""
    scores = [row.score for row in rows if row.score is not None]
    notes = Counter(_kind(note) for score in scores for note in score.notes)
    missing = len(rows) - len(scores)
    parts = [
        f"{len(rows)} rows, {len(scores)} scored"
        + (f" ({missing} not: see unscored in their rows)" if missing else ""),
        f"reward {_mean(score.reward for score in scores)}",
        f"rSS {_mean(score.rss for score in scores)}",
        f"rKL {_mean(score.rkl for score in scores if score.rkl is not None)}",
        *_verified(rows),
        *(f"{count} with {note}" for note, count in notes.items()),
    ]
    return f"{out}: {', '.join(parts)}"


def _verified(rows: Sequence[Explanation]) -> list[str]:
    found = [row.measures.verified for row in rows if row.measures is not None and row.measures.verified is not None]
    return [f"verified {sum(found)} of {len(found)}"] if found else []


def _kind(note: str) -> str:
    return "a cut end" if note.startswith("cut by") else note


def _mean(values: Iterable[float]) -> str:
    listed = list(values)
    return f"{sum(listed) / len(listed):.3f}" if listed else "-"
