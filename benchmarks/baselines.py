"""What a reviewer asks of RLT in the toy world of `rlt demo`: would a simpler way to the same data have done as well?

    python -m benchmarks.baselines                     # five seeds, about five minutes of one core each
    python -m benchmarks.baselines --seeds 1 --out toy

The base is teacher, reward student and student; 1,024 problems, 2,000 held-out ones, temperature 1. Students learn from

    answers_only    the solutions alone
    gold            the complete explanation of each problem
    base_teacher    one explanation a problem by the base, which is shown the solution
    rejection       its own 16 attempts a problem, no solution shown: the first right one (arXiv 2308.01825)
    rejection_all   every right one of the 16
    rationalised    16 explanations by the base, which is shown the solution: the first that verifies
    best_of_16      the same 16 explanations: the best by the reward, no RL
    rlt_teacher     one explanation a problem by the teacher that was trained by RL
    star            STaR (arXiv 2203.14465), four rounds: two attempts a problem by the last round's model and, where
                    neither is right, two explanations by it, shown the solution; the base learns what verifies

An attempt verifies where its solution is right; an explanation where the model that wrote it, reading it without the
solution, then answers right (`rlt score --measures.verified`). In STaR as published the hint stays in sight, so that
nearly everything verifies. All learn by SFT on question, thought and solution in one pass, so a student with fewer rows
makes fewer steps. Samples are all texts that were drawn, those of RL included; what is scored is not counted.
"""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.toy import Result, Results, accuracy, best_of_each, first_of_each, rows_used, run, write_rows
from student.configs import MeasureSettings, ProblemSource
from student.explanations import Explanation, read_explanations
from student.problem_files import read_problems, write_problems
from student.tags import RLT
from teacher.demo.ablations import CANDIDATES, SAMPLES
from teacher.demo.chain import Chain, beside, style_shares
from teacher.demo.settings import Recipe
from teacher.score import main as score

STAR_ROUNDS = 4
STAR_TRIES = 2
"""Attempts a problem and round, and explanations where they fail: 16 a problem at most in four rounds."""
ATTEMPTS = "attempts"
"""The base's own solutions to the problems that are learnt from."""
VERIFYING = MeasureSettings(gain=False, leak=False, repetition=False, length=False, verified=True, grading="exact")
NO_SAMPLES = ("answers_only", "gold")
STUDENTS = (*NO_SAMPLES, "base_teacher", "rejection", "rejection_all", "rationalised", "best_of_16", "rlt_teacher")


def one_seed(recipe: Recipe, seed: int) -> Results:
    """The base and every student of a seed."""
    chain = Chain(recipe, seed)
    base = chain.model("base")
    for phase in [
        *chain.base_phases(),
        chain.evaluate("base", base),
        chain.train("rlt_teacher"),
        chain.explain("rlt_teacher"),
        chain.explain(CANDIDATES, model=base, samples=SAMPLES),
    ]:
        phase.run()
    choose(chain, attempted(chain, ATTEMPTS, base, SAMPLES, seed))
    drawn = samples_drawn(chain)
    found = {"base": Result(accuracy(chain, "base"))}
    for name in STUDENTS:
        for phase in chain.student(name):
            phase.run()
        found[name] = result(chain, name, drawn[name])
    return {**found, "star": star(chain)}


def result(chain: Chain, name: str, drawn: int) -> Result:
    """What became of a student that was evaluated."""
    rows = read_explanations(chain.source(name), RLT)
    shares = style_shares([(row.question, row.solution, row.explanation) for row in rows])
    complete = None if name == "answers_only" else shares["complete"]
    return Result(accuracy(chain, name), rows_used(chain, name), drawn, complete)


def attempted(chain: Chain, name: str, model: str, samples: int, seed: int) -> list[Explanation]:
    """A model's own solutions to the problems that are learnt from; wrong ones carry an error."""
    sampling = chain.recipe.evaluate.sampling.model_copy(update={"seed": seed})
    problems = chain.recipe.explain.problems
    chain.evaluate(name, model, problems=problems, limit=None, samples=samples, sampling=sampling).run()
    return read_explanations(str(Path(chain.evaluation(name)) / "generations.jsonl"), RLT)


def choose(chain: Chain, attempts: Sequence[Explanation]) -> None:
    """Writes what each student learns from; a problem's attempts and its candidates stand together."""
    verifying = verified(chain, CANDIDATES, chain.model("base"))
    candidates = read_explanations(chain.scores(CANDIDATES), RLT)
    right = [row for row in attempts if row.kept]
    sets = {
        "base_teacher": first_of_each(candidates),
        "rejection": first_of_each(right),
        "rejection_all": right,
        "rationalised": first_of_each(verifying),
        "best_of_16": best_of_each(candidates),
    }
    for name, rows in sets.items():
        write_rows(chain.explanations(name), rows)


def verified(chain: Chain, name: str, model: str) -> list[Explanation]:
    """The explanations of that name, by `model`, after which it answers right by itself; all are scored."""
    values = {"traces": chain.explanations(name), "teacher": model, "student": model, "out": chain.scores(name)}
    config = chain.recipe.score.model_copy(update=values | {"measures": VERIFYING})
    score(config)
    rows = read_explanations(chain.scores(name), RLT)
    return [row for row in rows if row.closed and row.measures is not None and row.measures.verified]


def star(chain: Chain) -> Result:
    """STaR from the base: each round's model writes what the base is trained on to be the next round's model.

    A round in which nothing verifies is the last: the next one would begin where it did.
    """
    name, model, drawn = "", chain.model("base"), 0
    for number in range(1, STAR_ROUNDS + 1):
        rows, samples = star_round(chain, f"star_{number}", model, seed=100 * chain.seed + number)
        drawn += samples
        if not rows:
            break
        name = f"star_{number}"
        write_rows(chain.explanations(name), rows)
        chain.distill(name, chain.explanations(name)).run()
        model = chain.student_folder(name)
    chain.evaluate(name, model).run()
    return result(chain, name, drawn)


def star_round(chain: Chain, name: str, model: str, seed: int) -> tuple[list[Explanation], int]:
    """A verified row of every problem that has one, and how many texts were drawn for them."""
    attempts = attempted(chain, f"{name}_{ATTEMPTS}", model, STAR_TRIES, seed)
    right = first_of_each([row for row in attempts if row.kept])
    hinted = f"{name}_hinted"
    failed = failed_problems(chain, hinted, {row.problem_id for row in right})
    if not failed:
        return right, len(attempts)
    sampling = chain.recipe.explain.sampling.model_copy(update={"seed": seed})
    chain.explain(hinted, model=model, problems=failed, samples=STAR_TRIES, sampling=sampling).run()
    verifying = verified(chain, hinted, model)
    drawn = len(attempts) + len(read_explanations(chain.explanations(hinted), RLT))
    return [*right, *first_of_each(verifying)], drawn


def failed_problems(chain: Chain, name: str, solved: set[str]) -> str | None:
    """A file of the problems that are not solved; None where there is none."""
    source = ProblemSource(problems=chain.recipe.explain.problems)
    failed = [problem for problem in read_problems(source, RLT) if problem.id not in solved]
    if not failed:
        return None
    path = beside(source.problems, f"{name}.jsonl")
    write_problems(failed, Path(path))
    return path


def samples_drawn(chain: Chain) -> dict[str, int]:
    """Texts that were sampled for each student's rows."""
    problems, grpo = chain.recipe.explain.limit or 0, chain.recipe.train.grpo
    many = SAMPLES * problems
    return {
        **dict.fromkeys(STUDENTS, many),
        **dict.fromkeys(NO_SAMPLES, 0),
        "base_teacher": problems,
        "rlt_teacher": grpo.steps * grpo.prompts_per_step * grpo.group_size + problems,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the seeds and prints the table."""
    run(__doc__, "demo/baselines", "rlt_teacher", one_seed, arguments)


if __name__ == "__main__":
    main()
