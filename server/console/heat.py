"""The student's view of an explanation as rows and cells to be painted: what POST /v1/scores says, cut where it shows.

A row is a step, with what it is worth to the student; a cell is a token, or a part of one that lies in two steps. Cells
joined are the text, to the character. A cell's class says its shade, which is fixed by its value and not by its
neighbours, so that two explanations can be compared; its values stand beside it as they came.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from server.wire import ScoreResponse, TokenScore
from student.measures.results import Leak

LOGP_BOUNDS = (-0.1, -0.5, -1.0, -2.0, -4.0, -7.0)
"""Below each a log-probability is a shade stronger."""
KL_BOUNDS = (0.05, 0.2, 0.5, 1.0, 2.0, 4.0)
GAIN_BOUNDS = (0.05, 0.2, 0.5, 1.0, 2.0, 4.0)
"""Above each a KL, or a gain or loss, is a shade stronger."""
CREDIT_BOUNDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0)
"""Of steps, whose credits add up to the gain of a whole explanation."""


@dataclass(frozen=True)
class Cell:
    """A token of the text, or the part of one that lies in this row."""

    text: str
    shades: str
    """Its classes."""
    values: str
    """Id, then what is known of it, "-" where nothing is: of the explanation log p, the teacher's, KL; of the solution
    log p, the one without the explanation, gain."""


@dataclass(frozen=True)
class Row:
    """A step."""

    cells: list[Cell]
    credit: float | None
    shade: str
    bar: float
    """The credit as a share of the largest one in the view, without its sign."""


@dataclass(frozen=True)
class _Span:
    start: int
    stop: int
    credit: float | None = None


def explanation_rows(text: str, answer: ScoreResponse) -> list[Row]:
    """The explanation, step by step; its end, where the student could not read it, is a cell without values."""
    spans = _spans(text, answer)
    leaks = answer.measures.leaks or () if answer.measures is not None else ()
    tokens = answer.explanation_tokens or []
    begins = [token.start for token in tokens]
    largest = max((abs(span.credit) for span in spans if span.credit is not None), default=0.0)
    return [
        Row(
            list(_cells(text, span, tokens, begins, leaks)),
            span.credit,
            _signed(span.credit, CREDIT_BOUNDS),
            abs(span.credit) / largest if span.credit is not None and largest else 0.0,
        )
        for span in spans
    ]


def solution_cells(answer: ScoreResponse) -> list[Cell]:
    """The solution's tokens, each with and without the explanation."""
    return [
        Cell(
            token.text,
            f"l{_level(-token.logp, _negated(LOGP_BOUNDS))} b{_blind_level(token)} {_signed(token.gain, GAIN_BOUNDS)}",
            _values(token.id, token.logp, token.blind_logp, token.gain),
        )
        for token in answer.solution_tokens or []
    ]


def _spans(text: str, answer: ScoreResponse) -> list[_Span]:
    """The steps, with their credits where they were measured."""
    if answer.measures is not None and answer.measures.steps:
        return [_Span(step.start, step.stop, step.credit) for step in answer.measures.steps]
    steps = answer.steps or []
    return [_Span(step.start, step.start + len(step.text)) for step in steps] or [_Span(0, len(text))]


def _cells(
    text: str, span: _Span, tokens: Sequence[TokenScore], begins: Sequence[int], leaks: Sequence[Leak]
) -> Iterator[Cell]:
    """The part of each token that lies in the span; what lies behind the last token was not read."""
    read = tokens[-1].start + len(tokens[-1].text) if tokens else 0
    place = max(0, bisect_left(begins, span.start) - 1)
    while place < len(tokens) and begins[place] < span.stop:
        token = tokens[place]
        start, stop = max(span.start, token.start), min(span.stop, token.start + len(token.text))
        if start < stop or (start == stop == token.start and not token.text):
            yield _explained(token, text[start:stop], _leaks_at(start, stop, leaks))
        place += 1
    if read < span.stop:
        yield Cell(text[max(read, span.start) : span.stop], "unread", "")


def _explained(token: TokenScore, text: str, leaks: bool) -> Cell:
    shades = f"l{_level(-token.logp, _negated(LOGP_BOUNDS))}"
    if token.kl is not None:
        shades += f" k{_level(token.kl, KL_BOUNDS)}"
    return Cell(text, shades + " leak" * leaks, _values(token.id, token.logp, token.teacher_logp, token.kl))


def _leaks_at(start: int, stop: int, leaks: Sequence[Leak]) -> bool:
    return any(leak.start < stop and start < leak.stop for leak in leaks)


def _blind_level(token: TokenScore) -> int:
    return 0 if token.blind_logp is None else _level(-token.blind_logp, _negated(LOGP_BOUNDS))


def _level(value: float, bounds: Sequence[float]) -> int:
    """How many of the rising bounds a value exceeds.

    >>> [_level(value, KL_BOUNDS) for value in (-0.1, 0.0, 0.1, 100.0)]
    [0, 0, 1, 6]
    """
    assert all(low < high for low, high in pairwise(bounds))
    return sum(value > bound for bound in bounds)


def _negated(bounds: Sequence[float]) -> list[float]:
    return [-bound for bound in bounds]


def _signed(value: float | None, bounds: Sequence[float]) -> str:
    """The class of a gain (p) or a loss (m), by its size.

    >>> _signed(0.3, GAIN_BOUNDS), _signed(-9.0, GAIN_BOUNDS), _signed(0.0, GAIN_BOUNDS), _signed(None, GAIN_BOUNDS)
    ('p2', 'm6', 'p0', 'p0')
    """
    if value is None:
        return "p0"
    return f"{'m' if value < 0 else 'p'}{_level(abs(value), bounds)}"


def _values(token: int, *values: float | None) -> str:
    return " ".join([str(token), *("-" if value is None else repr(value) for value in values)])
