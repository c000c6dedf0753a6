"""What a score says, in words for people who do not know its formulas; numbers and names stay those of the API."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from server.wire import ScoreResponse, TokenScore
from student.measures.results import Measures

LEAK_BOUND = 0.4
"""Above it a passage is said to give the solution away (docs/leaks.md)."""
LITTLE_GAIN = 0.05
"""Nats a token, up to which an explanation is said to change nothing."""
SHOWN_CHARACTERS = 40

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
    found = [_understood(answer), _plausible(answer)]
    if answer.measures is not None:
        found.append(_leak(answer.measures))
        if answer.measures.repetition is not None:
            said = "The share of four-word phrases that were said before; near 0 there are no loops."
            found.append(Finding("repetition", f"{answer.measures.repetition:.0%}", "none", said))
    return found


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
    light: Light = "good" if gain > LITTLE_GAIN else "bad" if gain < -LITTLE_GAIN else "warn"
    return Finding("rSS", f"{answer.score.rss:.3f}", light, said)


def _mean_chance(tokens: Sequence[TokenScore], name: Literal["logp", "blind_logp"]) -> float:
    values = [value for token in tokens if (value := getattr(token, name)) is not None]
    return math.exp(sum(values) / len(values)) if values else 0.0


def _plausible(answer: ScoreResponse) -> Finding:
    score = answer.score
    if score.rkl is None:
        return Finding("rKL", "–", "none", "Not measured: the student has no teacher beside it to compare with.")
    known = [token for token in answer.explanation_tokens or [] if token.kl is not None]
    said = "To one who does not know the solution, what is written next comes as a surprise of"
    said += f" {score.kl_mean:.2f} nats a token on average"
    said += " (below 0: likelier to the student than to the teacher)." if (score.kl_mean or 0.0) < 0 else "."
    if known:
        worst = max(known, key=lambda token: token.kl or 0.0)
        said += f" The largest leap is {shown(worst.text)}, {worst.kl:.2f} nats."
    return Finding("rKL", f"{score.rkl:.3f}", "none", said)


def _leak(measures: Measures) -> Finding:
    if measures.leak is None:
        return Finding("leak", "–", "none", "Not measured.")
    if measures.leak > LEAK_BOUND:
        kinds = ", ".join(dict.fromkeys(leak.kind for leak in measures.leaks or () if leak.score > LEAK_BOUND))
        said = f"It gives the solution away instead of deriving it ({kinds}); the passages are underlined."
        return Finding("leak", f"{measures.leak:.2f}", "bad", said)
    return Finding("leak", f"{measures.leak:.2f}", "good", f"No passage gives the solution away (above {LEAK_BOUND}).")


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
