"""`rlt distill --method dpo|kto` against SFT in the toy world of `rlt demo`: what a student learns from the same rows.

    python benchmarks/preferences.py                     # five seeds, about four minutes of one core each
    python benchmarks/preferences.py --seeds 1 --out toy

The base writes 16 explanations of each of 1,024 problems, its own log-probabilities score them, and the base itself is
the student:

    sft_first        SFT on the first explanation of each problem
    sft_best         SFT on the best of the 16, by reward
    dpo, kto         by preference, from the base: best against worst; all 16 by their problem's median
    sft_best_dpo     DPO that begins at sft_best

Prints accuracy on 2,000 held-out problems at temperature 1: mean over seeds, and the range. A run that was stopped goes
on. Left out: other numbers of samples (`rlt demo --full` has best of n).
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from student.configs import DistillConfig
from student.distill import main as distill
from student.explanations import Explanation, read_explanations
from student.problem_files import whole_file
from student.tags import RLT
from teacher.demo.ablations import CANDIDATES, SAMPLES, best, by_reward
from teacher.demo.chain import Chain
from teacher.demo.settings import read_recipe

STUDENTS = ("sft_first", "sft_best", "dpo", "kto", "sft_best_dpo")


def one_seed(folder: Path, seed: int, learning_rate: float) -> dict[str, float]:
    """Accuracy of the base and of each student of a seed."""
    chain = Chain(read_recipe("toy").placed(folder, seed), seed)
    base = chain.model("base")
    for phase in [
        *chain.base_phases(),
        chain.explain(CANDIDATES, model=base, samples=SAMPLES),
        chain.score(CANDIDATES, base, SAMPLES),
        chain.evaluate("base", base),
    ]:
        phase.run()
    choose(chain)
    found = {"base": accuracy(chain, "base")}
    for name in STUDENTS:
        distill(student_config(chain, name, learning_rate))
        chain.evaluate(name, chain.student_folder(name)).run()
        found[name] = accuracy(chain, name)
    return found


def choose(chain: Chain) -> None:
    """Writes the first and the best explanation of each problem; candidates of a problem stand together."""
    rows = read_explanations(chain.scores(CANDIDATES), RLT)
    groups = [rows[start : start + SAMPLES] for start in range(0, len(rows), SAMPLES)]
    write(chain.explanations("sft_first"), [group[0] for group in groups])
    scored = [[(row, row.score) for row in group if row.score is not None] for group in groups]
    write(chain.explanations("sft_best"), [best(group, by_reward) for group in scored])


def write(path: str, rows: Sequence[Explanation]) -> None:
    """Rows as a file of explanations."""
    with whole_file(Path(path)) as file:
        file.writelines(f"{row.model_dump_json()}\n" for row in rows)


def student_config(chain: Chain, name: str, learning_rate: float) -> DistillConfig:
    """The demo's recipe for a student, with the method and the rate of those that learn by preference."""
    config, method = chain.recipe.distill, name.rpartition("_")[2]
    values: dict[str, Any] = {"out": chain.student_folder(name), "explanations": chain.explanations(name)}
    if method in ("dpo", "kto"):
        sft = config.sft.model_copy(update={"learning_rate": learning_rate})
        values |= {"method": method, "explanations": chain.scores(CANDIDATES), "sft": sft}
    if name == "sft_best_dpo":
        values |= {"student": chain.student_folder("sft_best")}
    return config.model_copy(update=values)


def accuracy(chain: Chain, name: str) -> float:
    """pass@1 of an evaluation."""
    report = json.loads((Path(chain.evaluation(name)) / "report.json").read_text(encoding="utf-8"))
    return float(report["pass_at_1"]["value"])


def table(seeds: Sequence[dict[str, float]]) -> str:
    """Mean and range over seeds, as Markdown."""
    lines = ["| student | accuracy | range |", "|---|---|---|"]
    for name in seeds[0]:
        values = [seed[name] for seed in seeds]
        lines.append(f"| {name} | {sum(values) / len(values):.3f} | {min(values):.3f} to {max(values):.3f} |")
    return "\n".join(lines)


def main() -> None:
    """Runs the seeds and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="demo/preferences", help="folder for everything that is made")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--learning-rate", type=float, default=3e-4, help="of dpo and kto")
    given = parser.parse_args()
    numbers = range(given.first_seed, given.first_seed + given.seeds)
    seeds = [one_seed(Path(given.out) / f"seed-{seed}", seed, given.learning_rate) for seed in numbers]
    print(f"seeds {numbers.start} to {numbers.stop - 1}, learning rate of dpo and kto {given.learning_rate:g}")
    print(table(seeds))


if __name__ == "__main__":
    main()
