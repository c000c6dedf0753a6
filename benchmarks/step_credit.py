"""Step credit of wrong steps planted in the toy world: how often the planted one has the lowest; what it costs.

    python -m benchmarks.step_credit                                    # three seeds, about eight minutes of one core
    python -m benchmarks.step_credit --seeds 1 --rows 100 --out toy
    python -m benchmarks.step_credit --cost gsm8k/train.jsonl           # CPU seconds beside the reward's, no more

Complete explanations of held-out problems, a step a line, with one step exchanged or added at a random place:

    value        its result is wrong; the steps behind are left as they were
    carried      its result is wrong, and those behind go on from there
    misread      it takes another operand than the question's, with the result of that; the steps behind are left
    added        a step that the question does not ask for, rightly done, not like the one behind; those are left
    irrelevant   a line about nothing: not wrong, and told apart for that

Students: the demo's base, which is the student of its reward, and that base distilled on complete explanations (gold).
Readings: `closed` and `finished`, as --measures.step-thought has them. A place is by chance the lowest one time in
`steps`. Besides: the share of planted, and of other, steps whose credit is below -0.5 nats. Left out: explanations that
a model wrote, of which nobody knows the wrong steps.
"""

import argparse
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from student.configs import MeasureSettings, ModelSettings, ProblemSource, ScratchConfig
from student.explanations import Explanation, from_trace
from student.measures.results import Measures
from student.models import load_pair, save_pair
from student.problem_files import read_problems
from student.problems import Problem
from student.scoring.scorer import Scorer
from student.scratch import make_scratch
from student.tags import RLT
from teacher.configs import ScoreConfig
from teacher.demo.chain import Chain
from teacher.demo.settings import read_recipe
from teacher.demo.world import ADDS, draw_problems, read_chain
from teacher.reward_model import RewardModel
from teacher.score import Reader, build_reward_model, score_rows

WRONG = -0.5
"""Nats a solution token below which a step would be called wrong."""
NOTHING = MeasureSettings(gain=False, leak=False, repetition=False, length=False)
READINGS = {
    "closed": NOTHING.model_copy(update={"step_credit": True}),
    "finished": NOTHING.model_copy(update={"step_credit": True, "step_thought": "finished", "own_tokens": 24}),
}
ROUNDS = 2
"""Times that each cost is taken, of which the least counts."""


@dataclass(frozen=True)
class Figure:
    """One row of the table; shares of 1."""

    student: str
    reading: str
    planted: str
    rows: int
    steps: float
    """A row, on average."""
    lowest: float
    """Rows in which the planted step has the lowest credit, all seeds."""
    by_seed: tuple[float, ...]
    below: float
    """Planted steps below WRONG."""
    others_below: float
    """Other steps below WRONG."""


@dataclass
class Draft:
    """An explanation while a step of it is made wrong."""

    start: int
    operands: list[int]
    values: list[int]
    rng: random.Random

    @classmethod
    def of(cls, problem: Problem) -> "Draft":
        """The complete one; every problem has its own chance."""
        chain = read_chain(problem.question)
        return cls(chain.start, list(chain.operands), list(chain.values), random.Random(problem.id))

    def place(self) -> int:
        """Any step."""
        return self.rng.randrange(len(self.values))

    def before(self, place: int) -> int:
        """The value with which a step begins."""
        return self.values[place - 1] if place else self.start

    def lines(self) -> list[str]:
        """The steps as they are written."""
        return [f"{operand:+d} = {value}" for operand, value in zip(self.operands, self.values, strict=True)]


Planted = tuple[list[str], int]
"""The steps, and which of them was planted."""


def value(draft: Draft) -> Planted:
    """See the head of the file, as of those below."""
    place = draft.place()
    draft.values[place] = (draft.values[place] + draft.rng.randint(1, 9)) % 10
    return draft.lines(), place


def carried(draft: Draft) -> Planted:
    """All values from the place on are off by the same."""
    place, off = draft.place(), draft.rng.randint(1, 9)
    draft.values = [(reached + off * (step >= place)) % 10 for step, reached in enumerate(draft.values)]
    return draft.lines(), place


def misread(draft: Draft) -> Planted:
    """Another digit of the family."""
    place = draft.place()
    operand = draft.rng.choice([digit for digit in ADDS.digits if digit != draft.operands[place]])
    draft.operands[place], draft.values[place] = operand, (draft.before(place) + operand) % 10
    return draft.lines(), place


def added(draft: Draft) -> Planted:
    """Before any step."""
    place = draft.place()
    operand = draft.rng.choice([digit for digit in ADDS.digits if digit != draft.operands[place]])
    draft.values.insert(place, (draft.before(place) + operand) % 10)
    draft.operands.insert(place, operand)
    return draft.lines(), place


def irrelevant(draft: Draft) -> Planted:
    """Before any step."""
    place, lines = draft.place(), draft.lines()
    lines.insert(place, draft.rng.choice(("let me think about this", "now let me see", "think again")))
    return lines, place


PLANTS: tuple[Callable[[Draft], Planted], ...] = (value, carried, misread, added, irrelevant)


def main(arguments: Sequence[str] | None = None) -> list[Figure]:
    """All figures, which are printed too."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    if options.cost:
        costs(options.cost, Path(options.out))
        return []
    found = list(figures(Path(options.out), options.seeds, options.rows))
    print("student reading   planted       rows  steps  lowest  by seed                below: planted  others")
    for each in found:
        seeds = " ".join(f"{share:.3f}" for share in each.by_seed)
        shares = f"{each.lowest:8.3f}  {seeds:22}{each.below:15.3f}{each.others_below:8.3f}"
        print(f"{each.student:8}{each.reading:10}{each.planted:12}{each.rows:6,}{each.steps:7.2f}{shares}")
    if options.json:
        plain = [asdict(each) for each in found]
        Path(options.json).write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", default="step_credit", help="folder for the models (step_credit)")
    parser.add_argument("--seeds", type=int, default=3, help="seeds, each with a student of its own (3)")
    parser.add_argument("--rows", type=int, default=300, help="problems of each kind and seed (300)")
    parser.add_argument("--cost", help="problems with traces: only the cost is measured, on these")
    parser.add_argument("--json", help="a file for the figures")
    return parser


def figures(out: Path, seeds: int, rows: int) -> Iterator[Figure]:
    """The table; models that are in `out` already are not made again."""
    chains = [Chain(read_recipe("toy").placed(out / f"seed-{seed}", seed), seed) for seed in range(seeds)]
    for chain in chains:
        for phase in [*chain.base_phases(), chain.distill("gold", chain.source("gold"))]:
            phase.run()
    for student in ("base", "gold"):
        for reading, settings in READINGS.items():
            for plant in PLANTS:
                folders = [
                    chain.model("base") if student == "base" else chain.student_folder("gold") for chain in chains
                ]
                parts = [measured_part(folder, settings, plant, rows, seed) for seed, folder in enumerate(folders)]
                yield _figure(student, reading, plant.__name__, parts)


Part = list[tuple[int, list[float]]]
"""The planted step's place and the credits, of each row of a seed."""


def measured_part(
    folder: str, settings: MeasureSettings, plant: Callable[[Draft], Planted], rows: int, seed: int
) -> Part:
    """A student's credits of explanations with a planted step."""
    problems = draw_problems(ADDS, rows, "held_out", seed=1000 + seed)
    planted = [plant(Draft.of(problem)) for problem in problems]
    explained = [_explained(problem, lines) for problem, (lines, _) in zip(problems, planted, strict=True)]
    found = [row.measures for row in score_rows(_model(folder), explained, Reader("", "", settings))]
    return [(place, _credits(measures, lines)) for measures, (lines, place) in zip(found, planted, strict=True)]


def _credits(measures: Measures | None, lines: Sequence[str]) -> list[float]:
    assert measures is not None
    assert measures.steps is not None
    assert len(measures.steps) == len(lines), "a line is a step"
    return [step.credit for step in measures.steps]


def _explained(problem: Problem, lines: Sequence[str]) -> Explanation:
    return from_trace(problem).model_copy(update={"explanation": "\n".join(lines)})


def _model(folder: str) -> RewardModel:
    values: dict[str, Any] = {"traces": "", "student": folder, "out": "", "device": "cpu", "threads": 1}
    config = ScoreConfig.model_validate(values)
    model, tokenizer = load_pair(folder, ModelSettings(device="cpu", threads=1))
    return build_reward_model(Scorer(model, config.scoring), tokenizer, None, config)


def _figure(student: str, reading: str, planted: str, parts: Sequence[Part]) -> Figure:
    rows = [row for part in parts for row in part]
    others = [credit for place, found in rows for at, credit in enumerate(found) if at != place]
    return Figure(
        student=student,
        reading=reading,
        planted=planted,
        rows=len(rows),
        steps=sum(len(found) for _, found in rows) / len(rows),
        lowest=_lowest(rows),
        by_seed=tuple(_lowest(part) for part in parts),
        below=sum(found[place] < WRONG for place, found in rows) / len(rows),
        others_below=sum(credit < WRONG for credit in others) / len(others),
    )


def _lowest(rows: Part) -> float:
    return sum(found[place] == min(found) for place, found in rows) / len(rows)


def costs(problems: str, out: Path) -> None:
    """CPU seconds of each measure beside those of the reward alone, by a small model with random weights.

    Rationales as they are (a step a line), and twelve of them one after another as one long explanation.
    """
    read = read_problems(ProblemSource(problems=problems, limit=100), RLT)
    traces = [problem.reasoning_trace or "" for problem in read]
    long = ["\n\n".join(traces[start : start + 12]) for start in range(24, 72, 12)]
    shape = {"vocabulary": 4096, "hidden_size": 256, "layers": 6, "intermediate_size": 768, "max_tokens": 4096}
    folder = out / "costs"
    save_pair(*make_scratch(ScratchConfig.model_validate({"problems": "", "out": "", **shape}), read), folder)
    model = _model(str(folder))
    print("explanations           rows  steps  reward    gain  closed  finished  verified")
    for name, texts in (("rationales", traces[:24]), ("twelve rationales", long)):
        rows = [_explained(problem, [text]) for problem, text in zip(read, texts, strict=False)]
        print(f"{name:20}{_cost_line(model, rows)}")


def _cost_line(model: RewardModel, rows: Sequence[Explanation]) -> str:
    own = {"own_tokens": 64}
    asked = {
        "gain": NOTHING.model_copy(update={"gain": True}),
        "closed": READINGS["closed"],
        "finished": READINGS["finished"].model_copy(update=own),
        "verified": NOTHING.model_copy(update={"verified": True, **own}),
    }
    reward, _ = _seconds(model, rows, NOTHING)
    spent = {name: _seconds(model, rows, settings) for name, settings in asked.items()}
    _, measured = spent["closed"]
    steps = sum(len(row.measures.steps or ()) for row in measured if row.measures) / len(rows)
    ratios = "".join(f"{seconds / reward:9.2f}" for seconds, _ in spent.values())
    return f"{len(rows):7}{steps:7.1f}{reward:7.2f}s{ratios}"


def _seconds(
    model: RewardModel, rows: Sequence[Explanation], settings: MeasureSettings
) -> tuple[float, list[Explanation]]:
    taken = []
    for _ in range(ROUNDS):
        began = time.process_time()
        made = score_rows(model, rows, Reader("", "", settings))
        taken.append(time.process_time() - began)
    return min(taken), made


if __name__ == "__main__":
    main()
