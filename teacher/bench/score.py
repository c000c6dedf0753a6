"""`rlt bench score`: our scorer against the reference algorithm, by explanations, by their length, by vocabulary.

Sizes are measured in rounds, and inside a round ours and theirs in turn: one thread, float32, on the CPU. Rewards are
compared before anything is said. Left out: GPUs, and the reference where it would take longer than all the rest (256
explanations are scored by ours alone).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tqdm import tqdm

from teacher.bench.measuring import measured, peak_bytes
from teacher.bench.report import described_machine, write_report
from teacher.bench.results import BASE, FOUR_TIMES, LARGE, LONG, SMALL, Memory, Results, Run, Sweep
from teacher.bench.variants import EXACT, OURS, READ, REFERENCE, ROWS, UNCOLLECTED, Variants, load_reference
from teacher.bench.workload import Shape, World, make_drafts, make_world, with_teacher_logps
from teacher.reward_model import Draft

TOLERANCE = 1e-5
"""Largest difference between two rewards of one explanation."""
WARM_UP = Shape(1, 2, 50, 60)
FEW = (Shape(1, 1, 50, 400), Shape(1, 4, 50, 400))
SIXTEEN = Shape(2, 8, 50, 400)
LENGTHS = (50, 200, 1000, 4096)


@dataclass(frozen=True)
class Cell:
    """One size, the variants that are run on it in each round, and those that are run in the first alone."""

    sweep: Sweep
    shape: Shape
    variants: tuple[str, ...]
    once: tuple[str, ...] = ()

    def in_round(self, number: int) -> tuple[str, ...]:
        """What is run then; every second round in the opposite order."""
        ran = self.variants + (self.once if number == 0 else ())
        return ran[::-1] if number % 2 else ran


def plan(vocabulary: int, *, quick: bool) -> list[Cell]:
    """The sizes of one vocabulary."""
    # With a large vocabulary the reference takes minutes, and what its collections took can be subtracted.
    repeated = (REFERENCE, OURS, EXACT) + ((UNCOLLECTED,) if vocabulary == SMALL else ())
    base = Cell("base", BASE, repeated, once=(READ, ROWS))
    if quick:
        return [base]
    both = (REFERENCE, OURS)
    lengths = [Cell("length", Shape(1, 1, tokens, tokens), both) for tokens in LENGTHS]
    few = [Cell("explanations", shape, both) for shape in FEW]
    if vocabulary == SMALL:
        return [base, Cell("explanations", FOUR_TIMES, (OURS,)), *few, Cell("explanations", SIXTEEN, both), *lengths]
    costly = [Cell("explanations", FOUR_TIMES, (), once=(OURS,)), Cell("explanations", SIXTEEN, (), once=both)]
    return [base, *costly, *few, *lengths]


def memory_plan(*, quick: bool) -> list[tuple[int, Shape, str]]:
    """What is measured in processes of their own."""
    base = [(vocabulary, BASE, variant) for vocabulary in (SMALL, LARGE) for variant in (REFERENCE, OURS)]
    return base if quick else [*base, (LARGE, BASE, EXACT), (LARGE, LONG, REFERENCE), (LARGE, LONG, OURS)]


def run(out: Path, *, rounds: int, quick: bool, threads: int) -> None:
    """Measures, and writes score.json, score.md and score.png into `out`; raises ConfigError outside a checkout."""
    load_reference()
    torch.set_num_threads(threads or 1)
    print(_announcement(out, rounds, quick))
    results = Results()
    count = sum(len(cell.in_round(number)) for cell in _cells(quick) for number in range(rounds))
    with tqdm(total=count + len(memory_plan(quick=quick)), unit="run") as bar:
        for vocabulary in (SMALL, LARGE):
            measure_costs(results, vocabulary, plan(vocabulary, quick=quick), rounds, bar)
        for vocabulary, shape, variant in memory_plan(quick=quick):
            bar.set_description(f"memory, vocabulary {vocabulary:,}, {variant}")
            results.memory.append(Memory(vocabulary, shape, variant, peak_bytes(variant, vocabulary, shape)))
            bar.update()
    results.machine = described_machine()
    write_report(results, out)


def _cells(quick: bool) -> list[Cell]:
    return [cell for vocabulary in (SMALL, LARGE) for cell in plan(vocabulary, quick=quick)]


def _announcement(out: Path, rounds: int, quick: bool) -> str:
    minutes = (4 if quick else 5) * rounds + 2
    return (
        f"Ours against the reference algorithm: {len(_cells(quick))} sizes over the vocabularies {SMALL:,} and "
        f"{LARGE:,}; rounds: {rounds}; then {len(memory_plan(quick=quick))} measurements of memory.\n"
        f"About {minutes} minutes on one core and 8 GB of memory; writes {out}/score.json, score.md and score.png."
    )


def measure_costs(results: Results, vocabulary: int, cells: Sequence[Cell], rounds: int, bar: tqdm) -> None:
    """Adds the runs of one vocabulary; an assertion fails where rewards differ."""
    world = make_world(vocabulary)
    variants = Variants(world)
    drafts = {cell.shape: _prepared(world, variants, cell) for cell in cells}
    for name in {name for cell in cells for name in cell.in_round(0)}:
        variants[name](_unknown_teacher(make_drafts(world, WARM_UP)))
    for number in range(rounds):
        for cell in cells:
            rewards = {}
            for name in cell.in_round(number):
                bar.set_description(f"round {number + 1}, vocabulary {vocabulary:,}, {_shown(cell.shape)}, {name}")
                rewards[name], cost = measured(variants[name], drafts[cell.shape])
                if name == REFERENCE:
                    cost = replace(cost, collection_seconds=variants.collection_seconds)
                results.runs.append(Run(cell.sweep, vocabulary, cell.shape, number, name, cost))
                bar.update()
            results.worst_difference = max(results.worst_difference, _worst_difference(rewards))
            assert results.worst_difference <= TOLERANCE, f"rewards differ by {results.worst_difference:.1e}"


def _prepared(world: World, variants: Variants, cell: Cell) -> list[Draft]:
    """The drafts of a size, with the teacher's log-probabilities; zeros where no reward will be compared."""
    drafts = make_drafts(world, cell.shape)
    if REFERENCE not in cell.in_round(0):
        return _unknown_teacher(drafts)
    return with_teacher_logps(drafts, variants.teacher_logps(drafts))


def _unknown_teacher(drafts: list[Draft]) -> list[Draft]:
    return with_teacher_logps(drafts, [torch.zeros(draft.explained.sampled_tokens) for draft in drafts])


def _worst_difference(rewards: dict[str, list[float]]) -> float:
    """Between the reference's rewards and those of each variant that promises the same."""
    if REFERENCE not in rewards:
        return 0.0
    return max(
        abs(one - other)
        for name in rewards.keys() - {EXACT}
        for one, other in zip(rewards[name], rewards[REFERENCE], strict=True)
    )


def _shown(shape: Shape) -> str:
    return f"{shape.explanations} x {shape.longest}"
