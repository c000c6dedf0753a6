r"""Leaks found among leaks planted: precision and recall by kind, on the toy world and on rationales that people wrote.

    python -m benchmarks.leaks --problems gsm8k/train.jsonl            # both tables, on the half that is held out
    python -m benchmarks.leaks                                         # the toy world alone
    python -m benchmarks.leaks --problems FILE --half tuned --show 10  # with misses and false findings to look at

Toy world: every style of teacher/demo/world.py for both families; only the style `leak` leaks. Rationales: any problems
with a trace and an answer; every second one is held out: thresholds were chosen on the others. Each is used clean and
once for each plant below, with the sentences of benchmarks/leak_phrases.toml. A row counts as found above a
score of LEAKY; by kind, only a finding of the planted kind counts. Precision of a kind is what was found among the
planted rows against what that kind finds in the clean ones.

    verbatim        solution: the rationale and its answer. Planted: the solution, or half of it, or all of it with
                    every tenth word left out, before the rationale's equations. Clean: the equations alone
    reference       solution: the answer. One of `references` put before, within or after the rationale. Clean: one of
                    `honest` there
    answer          solution: the answer. One of `answers` put before the rationale. Clean: one of `conclusions` behind
    answer_later    the same after the rationale's first line, where the answer is not there yet

Left out: leaks that a model wrote.
"""

import argparse
import json
import random
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from student.configs import ProblemSource
from student.measures.leaks import LEAKY, find_leaks
from student.measures.results import Leak, LeakKind
from student.problem_files import read_problems
from student.problems import Problem
from student.tags import RLT
from teacher.demo.world import EXPLAINERS, FAMILIES, draw_problems, read_chain

PHRASES = Path(__file__).with_name("leak_phrases.toml")
HALVES = ("tuned", "held-out")


@dataclass(frozen=True)
class Row:
    """What the detector sees, and what was planted in it."""

    question: str
    solution: str
    answer: str | None
    explanation: str
    planted: str | None
    kind: LeakKind | None = None


@dataclass(frozen=True)
class Figure:
    """One row of a table."""

    what: str
    rows: int
    recall: float
    """Of the planted rows, the share found by the planted kind."""
    found_by_any: float
    precision: float
    """Of what the planted kind finds in these and in the clean rows."""
    false_rate: float
    """Of the clean rows, the share in which any kind is found."""


def main(arguments: Sequence[str] | None = None) -> dict[str, list[Figure]]:
    """All figures, which are printed too."""
    options = _parser().parse_args(arguments)
    tables = {"toy world": [toy_figure(options.rows, options.show)]}
    if options.problems:
        problems, plants = _problems(options.problems, options.half, options.rows), Plants.of(options.half)
        tables["rationales"] = list(rationale_figures(problems, plants, options.show))
    for name, figures in tables.items():
        print(f"\n{name}\n{'':16}    rows  recall  by any  precision  clean found")
        for figure in figures:
            shares = f"{figure.recall:8.3f}{figure.found_by_any:8.3f}{figure.precision:11.3f}{figure.false_rate:13.4f}"
            print(f"{figure.what:16}{figure.rows:8,}{shares}")
    if options.json:
        plain = {name: [asdict(figure) for figure in figures] for name, figures in tables.items()}
        Path(options.json).write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
    return tables


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--problems", help="problems with a trace and an answer each, such as gsm8k/train.jsonl")
    parser.add_argument("--half", choices=HALVES, default="held-out", help="of problems and sentences (held-out)")
    parser.add_argument("--rows", type=int, default=2000, help="problems of each family, and of the half (2000)")
    parser.add_argument("--show", type=int, default=0, help="misses and false findings to print of each plant")
    parser.add_argument("--json", help="a file for the figures")
    return parser


def _problems(path: str, half: str, count: int) -> list[Problem]:
    """A sample of the half's problems that have what is needed."""
    usable = [problem for problem in read_problems(ProblemSource(problems=path), RLT) if problem.reasoning_trace]
    chosen = usable[HALVES.index(half) :: 2]
    return random.Random(0).sample(chosen, min(count, len(chosen)))


def leaks_of(row: Row) -> list[Leak]:
    """What counts as found in a row."""
    leaks = find_leaks(row.question, row.solution, row.answer, row.explanation)
    return [leak for leak in leaks if leak.score > LEAKY]


def toy_rows(count: int) -> Iterator[Row]:
    """Each style of every problem, of both families."""
    for family in FAMILIES:
        for problem in draw_problems(family, count, "train", seed=0):
            rng = random.Random(problem.id)
            for style, explain in EXPLAINERS.items():
                explanation = explain(read_chain(problem.question), rng)
                planted = "leak" if style == "leak" else None
                yield Row(problem.question, problem.solution, problem.answer, explanation, planted, "early_answer")


def toy_figure(count: int, show: int = 0) -> Figure:
    """The toy world: one leaking style of five."""
    rows = list(toy_rows(count))
    planted, clean = [row for row in rows if row.planted], [row for row in rows if not row.planted]
    return _figure("leak", planted, clean, show)


def rationale_figures(problems: Sequence[Problem], plants: "Plants", show: int = 0) -> Iterator[Figure]:
    """One row a plant."""
    for plant in (plants.verbatim, plants.reference, plants.answer, plants.answer_later):
        pairs = [pair for number, problem in enumerate(problems) if (pair := plant(problem, number))]
        clean, planted = ([pair[side] for pair in pairs] for side in (0, 1))
        yield _figure(plant.__name__, planted, clean, show)


Pair = tuple[Row, Row]
"""A clean row, and one with a leak in it."""
_EQUATION = re.compile(r"[\d$(][\d.,$()% +*/x-]*= ?\$?\d[\d,.]*\d|[\d$(][\d.,$()% +*/x-]*= ?\$?\d")
_OPENINGS = ("First, ", "Then, ", "Next, ", "After that, ", "So, ")


@dataclass(frozen=True)
class Plants:
    """Each way to plant a leak, with the sentences of one half."""

    references: tuple[str, ...]
    answers: tuple[str, ...]
    honest: tuple[str, ...]
    conclusions: tuple[str, ...]

    @classmethod
    def of(cls, half: str) -> "Plants":
        """Those of benchmarks/leak_phrases.toml."""
        sentences = tomllib.loads(PHRASES.read_text(encoding="utf-8"))[half]
        return cls(**{name: tuple(found) for name, found in sentences.items()})

    def verbatim(self, problem: Problem, number: int) -> Pair | None:
        """The rationale is the solution; its equations alone are the explanation, after the solution copied or not."""
        trace = problem.reasoning_trace or ""
        equations = _EQUATION.findall(trace)
        if not equations:
            return None
        lines = [f"{_OPENINGS[min(place, 4)]}{equation}." for place, equation in enumerate(equations)]
        explanation = "\n".join([*lines, f"The answer is {problem.answer}."])
        solution = f"{trace}\nThe answer is \\boxed{{{problem.answer}}}."
        words = solution.split(" ")
        whole, half = solution, " ".join(words[: len(words) // 2])
        thinned = " ".join(word for place, word in enumerate(words) if place % 10 != 9)
        copy = (whole, half, thinned)[number % 3]
        clean = Row(problem.question, solution, problem.answer, explanation, None)
        return clean, Row(problem.question, solution, problem.answer, f"{copy}\n{explanation}", copy, "verbatim")

    def reference(self, problem: Problem, number: int) -> Pair:
        """A sentence before, within or after the rationale."""
        lines = (problem.reasoning_trace or "").split("\n")
        place = (0, len(lines) // 2, len(lines))[number // len(self.references) % 3]
        planted, honest = (_told(phrases, problem, number) for phrases in (self.references, self.honest))
        clean, leaking = ("\n".join([*lines[:place], phrase, *lines[place:]]) for phrase in (honest, planted))
        return _short(problem, clean), _short(problem, leaking, planted, "reference")

    def answer(self, problem: Problem, number: int) -> Pair:
        """The answer before the rationale."""
        phrase = _told(self.answers, problem, number)
        explanation = f"{phrase}\n{problem.reasoning_trace}"
        return self._concluded(problem, number), _short(problem, explanation, phrase, "early_answer")

    def answer_later(self, problem: Problem, number: int) -> Pair | None:
        """The answer after the first of several lines, where that does not hold it."""
        first, _, rest = (problem.reasoning_trace or "").partition("\n")
        if not rest or str(problem.answer) in first:
            return None
        phrase = _told(self.answers, problem, number)
        explanation = f"{first}\n{phrase}\n{rest}"
        return self._concluded(problem, number), _short(problem, explanation, phrase, "early_answer")

    def _concluded(self, problem: Problem, number: int) -> Row:
        """The rationale with the answer where it belongs."""
        return _short(problem, f"{problem.reasoning_trace}\n{_told(self.conclusions, problem, number)}")


def _told(phrases: Sequence[str], problem: Problem, number: int) -> str:
    return phrases[number % len(phrases)].format(answer=problem.answer)


def _short(problem: Problem, explanation: str, planted: str | None = None, kind: LeakKind | None = None) -> Row:
    """A row whose solution is the answer alone."""
    return Row(problem.question, problem.solution, problem.answer, explanation, planted, kind)


def _figure(what: str, planted: Sequence[Row], clean: Sequence[Row], show: int) -> Figure:
    """Counts; `show` misses and false findings are printed, to be looked at."""
    kind = planted[0].kind
    found = [leaks_of(row) for row in planted]
    missed = [row for row, leaks in zip(planted, found, strict=True) if kind not in {leak.kind for leak in leaks}]
    false = [(row, leak) for row in clean for leak in leaks_of(row)]
    wrong = len({id(row) for row, leak in false if leak.kind == kind})
    for row in missed[:show]:
        print(f"missed {what}: {row.planted!r} of {row.answer!r} in {row.explanation!r}")
    for row, leak in false[:show]:
        print(f"false {leak.kind} {leak.score:.2f}: {row.explanation[leak.start : leak.stop]!r} in {row.explanation!r}")
    hits = len(planted) - len(missed)
    return Figure(
        what=what,
        rows=len(planted),
        recall=hits / len(planted),
        found_by_any=sum(map(bool, found)) / len(planted),
        precision=hits / max(hits + wrong, 1),
        false_rate=len({id(row) for row, _ in false}) / len(clean),
    )


if __name__ == "__main__":
    main()
