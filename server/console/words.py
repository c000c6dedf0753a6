"""What a score says, in words for people who do not know its formulas; numbers and names stay those of the API."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from server.wire import ScoreResponse, TokenScore
from student.explanations import Explanation, Score
from student.measures.results import Measure, Measures

LEAK_BOUND = 0.4
"""Above it a passage is said to give the solution away (docs/leaks.md)."""
LITTLE_GAIN = 0.05
"""Nats a token, up to which an explanation is said to change nothing."""
SHOWN_CHARACTERS = 40
MEASURE_NAMES: dict[Measure, str] = {
    "reward": "reward",
    "rss": "rSS",
    "rkl": "rKL",
    "gain": "gain",
    "step_credit": "lowest step credit",
    "leak": "leak",
    "repetition": "repetition",
    "tokens": "tokens",
    "context_share": "context share",
    "verified": "verified",
}
"""What people call them."""

Light = Literal["good", "warn", "bad", "none"]


@dataclass(frozen=True)
class Finding:
    """One thing that a score says."""

    name: str
    value: str
    light: Light
    said: str


def findings(answer: ScoreResponse) -> list[Finding]:
    """What the student understood, how plausible the explanation was to it, and whether the solution is given away."""
    return [_understood(answer), _plausible(answer), *_of_the_text(answer.measures)]


def row_findings(row: Explanation) -> list[Finding]:
    """The same of a row, as far as it says so itself: it keeps no values of single tokens."""
    found = [] if row.score is None else [_scored(row.score, row.measures), _surprise(row.score)]
    return [*found, *_of_the_text(row.measures), *_of_the_reader(row.measures)]


def _of_the_text(measures: Measures | None) -> Iterator[Finding]:
    if measures is None:
        return
    yield _leak(measures)
    if measures.repetition is not None:
        said = "The share of four-word phrases that were said before; near 0 there are no loops."
        yield Finding("repetition", f"{measures.repetition:.0%}", "none", said)


def _of_the_reader(measures: Measures | None) -> Iterator[Finding]:
    if measures is None:
        return
    if measures.gain is not None:
        said = f"With it each token of the solution is {math.exp(measures.gain):.3g} times as likely, on the "
        yield Finding("gain", figure(measures.gain), _gain_light(measures.gain), said + "geometric mean.")
    if measures.verified is not None:
        answered = "nothing" if measures.student_answer is None else shown(measures.student_answer)
        said = f"Once it had read this, the student answered {answered}."
        light: Light = "good" if measures.verified else "bad"
        yield Finding("verified", "right" if measures.verified else "wrong", light, said)
    if measures.tokens is not None:
        share = "" if measures.context_share is None else f", {percent(measures.context_share)} of what it can"
        yield Finding("tokens", f"{measures.tokens:,}", "none", f"The student reads so many for the whole row{share}.")


def _scored(score: Score, measures: Measures | None) -> Finding:
    said = (
        f"After this explanation the student gives each token of the solution {percent(math.exp(score.ss_mean))} on "
        f"the geometric mean, the least expected one {percent(math.exp(score.ss_min))}."
    )
    gain = None if measures is None else measures.gain
    return Finding("rSS", figure(score.rss), "none" if gain is None else _gain_light(gain), said)


def _gain_light(gain: float) -> Light:
    return "good" if gain > LITTLE_GAIN else "bad" if gain < -LITTLE_GAIN else "warn"


def _understood(answer: ScoreResponse) -> Finding:
    tokens = answer.solution_tokens or []
    informed, blind = _mean_chance(tokens, "logp"), _mean_chance(tokens, "blind_logp")
    least = min(tokens, key=lambda token: token.logp)
    gain = math.log(informed / blind) if informed and blind else 0.0
    said = (
        f"After this explanation the student gives each token of the solution {percent(informed)} on the geometric "
        f"mean, without it {percent(blind)}. The least expected one is {shown(least.text)} with "
        f"{percent(math.exp(least.logp))}."
    )
    return Finding("rSS", f"{answer.score.rss:.3f}", _gain_light(gain), said)


def _mean_chance(tokens: Sequence[TokenScore], name: Literal["logp", "blind_logp"]) -> float:
    values = [value for token in tokens if (value := getattr(token, name)) is not None]
    return math.exp(sum(values) / len(values)) if values else 0.0


def _plausible(answer: ScoreResponse) -> Finding:
    found = _surprise(answer.score)
    known = [token for token in answer.explanation_tokens or [] if token.kl is not None]
    if not known or answer.score.rkl is None:
        return found
    worst = max(known, key=lambda token: token.kl or 0.0)
    return replace(found, said=f"{found.said} The largest leap is {shown(worst.text)}, {worst.kl:.2f} nats.")


def _surprise(score: Score) -> Finding:
    if score.rkl is None:
        return Finding("rKL", "–", "none", "Not measured: the student has no teacher beside it to compare with.")
    said = "To one who does not know the solution, what is written next comes as a surprise of"
    said += f" {score.kl_mean:.2f} nats a token on average"
    said += " (below 0: likelier to the student than to the teacher)." if (score.kl_mean or 0.0) < 0 else "."
    return Finding("rKL", f"{score.rkl:.3f}", "none", said)


def _leak(measures: Measures) -> Finding:
    if measures.leak is None:
        return Finding("leak", "–", "none", "Not measured.")
    if measures.leak > LEAK_BOUND:
        kinds = ", ".join(dict.fromkeys(leak.kind for leak in measures.leaks or () if leak.score > LEAK_BOUND))
        said = f"It gives the solution away instead of deriving it ({kinds}); in the student’s view it is "
        said += "underlined."
        return Finding("leak", f"{measures.leak:.2f}", "bad", said)
    return Finding("leak", f"{measures.leak:.2f}", "good", f"No passage gives the solution away (above {LEAK_BOUND}).")


def figure(value: float | None, measure: Measure | None = None) -> str:
    """A measure for people, to four digits.

    >>> [figure(value) for value in (-1.23456, 0.000123, 12345.6, None)]
    ['−1.235', '0.000123', '12,346', '–']
    >>> figure(1.0, "verified"), figure(1234.4, "tokens")
    ('yes', '1,234')
    """
    if value is None:
        return "–"
    if measure == "verified" and value in (0, 1):
        return "yes" if value else "no"
    whole = measure == "tokens" or abs(value) >= 10_000
    return (f"{value:,.0f}" if whole else f"{value:.4g}").replace("-", "−")


def percent(chance: float) -> str:
    """A probability for people.

    >>> [percent(chance) for chance in (0.987, 0.0123, 0.00001)]
    ['99 %', '1.2 %', 'less than 0.1 %']
    """
    if chance < 0.001:
        return "less than 0.1 %"
    return f"{chance * 100:.0f} %" if chance >= 0.1 else f"{chance * 100:.1f} %"


def shown(text: str) -> str:
    """A token for people, its white space seen.

    >>> shown(" seven\\n")
    '“␣seven↵”'
    """
    seen = text.replace(" ", "␣").replace("\n", "↵").replace("\t", "⇥")
    return f"“{seen if len(seen) <= SHOWN_CHARACTERS else seen[:SHOWN_CHARACTERS] + '…'}”"
