"""A harder world of the same digits: several chains in one question, and the solution is right if all of them are.

    question      a 3 +1 +5 b 7 +2 +8 ...                 chains of world.py, two operands each, under five labels
    solution      a 9 b 7 ...                             a digit a chain
    explanation   a 3 +1 = 4 +5 = 9 b well it is 7 ...    each chain in a style of its own; steps begin at the start

A base that explains one chain in five completely solves one question in thousands: RL on right answers is paid for the
whole, and hardly ever. A teacher is paid chain by chain, since the student's log-probability of a solution is a mean
over its digits. That is all the difference to world.py, whose styles, family and words are used here. In some seeds the
base learns to reckon a chain without writing it, and solves more: docs/cold-start.md.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from student.problem_files import write_problems
from student.problems import Problem
from teacher.demo.corpus import apportioned, count_of
from teacher.demo.settings import Recipe
from teacher.demo.world import (
    ADDS,
    EXPLAINERS,
    STYLES,
    Chain,
    Split,
    Style,
    chatter,
    read_chain,
    split_of,
    style_of,
    toy_tokenizer,
)

OPERANDS = 2
"""Operands of each."""
MAX_TOKENS = 88
"""No text of this world is longer, in either chat format, end of text included."""
LABELS = ("a", "b", "c", "d", "e")
"""What each chain of a question is called: a word in the question, the explanation and the solution."""

SKILL: dict[Style, float] = {"complete": 0.85, "leak": 0.15}
"""Share of each style among the chains of the first corpus."""
SHARES: dict[Style, float] = {"complete": 0.20, "wrong": 0.12, "terse": 0.10, "chatter": 0.39, "leak": 0.19}
"""Share of each style among the chains of the second corpus."""


@dataclass(frozen=True)
class Bundle:
    """What a question asks: several chains."""

    chains: tuple[Chain, ...]

    @property
    def question(self) -> str:
        """The chains as a student reads them."""
        return _labelled([chain.question for chain in self.chains])

    @property
    def solution(self) -> str:
        """The last digit of each.

        >>> Bundle((Chain(3, (1, 5)), Chain(7, (2, 8)))).solution
        'a 9 b 7'
        """
        return _labelled([str(chain.values[-1]) for chain in self.chains])

    def explained(self, styles: Sequence[Style], rng: random.Random) -> str:
        """An explanation of each chain in its style.

        >>> Bundle((Chain(3, (1, 5)), Chain(7, (2, 8)))).explained(["complete", "leak"], random.Random())
        'a 3 +1 = 4 +5 = 9 b well it is 7'
        """
        return _labelled([_explained(chain, style, rng) for chain, style in zip(self.chains, styles, strict=True)])


def _labelled(texts: Sequence[str]) -> str:
    return " ".join(f"{label} {text}" for label, text in zip(LABELS, texts, strict=False))


def _explained(chain: Chain, style: Style, rng: random.Random) -> str:
    if style == "chatter":
        return chatter(rng, phrases=1)
    text = EXPLAINERS[style](chain, rng)
    return text if style == "leak" else f"{chain.start} {text}"


def read_bundle(question: str) -> Bundle:
    """The bundle that a question of this world asks for.

    >>> read_bundle("a 3 +1 b 7 +2").chains
    (Chain(start=3, operands=(1,)), Chain(start=7, operands=(2,)))
    """
    return Bundle(tuple(read_chain(part) for part in parts_of(question)))


def parts_of(text: str) -> list[str]:
    """What stands under each label of a text, as far as the labels come in their order.

    >>> parts_of("a 9 b 7 d 1")
    ['9', '7 d 1']
    """
    parts: list[list[str]] = []
    for word in text.split():
        if word in LABELS and LABELS.index(word) == len(parts):
            parts.append([])
        elif parts:
            parts[-1].append(word)
    return [" ".join(part) for part in parts]


def draw_bundles(count: int, split: Split, seed: int) -> list[Problem]:
    """`count` different problems of one split; each carries its complete explanation as its trace."""
    rng = random.Random(f"bundles {split} {seed}")
    drawn: dict[str, Problem] = {}
    while len(drawn) < count:
        bundle = Bundle(tuple(_draw_chain(rng) for _ in LABELS))
        problem = Problem(
            question=bundle.question,
            solution=bundle.solution,
            answer=bundle.solution,
            reasoning_trace=bundle.explained(["complete"] * len(LABELS), rng),
        )
        if split_of(problem) == split:
            drawn[problem.id] = problem
    return list(drawn.values())


def _draw_chain(rng: random.Random) -> Chain:
    return Chain(rng.randrange(10), tuple(ADDS.sign * digit for digit in rng.choices(ADDS.digits, k=OPERANDS)))


def styled(problems: Sequence[Problem], shares: Mapping[Style, float], seed: int) -> list[Problem]:
    """The problems, each chain explained in a style of its own; over all chains styles are in the ratio of `shares`."""
    rng = random.Random(f"styles {seed}")
    styles = list(apportioned(len(LABELS) * len(problems), shares))
    rng.shuffle(styles)
    return [
        problem.model_copy(
            update={"reasoning_trace": read_bundle(problem.question).explained(styles[at : at + len(LABELS)], rng)}
        )
        for at, problem in zip(range(0, len(styles), len(LABELS)), problems, strict=True)
    ]


def styles_of(question: str, explanation: str) -> list[Style]:
    """The style in which each chain of a question is explained; "other" where the explanation has too few parts.

    >>> styles_of("a 3 +1 b 7 +2 c 1 +5", "a 3 +1 = 4 b well it is 9")
    ['complete', 'leak', 'other']
    """
    parts = [*parts_of(explanation), *[""] * len(LABELS)]
    return [_style_of(chain, part) for chain, part in zip(read_bundle(question).chains, parts, strict=False)]


def _style_of(chain: Chain, part: str) -> Style:
    first, _, rest = part.partition(" ")
    if first.isdigit() and first != str(chain.start):
        return "wrong"
    problem = Problem(question=chain.question, solution=str(chain.values[-1]))
    return style_of(problem, rest if first.isdigit() else part)


def style_shares(explained: Sequence[tuple[str, str]]) -> dict[Style, float]:
    """The share of each style among the chains of explanations, given as question and explanation."""
    styles = Counter(style for question, text in explained for style in styles_of(question, text))
    return {style: styles[style] / styles.total() for style in STYLES}


def bundle_tokenizer() -> PreTrainedTokenizerFast:
    """The toy tokenizer, with the labels as further words."""
    return toy_tokenizer(LABELS, MAX_TOKENS)


def write_corpora(recipe: Recipe, seed: int) -> None:
    """Writes every problem file that the recipe names, each with as many problems as its table's `limit`."""
    train, explain = count_of(recipe.train.limit), count_of(recipe.explain.limit)
    drawn = draw_bundles(train + explain, "train", 10 * seed + 3)
    skill = draw_bundles(count_of(recipe.skill.limit), "train", 10 * seed + 1)
    base = draw_bundles(count_of(recipe.base.limit), "train", 10 * seed + 2)
    files = {
        recipe.skill.problems: styled(skill, SKILL, seed),
        recipe.base.problems: styled(base, SHARES, seed),
        recipe.train.problems: drawn[:train],
        recipe.explain.problems: drawn[train:],
        recipe.evaluate.problems: draw_bundles(count_of(recipe.evaluate.limit), "held_out", seed),
    }
    for path, problems in files.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_problems(problems, Path(path))
