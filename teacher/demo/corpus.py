"""The problems of one seed: what the base model is warmed up on, what is trained on and explained, what is held out.

    skill      half adding, half subtracting, styles mixed by SKILL: nearly all complete
    styles     the same families, styles mixed by SHARES: what a base model writes is mostly useless
    train      adding, for RL                        explain    adding, for the teachers to explain; disjoint from train
    held_out   adding, for evaluation: in none of the others, whatever the seed (world.split_of)

and `explain_subtracts`, `held_out_subtracts` for the family that RL never sees. A problem's reasoning_trace is its
complete explanation, except in the first two, where it is whatever the problem's style makes it.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from student.problem_files import write_problems
from student.problems import Problem
from teacher.demo.settings import Recipe
from teacher.demo.world import ADDS, EXPLAINERS, FAMILIES, SUBTRACTS, Style, draw_problems, read_chain

SKILL: dict[Style, float] = {"complete": 0.85, "leak": 0.15}
"""Share of each style in the first corpus. Learned this early, leaks are learned by every seed alike; from the second
corpus alone some seeds learn to copy the solution and some do not."""
SHARES: dict[Style, float] = {"complete": 0.17, "wrong": 0.12, "terse": 0.10, "chatter": 0.42, "leak": 0.19}
"""Share of each style in the second corpus. The less of it is complete, the more RL has to gain; but a base that writes
3 to 8 % complete explanations was found to stay stuck in leaks."""


def write_corpora(recipe: Recipe, seed: int) -> None:
    """Writes every problem file that the recipe names, each with as many problems as its table's `limit`."""
    train, explain = count_of(recipe.train.limit), count_of(recipe.explain.limit)
    held_out = count_of(recipe.evaluate.limit)
    adding = draw_problems(ADDS, train + explain, "train", _part(seed, 3))
    files = {
        recipe.skill.problems: styled(mixed_families(count_of(recipe.skill.limit), _part(seed, 1)), SKILL, seed),
        recipe.base.problems: styled(mixed_families(count_of(recipe.base.limit), _part(seed, 2)), SHARES, seed),
        recipe.train.problems: adding[:train],
        recipe.explain.problems: adding[train:],
        recipe.evaluate.problems: draw_problems(ADDS, held_out, "held_out", seed),
        subtracts(recipe.explain.problems): draw_problems(SUBTRACTS, explain, "train", _part(seed, 3)),
        subtracts(recipe.evaluate.problems): draw_problems(SUBTRACTS, held_out, "held_out", seed),
    }
    for path, problems in files.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_problems(problems, Path(path))


def subtracts(path: str) -> str:
    """The file beside `path` that holds the same for the subtracting family.

    >>> subtracts("demo/seed-0/problems/explain.jsonl")
    'demo/seed-0/problems/explain_subtracts.jsonl'
    """
    file = Path(path)
    return str(file.with_stem(f"{file.stem}_subtracts"))


def mixed_families(count: int, seed: int) -> list[Problem]:
    """`count` problems for warm-up, shuffled, half of each family (where count is odd, one more of the first)."""
    shares = [(count + 1) // 2, count // 2]
    drawn = [
        problem
        for family, share in zip(FAMILIES, shares, strict=True)
        for problem in draw_problems(family, share, "train", seed)
    ]
    random.Random(f"order {seed}").shuffle(drawn)
    return drawn


def styled(problems: Sequence[Problem], shares: Mapping[Style, float], seed: int) -> list[Problem]:
    """The problems, each with an explanation of its style as its trace; styles stand in the ratio of `shares`."""
    rng = random.Random(f"styles {seed}")
    styles = list(apportioned(len(problems), shares))
    rng.shuffle(styles)
    return [_restyled(problem, style, rng) for problem, style in zip(problems, styles, strict=True)]


def apportioned(count: int, shares: Mapping[Style, float]) -> Iterator[Style]:
    """`count` styles: each as often as its share says, to within one."""
    total, reached, given = sum(shares.values()), 0.0, 0
    for style, share in shares.items():
        reached += share
        wanted = round(count * reached / total)
        yield from [style] * (wanted - given)
        given = wanted


def _restyled(problem: Problem, style: Style, rng: random.Random) -> Problem:
    trace = EXPLAINERS[style](read_chain(problem.question), rng)
    return problem.model_copy(
        update={"reasoning_trace": trace, "metadata": {**problem.metadata, "style": style}},
    )


def _part(seed: int, part: int) -> int:
    """A seed of its own for each file, so that two files of a seed, or of two seeds, are not drawn alike."""
    return 10 * seed + part


def count_of(limit: int | None) -> int:
    """How many problems a table draws."""
    assert limit is not None, "a demo's recipe says how many problems each table has (checked by read_recipe)"
    return limit
