"""Countdown: make a number out of others by the four operations. `rlt countdown` draws problems, each question once.

    question    Use each of the numbers 3, 7, 25 exactly once, with + - * / and brackets, to make 46.
    solution    25 + 7 * 3
    trace       7 * 3 = 21
                25 + 21 = 46

A task to transfer to (method.md 5): `rlt evaluate --grading countdown` takes any expression that is right
(expressions.py). Left out: powers, joined digits, and numbers that may be left unused.
"""

import random
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from student.configs import CountdownConfig
from student.errors import ConfigError
from student.problem_files import write_problems
from student.problems import Problem


@dataclass(frozen=True)
class _Term:
    """A part of an expression while it is made: text, value, and whether it needs brackets inside another."""

    text: str
    value: int
    is_number: bool = True


def draw_problem(rng: random.Random, count: int, largest: int, most: int) -> Problem:
    """One problem of `count` numbers up to `largest`, whose target and every step towards it are 1 to `most`."""
    while True:
        terms = [_Term(str(number), number) for number in (rng.randint(1, largest) for _ in range(count))]
        numbers, steps = [term.value for term in terms], []
        while len(terms) > 1:
            left, right = (terms.pop(rng.randrange(len(terms))) for _ in range(2))
            joined = _joined(left, right, rng.choice("+-*/"), most)
            if joined is None:
                break
            steps.append(f"{left.value} {joined[1]} {right.value} = {joined[0].value}")
            terms.append(joined[0])
        else:
            return _problem(numbers, terms[0], steps)


def _joined(left: _Term, right: _Term, sign: str, most: int) -> tuple[_Term, str] | None:
    """Both under one operation; None where that is no whole number from 1 to `most`, or does nothing."""
    value = {
        "+": Fraction(left.value + right.value),
        "-": Fraction(left.value - right.value),
        "*": Fraction(left.value * right.value),
        "/": Fraction(left.value, right.value),
    }[sign]
    idle = sign in "*/" and right.value == 1
    if value.denominator != 1 or not 1 <= value <= most or idle:
        return None
    sides = [term.text if term.is_number else f"({term.text})" for term in (left, right)]
    return _Term(f" {sign} ".join(sides), int(value), is_number=False), sign


def _problem(numbers: list[int], made: _Term, steps: list[str]) -> Problem:
    listed = ", ".join(map(str, numbers))
    return Problem(
        question=(
            f"Use each of the numbers {listed} exactly once, with + - * / and brackets, to make {made.value}. "
            "Answer with the expression alone."
        ),
        solution=made.text,
        answer=made.text,
        reasoning_trace="\n".join(steps),
        metadata={"task": "countdown", "numbers": numbers, "target": made.value},
    )


def draw_problems(config: CountdownConfig) -> list[Problem]:
    """The problems that these settings ask for, no question twice; raises ConfigError where there are not so many."""
    rng = random.Random(f"countdown {config.seed}")
    drawn: dict[str, Problem] = {}
    for _ in range(50 * config.count + 1000):
        count = rng.randint(config.fewest, config.most)
        problem = draw_problem(rng, count, config.largest_number, config.largest_target)
        drawn.setdefault(problem.question, problem)
        if len(drawn) == config.count:
            return list(drawn.values())
    raise ConfigError(
        f"count: only {len(drawn)} different problems were found of the {config.count} asked for; ask for fewer, or "
        "for larger numbers"
    )


def main(config: CountdownConfig) -> None:
    """Carries out `rlt countdown`."""
    problems = draw_problems(config)
    write_problems(problems, Path(config.out))
    print(f"{config.out}: {len(problems)} problems; the first: {problems[0].question}")
