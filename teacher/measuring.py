"""What is measured of explanations besides their reward, with the student that has just read them for it.

Each measure is a file of student/measures/; here they are asked in turn, by the settings. Left out: the reward.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice

from torch import Tensor

from student.configs import MeasureSettings
from student.explanations import Explanation
from student.grading import gold_answer
from student.measures.gain import solution_gain
from student.measures.leaks import find_leaks, leak_score
from student.measures.own_words import Answer, OwnWords
from student.measures.repetition import repetition
from student.measures.results import Leak, Measures, Step
from student.measures.steps import credited, lowest_credit, steps
from student.reading import Passage
from student.scoring.scorer import Scorer
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
    return _Measuring(model, settings).of(rows, read)


class _Measuring:
    def __init__(self, model: RewardModel, settings: MeasureSettings) -> None:
        self._model, self._settings = model, settings

    @cached_property
    def _own_words(self) -> OwnWords:
        student = self._model.student
        assert isinstance(student, Scorer), "the settings let no student on servers write (ScoreConfig)"
        return OwnWords(student, self._model.student_format, self._settings.own_tokens)

    def of(self, rows: Sequence[Explanation], read: Read) -> list[Measures | None]:
        worths, answers = self._worths(read), self._answers(rows, read)
        return [
            None if row.error is not None else self._measures(row, read.get(at), worths.get(at), answers.get(at))
            for at, row in enumerate(rows)
        ]

    def _measures(
        self, row: Explanation, read: tuple[Draft, Sighting] | None, worth: Worth | None, answer: Answer | None
    ) -> Measures:
        asked, limit = self._settings, self._model.student.max_tokens
        tokens = None if read is None or not asked.length else _tokens(read[1].passage)
        found = worth.steps if worth is not None and asked.step_credit else None
        leaks = self._leaks(row, found) if asked.leak else None
        return Measures(
            gain=worth.gain if worth is not None and asked.gain else None,
            step_credit=None if found is None else lowest_credit(found),
            leak=None if leaks is None else leak_score(leaks),
            repetition=repetition(row.explanation) if asked.repetition else None,
            tokens=tokens,
            context_share=None if tokens is None or limit is None else tokens / limit,
            verified=None if answer is None else answer.right,
            student_answer=None if answer is None else answer.text,
            leaks=leaks,
            steps=found,
        )

    def _leaks(self, row: Explanation, found: Sequence[Step] | None) -> tuple[Leak, ...]:
        """A student who finishes the thought itself may know the answer from the first step on: that is no jump."""
        closed = found if self._settings.step_thought == "closed" else None
        return find_leaks(row.question, row.solution, row.answer, row.explanation, closed)

    def _answers(self, rows: Sequence[Explanation], read: Read) -> dict[int, Answer]:
        if not self._settings.verified:
            return {}
        passages = [seen.passage for _, seen in read.values()]
        expected = [gold_answer(rows[place]) for place in read]
        return dict(zip(read, self._own_words.answers(passages, expected, self._settings.grading), strict=True))

    def _worths(self, read: Read) -> dict[int, Worth]:
        """What each explanation is worth; nothing where that is not asked for, or the student cannot tell."""
        asked = self._settings.gain or self._settings.step_credit
        if not asked or not self._model.can_read_at(TEMPERATURE):
            return {}
        places = [place for place, (_, seen) in read.items() if seen.passage.solution]  # of no token there is no mean
        found: dict[int, Worth] = {}
        for start in range(0, len(places), ROWS_AT_A_TIME):
            found |= self._worths_together({place: read[place] for place in places[start : start + ROWS_AT_A_TIME]})
        return found

    def _worths_together(self, read: Read) -> dict[int, Worth]:
        pieces = {place: self._pieces(draft.explained.text) for place, (draft, _) in read.items()}
        readings = self._finished([self._model.readings(draft, pieces[at]) for at, (draft, _) in read.items()])
        solutions_S = self._solution_logps(list(chain.from_iterable(readings)), read)
        found = {}
        for place, passages in zip(read, readings, strict=True):
            logps_S = list(islice(solutions_S, len(passages)))
            found[place] = Worth(solution_gain(logps_S[-1], logps_S[0]), credited(pieces[place], logps_S))
        return found

    def _pieces(self, text: str) -> Sequence[str]:
        """The steps, or all of the explanation as one."""
        return steps(text, self._settings.most_steps) if self._settings.step_credit else [text]

    def _finished(self, readings: Sequence[Sequence[Passage]]) -> Sequence[Sequence[Passage]]:
        """The same readings, with the thought finished by the student in those between the first and the last of each
        row, where that is asked for."""
        if not self._settings.step_credit or self._settings.step_thought == "closed":
            return readings
        between = [passage for passages in readings for passage in passages[1:-1]]
        thoughts, limit = self._own_words.thoughts(between), self._model.student.max_tokens
        finished = iter([passage.thought_on(more, limit) for passage, more in zip(between, thoughts, strict=True)])
        return [[*passages[:1], *islice(finished, len(passages[1:-1])), *passages[1:][-1:]] for passages in readings]

    def _solution_logps(self, passages: Sequence[Passage], read: Read) -> Iterator[Tensor]:
        """log p of each passage's solution, shape (S,).

        What occurs several times is read once, as a problem without an explanation is; and what the reward has read at
        the same temperature, not again.
        """
        known: dict[tuple[int, ...], Tensor] = {}
        if self._model.config.temperature == TEMPERATURE:
            known = {_key(seen.passage): seen.logps.solution_S for _, seen in read.values()}
        keys = [_key(passage) for passage in passages]
        owed = {key: passage for key, passage in zip(keys, passages, strict=True) if key not in known}
        logps = self._model.student.logps(list(owed.values()), TEMPERATURE)
        known |= {key: each.solution_S for key, each in zip(owed, logps, strict=True)}
        return (known[key] for key in keys)


def _tokens(passage: Passage) -> int:
    return len(passage.input_ids) + passage.cut_tokens


def _key(passage: Passage) -> tuple[int, ...]:
    """What tells passages apart of which only the solution is asked."""
    return (passage.solution.start, *passage.input_ids)
