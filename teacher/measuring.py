"""What is measured of explanations besides their reward, with the student that has just read them for it.

Each measure is a file of student/measures/; here they are asked in turn, by the settings. Left out: the reward.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from student.configs import MeasureSettings
from student.explanations import Explanation
from student.measures.gain import solution_gain
from student.measures.leaks import find_leaks, leak_score
from student.measures.repetition import repetition
from student.measures.results import Measures
from student.reading import Passage
from teacher.reward_model import Draft, RewardModel, Sighting

TEMPERATURE = 1.0
"""At which solutions are read for the gain, whatever the reward's is."""


def measured(
    model: RewardModel,
    settings: MeasureSettings,
    rows: Sequence[Explanation],
    read: Mapping[int, tuple[Draft, Sighting]],
) -> list[Measures | None]:
    """The measures of each row, in order; None where there is no explanation.

    `read` holds by its place each row that the student could read; of the others only what the text alone tells is
    measured.
    """
    gains = _gains(model, read) if settings.gain and model.can_read_at(TEMPERATURE) else {}
    return [
        None if row.error is not None else _measures(model, settings, row, read.get(place), gains.get(place))
        for place, row in enumerate(rows)
    ]


def _measures(
    model: RewardModel,
    settings: MeasureSettings,
    row: Explanation,
    read: tuple[Draft, Sighting] | None,
    gain: float | None,
) -> Measures:
    tokens = None if read is None or not settings.length else _tokens(read[1].passage)
    limit = model.student.max_tokens
    leaks = find_leaks(row.question, row.solution, row.answer, row.explanation) if settings.leak else None
    return Measures(
        gain=gain,
        leak=None if leaks is None else leak_score(leaks),
        repetition=repetition(row.explanation) if settings.repetition else None,
        tokens=tokens,
        context_share=None if tokens is None or limit is None else tokens / limit,
        leaks=leaks,
    )


def _tokens(passage: Passage) -> int:
    return len(passage.input_ids) + passage.cut_tokens


def _gains(model: RewardModel, read: Mapping[int, tuple[Draft, Sighting]]) -> dict[int, float]:
    """The gain of each place; a problem is read without an explanation once, however many it has."""
    problems = {place: (draft.question, draft.solution) for place, (draft, _) in read.items()}
    first = {problem: place for place, problem in reversed(problems.items())}
    blind = [model.passage(read[place][0].blind()) for place in first.values()]
    blind_S = dict(zip(first, solution_logps(model, blind), strict=True))
    informed_S = dict(zip(read, _informed(model, [seen for _, seen in read.values()]), strict=True))
    return {place: solution_gain(informed_S[place], blind_S[problem]) for place, problem in problems.items()}


def _informed(model: RewardModel, seen: Sequence[Sighting]) -> list[Tensor]:
    """log p of each solution after its explanation: the reward's own where that is at the same temperature."""
    if model.config.temperature == TEMPERATURE:
        return [each.logps.solution_S for each in seen]
    return solution_logps(model, [each.passage for each in seen])


def solution_logps(model: RewardModel, passages: Sequence[Passage]) -> list[Tensor]:
    """log p of each passage's solution, shape (S,); the explanation's tokens are read and not asked about."""
    asked = [replace(passage, explanation=range(0)) for passage in passages]
    return [logps.solution_S for logps in model.student.logps(asked, TEMPERATURE)]
