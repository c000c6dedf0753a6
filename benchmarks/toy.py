"""What the comparisons of students in toy worlds share: a command line, a file of results a seed, a table of all seeds.

A seed whose results are on the disk is not run again, so seeds can be made one by one and put together at the end.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Any

from scipy import stats

from student.explanations import Explanation
from student.problem_files import whole_file
from teacher.demo.ablations import best, by_reward
from teacher.demo.chain import Chain
from teacher.demo.results import evaluation
from teacher.demo.settings import Recipe, read_recipe

RESULTS = "results.json"
"""What a seed's results are called, in its folder."""


@dataclass(frozen=True)
class Result:
    """One student of one seed."""

    accuracy: float
    """pass@1 on the held-out problems."""
    rows: int = 0
    """What it was trained on."""
    samples: int = 0
    """Texts that were sampled to get there, RL and attempts included."""
    complete: float | None = None
    """Share of its rows whose explanation has every step, and every step right; None where it learnt from none."""


Results = dict[str, Result]


def accuracy(chain: Chain, name: str) -> float:
    """pass@1 of an evaluation."""
    return evaluation(chain, name).pass_at_1.value


def rows_used(chain: Chain, name: str) -> int:
    """Rows that a student was trained on."""
    report = json.loads((Path(chain.student_folder(name)) / "report.json").read_text(encoding="utf-8"))
    return int(report["used"])


def write_rows(path: str, rows: Sequence[Explanation]) -> None:
    """Rows as a file of explanations."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with whole_file(Path(path)) as file:
        file.writelines(f"{row.model_dump_json()}\n" for row in rows)


def by_problem(rows: Sequence[Explanation]) -> list[list[Explanation]]:
    """The rows of each problem, which stand together."""
    return [list(group) for _, group in groupby(rows, key=lambda row: row.problem_id)]


def first_of_each(rows: Sequence[Explanation]) -> list[Explanation]:
    """The first row of each problem."""
    return [group[0] for group in by_problem(rows)]


def best_of_each(rows: Sequence[Explanation]) -> list[Explanation]:
    """The row of each problem that has the highest reward."""
    scored = [[(row, row.score) for row in group if row.score is not None] for group in by_problem(rows)]
    return [best(group, by_reward) for group in scored]


@dataclass(frozen=True)
class Asked:
    """What a command line asks for."""

    out: Path
    """Where each seed has a folder of its own."""
    seeds: range
    recipe: Recipe

    def made(self, make: Callable[[Recipe, Path, int], dict[str, Any]]) -> list[dict[str, Any]]:
        """What `make` finds of each seed, by a recipe placed in the seed's folder; from the disk where it is there."""
        found = []
        for seed in self.seeds:
            folder = self.out / f"seed-{seed}"
            found.append(kept(folder, partial(make, self.recipe.placed(folder, seed), folder, seed)))
        return found


def asked(doc: str | None, out: str, recipe: str, arguments: Sequence[str] | None) -> Asked:
    """Reads the command line; `out` and `recipe` are its defaults."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=out, help="folder for everything that is made")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--recipe", default=recipe, help=f"its settings: a recipe with the tables of {recipe}.toml")
    given = parser.parse_args(arguments)
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    return Asked(Path(given.out), seeds, read_recipe(given.recipe))


def kept(folder: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The results in a seed's folder, made now where they are not there."""
    path = folder / RESULTS
    if not path.exists():
        made = make()
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file:
            json.dump(made, file, indent=2)
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def table(seeds: Sequence[Mapping[str, Result]], rival: str) -> str:
    """Means and ranges over seeds, and by how much `rival` is better in the same seeds, as Markdown.

    The interval is Student's, 95 %, of the mean of the seeds' differences; one seed has none.
    """
    head = ["student", "samples", "rows", "complete", "accuracy", "range", f"{rival} less it"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name in seeds[0]:
        found = [seed[name] for seed in seeds]
        values = [each.accuracy for each in found]
        ahead = [seed[rival].accuracy - value for seed, value in zip(seeds, values, strict=True)]
        cells = [
            name,
            f"{fmean(each.samples for each in found):,.0f}",
            f"{fmean(each.rows for each in found):,.0f}",
            shown_mean([each.complete for each in found if each.complete is not None]),
            f"{fmean(values):.3f}",
            f"{min(values):.3f} to {max(values):.3f}",
            "" if name == rival else difference(ahead),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def shown_mean(shares: Sequence[float]) -> str:
    """The mean of shares; nothing where there are none."""
    return f"{fmean(shares):.2f}" if shares else ""


def difference(values: Sequence[float]) -> str:
    """Their mean, with Student's 95 % interval where there are several.

    >>> difference([0.1, 0.2, 0.3]), difference([0.5])
    ('+.200 (-.048 to +.448)', '+.500')
    """
    mean = signed(fmean(values))
    if len(values) == 1:
        return mean
    interval = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    return f"{mean} ({signed(interval.low)} to {signed(interval.high)})"


def signed(value: float) -> str:
    """A share of 1 with its sign and without its zero."""
    return f"{value:+.3f}".replace("0.", ".", 1)


OneSeed = Callable[[Recipe, int], Results]
"""Makes every student of a seed, by a recipe placed in its folder."""


def run(doc: str | None, out: str, rival: str, one_seed: OneSeed, arguments: Sequence[str] | None = None) -> None:
    """The whole of a comparison with the toy recipe: makes the seeds that are asked for and prints their table."""
    given = asked(doc, out, "toy", arguments)
    found = given.made(lambda recipe, _, seed: {name: asdict(each) for name, each in one_seed(recipe, seed).items()})
    seeds = [{name: Result(**values) for name, values in results.items()} for results in found]
    print(f"seeds {given.seeds.start} to {given.seeds.stop - 1}")
    print(table(seeds, rival))
