"""What is measured of explanations besides their reward, with the student that has just read them for it.

Each measure is a file of student/measures/; here they are asked in turn, by the settings. Left out: the reward.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from student.configs import MeasureSettings
from student.explanations import Explanation
from student.measures.gain import solution_gain
from student.measures.leaks import find_leaks, leak_score
from student.measures.repetition import repetition
from student.measures.results import Measures, Step
from student.measures.steps import credited, lowest_credit, steps
from student.reading import Passage
from teacher.reward_model import Draft, RewardModel, Sighting

TEMPERATURE = 1.0
"""At which solutions are read for the gain, whatever the reward's is."""
ROWS_AT_A_TIME = 64
"""Rows whose passages are held together: those of a row hold its explanation half as often as it has steps."""

Read = Mapping[int, tuple[Draft, Sighting]]
"""By its place each row that the student could read."""


@dataclass(frozen=True)
class Worth:
    """What an explanation is worth to the student, as a whole and step by step; nats a solution token."""

    gain: float
    steps: tuple[Step, ...]


def measured(
    model: RewardModel, settings: MeasureSettings, rows: Sequence[Explanation], read: Read
) -> list[Measures | None]:
    """The measures of each row, in order; None where there is no explanation.

    Of the rows that are not in `read` only what the text alone tells is measured.
    """
    worths = _worths(model, settings, read)
    return [
        None if row.error is not None else _measures(model, settings, row, read.get(place), worths.get(place))
        for place, row in enumerate(rows)
    ]


def _measures(
    model: RewardModel,
    settings: MeasureSettings,
    row: Explanation,
    read: tuple[Draft, Sighting] | None,
    worth: Worth | None,
) -> Measures:
    tokens = None if read is None or not settings.length else _tokens(read[1].passage)
    limit = model.student.max_tokens
    credited_steps = worth.steps if worth is not None and settings.step_credit else None
    leaks = (
        find_leaks(row.question, row.solution, row.answer, row.explanation, credited_steps) if settings.leak else None
    )
    return Measures(
        gain=worth.gain if worth is not None and settings.gain else None,
        step_credit=None if credited_steps is None else lowest_credit(credited_steps),
        leak=None if leaks is None else leak_score(leaks),
        repetition=repetition(row.explanation) if settings.repetition else None,
        tokens=tokens,
        context_share=None if tokens is None or limit is None else tokens / limit,
        leaks=leaks,
        steps=credited_steps,
    )


def _tokens(passage: Passage) -> int:
    return len(passage.input_ids) + passage.cut_tokens


def _worths(model: RewardModel, settings: MeasureSettings, read: Read) -> dict[int, Worth]:
    """What each place's explanation is worth; nothing where that is not asked for, or the student cannot tell."""
    if not (settings.gain or settings.step_credit) or not model.can_read_at(TEMPERATURE):
        return {}
    places = [place for place, (_, seen) in read.items() if seen.passage.solution]  # of no token there is no mean
    found: dict[int, Worth] = {}
    for start in range(0, len(places), ROWS_AT_A_TIME):
        found |= _worths_together(
            model, settings, {place: read[place] for place in places[start : start + ROWS_AT_A_TIME]}
        )
    return found


def _worths_together(model: RewardModel, settings: MeasureSettings, read: Read) -> dict[int, Worth]:
    pieces = {place: _pieces(draft.explained.text, settings) for place, (draft, _) in read.items()}
    readings = {place: model.readings(draft, pieces[place]) for place, (draft, _) in read.items()}
    solutions_S = iter(_solution_logps(model, [each for passages in readings.values() for each in passages], read))
    found = {}
    for place, passages in readings.items():
        logps_S = [next(solutions_S) for _ in passages]
        found[place] = Worth(solution_gain(logps_S[-1], logps_S[0]), credited(pieces[place], logps_S))
    return found


def _pieces(text: str, settings: MeasureSettings) -> Sequence[str]:
    """The steps, or all of the explanation as one."""
    return steps(text, settings.most_steps) if settings.step_credit else [text]


def _solution_logps(model: RewardModel, passages: Sequence[Passage], read: Read) -> Iterator[Tensor]:
    """log p of each passage's solution, shape (S,).

    What occurs several times is read once, as a problem without an explanation is; and what the reward has read at the
    same temperature, not again.
    """
    known: dict[tuple[int, ...], Tensor] = {}
    if model.config.temperature == TEMPERATURE:
        known = {_key(seen.passage): seen.logps.solution_S for _, seen in read.values()}
    keys = [_key(passage) for passage in passages]
    owed = {key: passage for key, passage in zip(keys, passages, strict=True) if key not in known}
    logps = model.student.logps(list(owed.values()), TEMPERATURE)
    known |= {key: each.solution_S for key, each in zip(owed, logps, strict=True)}
    return (known[key] for key in keys)


def _key(passage: Passage) -> tuple[int, ...]:
    """What tells passages apart of which only the solution is asked."""
    return (passage.solution.start, *passage.input_ids)
