"""`rlt distill --method dpo|kto` against SFT in the toy world of `rlt demo`: what a student learns from the same rows.

    python -m benchmarks.preferences                     # five seeds, about four minutes of one core each
    python -m benchmarks.preferences --seeds 1 --out toy

The base writes 16 explanations of each of 1,024 problems, its own log-probabilities score them, and the base itself is
the student:

    sft_first        SFT on the first explanation of each problem
    sft_best         SFT on the best of the 16, by reward
    dpo, kto         by preference, from the base: best against worst; all 16 by their problem's median
    sft_best_dpo     DPO that begins at sft_best

Evaluated on 2,000 held-out problems at temperature 1; rows are pairs for DPO. Left out: other numbers of samples
(`rlt demo --full` has best of n).
"""

from collections.abc import Sequence
from typing import Any

from benchmarks.toy import Result, Results, accuracy, best_of_each, first_of_each, rows_used, run, write_rows
from student.configs import DistillConfig
from student.distill import main as distill
from student.explanations import read_explanations
from student.tags import RLT
from teacher.demo.ablations import CANDIDATES, SAMPLES
from teacher.demo.chain import Chain
from teacher.demo.settings import Recipe

STUDENTS = ("sft_first", "sft_best", "dpo", "kto", "sft_best_dpo")
LEARNING_RATE = 3e-4
"""Of DPO and KTO."""


def one_seed(recipe: Recipe, seed: int) -> Results:
    """The base and every student of a seed."""
    chain = Chain(recipe, seed)
    base = chain.model("base")
    for phase in [
        *chain.base_phases(),
        chain.explain(CANDIDATES, model=base, samples=SAMPLES),
        chain.score(CANDIDATES, base, SAMPLES),
        chain.evaluate("base", base),
    ]:
        phase.run()
    choose(chain)
    problems = chain.recipe.explain.limit or 0
    found = {"base": Result(accuracy(chain, "base"))}
    for name in STUDENTS:
        distill(student_config(chain, name))
        chain.evaluate(name, chain.student_folder(name)).run()
        samples = problems * (1 if name == "sft_first" else SAMPLES)
        found[name] = Result(accuracy(chain, name), rows_used(chain, name), samples)
    return found


def choose(chain: Chain) -> None:
    """Writes the first and the best explanation of each problem; candidates of a problem stand together."""
    rows = read_explanations(chain.scores(CANDIDATES), RLT)
    write_rows(chain.explanations("sft_first"), first_of_each(rows))
    write_rows(chain.explanations("sft_best"), best_of_each(rows))


def student_config(chain: Chain, name: str) -> DistillConfig:
    """The demo's recipe for a student, with the method and the rate of those that learn by preference."""
    config, method = chain.recipe.distill, name.rpartition("_")[2]
    values: dict[str, Any] = {"out": chain.student_folder(name), "explanations": chain.explanations(name)}
    if method in ("dpo", "kto"):
        sft = config.sft.model_copy(update={"learning_rate": LEARNING_RATE})
        values |= {"method": method, "explanations": chain.scores(CANDIDATES), "sft": sft}
    if name == "sft_best_dpo":
        values |= {"student": chain.student_folder("sft_best")}
    return config.model_copy(update=values)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the seeds and prints the table."""
    run(__doc__, "demo/preferences", "sft_best", one_seed, arguments)


if __name__ == "__main__":
    main()
