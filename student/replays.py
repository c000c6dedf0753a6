"""Whether a row that was made again is the same, where it is not the first difference, and what may have caused it.

Equal means equal tokens, text and end. Causes are read off the two rows themselves: each says which weights, prompts
and versions made it (provenance.py). Left out: scores, which another student may have made.
"""

from collections.abc import Iterator, Sequence
from itertools import takewhile

from pydantic import BaseModel, ConfigDict

from student.errors import ConfigError
from student.explanations import Explanation
from student.problems import content_id
from student.tags import TagStyle

AROUND = 30
"""Characters shown on either side of a difference."""
NOTHING_NAMED = (
    "nothing that the row names has changed: another processor or device, another number of threads, or on a GPU the "
    "rows that were sampled beside it"
)


class How(BaseModel):
    """How a row was sampled, by which it can be sampled again."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    seed: int
    temperature: float
    tags: TagStyle
    engine: str
    top_p: float
    max_tokens: int
    token_ids: tuple[int, ...]


def how_sampled(row: Explanation) -> How:
    """What the row says of it; raises ConfigError where it has nothing to make again, or does not say enough."""
    if row.error is not None:
        raise ConfigError(f"row {row.id!r} holds no explanation to make again, only why there is none: {row.error}")
    said = dict(row) | (dict(row.provenance) if row.provenance is not None else {})
    missing = [name for name in How.model_fields if said.get(name) is None]
    if missing:
        raise ConfigError(
            f"row {row.id!r} does not say how it was sampled (no {', '.join(missing)}), so it cannot be made again; "
            "rows of `rlt explain` and of a service's datasets do"
        )
    return How.model_validate(said)


class Difference(BaseModel):
    """Where two explanations part."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    token: int
    """Place of the first token that differs, from 0; the end of the shorter one where it begins the other."""
    character: int
    """Place of the first character that differs, from 0; the end of the text where only tokens differ."""
    then: str
    """The row's text around it."""
    now: str
    """The text around it that was made again."""


class Replay(BaseModel):
    """A row beside the same row made again."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    row: str
    """Its id."""
    matches: bool
    """The same tokens, the same text, and both reached the end tag or neither."""
    tokens: int
    """Of the row."""
    tokens_now: int
    closed: bool
    """The row reached its end tag."""
    closed_now: bool
    difference: Difference | None = None
    """Null where it matches, and where only the end tag differs."""
    causes: tuple[str, ...] = ()
    """What the row says of its making that is different now; told also where it matches all the same."""


def compared(then: Explanation, now: Explanation) -> Replay:
    """The two beside each other; `now` was made from what `then` says of itself."""
    difference = difference_of(then, now)
    matches = difference is None and then.closed == now.closed
    causes = tuple(changes(then, now))
    return Replay(
        row=then.id,
        matches=matches,
        tokens=len(then.token_ids or ()),
        tokens_now=len(now.token_ids or ()),
        closed=then.closed,
        closed_now=now.closed,
        difference=difference,
        causes=causes if matches or causes else (NOTHING_NAMED,),
    )


def difference_of(then: Explanation, now: Explanation) -> Difference | None:
    """Where text or tokens part; None where they do not."""
    if (then.token_ids, then.explanation) == (now.token_ids, now.explanation):
        return None
    character = _common(then.explanation, now.explanation)
    shown = slice(max(0, character - AROUND), character + AROUND)
    return Difference(
        token=_common(then.token_ids or (), now.token_ids or ()),
        character=character,
        then=then.explanation[shown],
        now=now.explanation[shown],
    )


def _common(then: Sequence[object], now: Sequence[object]) -> int:
    """How much both begin with.

    >>> _common("she has 7", "she has 8"), _common((1, 2), (1, 2, 3))
    (8, 2)
    """
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(then, now, strict=False)))


def changes(then: Explanation, now: Explanation) -> Iterator[str]:
    """What made the one and not the other, as far as the rows say; the likeliest first."""
    if content_id(then.question, then.solution) != then.problem_id:
        yield "problem: question or solution was changed since, the row's problem_id is of other text"
    yield from _change("weights", then.teacher_digest, now.teacher_digest)
    before, after = then.provenance, now.provenance
    if before is None or after is None:
        return
    yield from _change("prompt", before.prompt_digest, after.prompt_digest)
    yield from _change("engine", before.engine, after.engine)
    yield from _change("precision", before.precision, after.precision)
    versions = _versions(after.software)
    for package, version in _versions(before.software).items():
        yield from _change(package, version, versions.get(package))


def _change(name: str, then: str | None, now: str | None) -> Iterator[str]:
    if then is not None and now is not None and then != now:
        yield f"{name}: {then} then, {now} now"


def _versions(software: str | None) -> dict[str, str]:
    """The versions by name.

    >>> _versions("torch 2.13.0, vllm 0.31.0")
    {'torch': '2.13.0', 'vllm': '0.31.0'}
    """
    pairs = (each.rpartition(" ") for each in (software or "").split(", ") if each)
    return {name: version for name, _, version in pairs}
