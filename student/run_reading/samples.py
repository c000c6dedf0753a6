"""samples.jsonl as explanations by step and problem. A problem is known by its content, as everywhere."""

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from student.problems import content_id
from student.run_reading.lines import json_object, number, shown

MOST_PROBLEMS = 500
MOST_STEPS = 2000
MOST_SAMPLES = 40
LONGEST_EXPLANATION = 200_000
LONGEST_TITLE = 200


class Sample(BaseModel):
    """An explanation that was sampled during RL."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    step: int
    problem: str
    """The problem's id."""
    held_out: bool
    """The problem is not trained on; it comes again at every checkpoint."""
    question: str
    solution: str
    explanation: str
    closed: bool
    """The end tag was reached."""
    tokens: int | None
    reward: float | None
    rss: float | None
    rkl: float | None


class SampledProblem(BaseModel):
    """A problem of which there are explanations."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    id: str
    question: str
    """Its beginning."""
    held_out: bool
    steps: tuple[int, ...]


class Samples(BaseModel):
    """What was kept of what a run sampled."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    steps: tuple[int, ...]
    """All steps of which there is something."""
    problems: tuple[SampledProblem, ...]
    """All problems, in the order in which they came."""
    data: tuple[Sample, ...]
    """The explanations that were asked for; none where neither steps nor a problem were."""
    more: bool
    """There are more than are listed here."""


def read_samples(lines: Iterable[bytes], steps: Sequence[int] = (), problem: str | None = None) -> Samples:
    """All steps and problems, and the explanations of these steps (all, if none is given) and this problem."""
    found: dict[str, tuple[str, bool, set[int]]] = {}
    data: list[Sample] = []
    more, asked = False, bool(steps) or problem is not None
    for sample in filter(None, map(_sample, lines)):
        known = found.get(sample.problem)
        if known is None and len(found) == MOST_PROBLEMS:
            more = True
            continue
        title = shown(sample.question, LONGEST_TITLE)
        found.setdefault(sample.problem, (title, sample.held_out, set()))[2].add(sample.step)
        if asked and (not steps or sample.step in steps) and problem in (None, sample.problem):
            more |= len(data) == MOST_SAMPLES
            data += [sample] if len(data) < MOST_SAMPLES else []
    all_steps = sorted({step for _, _, steps_of in found.values() for step in steps_of})
    return Samples(
        steps=tuple(all_steps[-MOST_STEPS:]),
        problems=tuple(
            SampledProblem(id=known, question=title, held_out=held_out, steps=tuple(sorted(steps_of)))
            for known, (title, held_out, steps_of) in found.items()
        ),
        data=tuple(data),
        more=more or len(all_steps) > MOST_STEPS,
    )


def _sample(line: bytes) -> Sample | None:
    """A line as a sample; None where it is none."""
    entry = json_object(line) or {}
    step, question, text = number(entry.get("step")), entry.get("question"), entry.get("explanation")
    if step is None or not isinstance(question, str) or not isinstance(text, str):
        return None
    solution, score, tokens = entry.get("solution"), entry.get("score"), number(entry.get("tokens"))
    parts: dict[str, Any] = score if isinstance(score, dict) else {}
    return Sample(
        step=int(step),
        problem=content_id(question, solution if isinstance(solution, str) else ""),
        held_out=entry.get("held_out") is True,
        question=shown(question, LONGEST_EXPLANATION),
        solution=shown(solution, LONGEST_EXPLANATION),
        explanation=shown(text, LONGEST_EXPLANATION),
        closed=entry.get("closed") is True,
        tokens=None if tokens is None else int(tokens),
        reward=number(parts.get("reward")),
        rss=number(parts.get("rss")),
        rkl=number(parts.get("rkl")),
    )
