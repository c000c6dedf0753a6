"""What the comparisons of students in the toy world share: a file of results a seed, and one table of all seeds.

A seed whose results are on the disk is not run again, so seeds can be made one by one and put together at the end.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from scipy import stats

from student.explanations import Explanation
from student.problem_files import whole_file
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


OneSeed = Callable[[Recipe, int], Results]
"""Makes every student of a seed, by a recipe placed in its folder."""


def kept(folder: Path, recipe: Recipe, seed: int, one_seed: OneSeed) -> Results:
    """The results in a seed's folder, made now where they are not there."""
    path = folder / RESULTS
    if not path.exists():
        made = one_seed(recipe.placed(folder, seed), seed)
        with whole_file(path) as file:
            json.dump({name: asdict(result) for name, result in made.items()}, file, indent=2)
    return {name: Result(**values) for name, values in json.loads(path.read_text(encoding="utf-8")).items()}


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


def run(doc: str | None, out: str, rival: str, one_seed: OneSeed, arguments: Sequence[str] | None = None) -> None:
    """The command line: makes what is asked for and prints the table."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=out, help="folder for everything that is made")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--recipe", default="toy", help="its settings: a recipe with the tables of toy.toml")
    given = parser.parse_args(arguments)
    recipe = read_recipe(given.recipe)
    numbers = range(given.first_seed, given.first_seed + given.seeds)
    seeds = [kept(Path(given.out) / f"seed-{seed}", recipe, seed, one_seed) for seed in numbers]
    print(f"seeds {numbers.start} to {numbers.stop - 1}")
    print(table(seeds, rival))
