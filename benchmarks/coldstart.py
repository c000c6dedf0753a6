"""Does RL on right answers need a cold start, and is the RLT's the better one? In the harder toy world (bundles.py).

    python -m benchmarks.coldstart                      # five seeds, about seven minutes of one core each
    python -m benchmarks.coldstart --seeds 1 --out toy

Everybody has the same steps of RL on right answers (`rlt coldstart`), on the same problems; what differs is where it
begins:

    alone            the base itself
    base_teacher     the base distilled on its own explanations
    rlt_teacher      the base distilled on those of the teacher that RL made of it
    gold             the base distilled on complete explanations

And does an explanation's reward tell what a student learns from it? The base's RANKS explanations of each problem are
put into as many files by the rank of their reward, a student is distilled on each, and rank is held against accuracy,
of whole solutions and of single digits (Spearman).

Accuracy is on held-out problems, sampled at temperature 1. Prints what each seed did, then means over seeds with 95 %
t-intervals. A run that was stopped goes on.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.toy import asked, by_problem, difference, write_rows
from student.coldstart import main as coldstart
from student.evaluate import Generation
from student.explanations import Explanation, read_explanations
from student.tags import RLT
from teacher.demo.ablations import cold_start
from teacher.demo.bundles import bundle_tokenizer, parts_of, style_shares, write_corpora
from teacher.demo.chain import STYLE_METRIC, TEACHERS, Chain
from teacher.demo.initial import make_initial
from teacher.demo.phases import Ledger, Phase, run_phases
from teacher.demo.settings import Recipe
from teacher.grpo import Rollout
from teacher.warmup import main as warm_up

RECIPE = "toy-bundles"
ALONE = "alone"
STARTS = ("base_teacher", "rlt_teacher", "gold")
"""What students are distilled on before RL."""
RANKS = 8
"""Explanations of each problem to rank."""
CANDIDATES = "candidates"
AFTER = "_rl"
"""What a student's name ends with after RL."""


class BundleChain(Chain):
    """The demo's chain of verbs in the harder world."""

    def base_phases(self) -> list[Phase]:
        """From nothing to the base model."""
        skill, base = self.recipe.skill, self.recipe.base
        return [
            Phase("problems", 1, lambda: write_corpora(self.recipe, self.seed)),
            Phase("initial model", 0.1, lambda: make_initial(Path(skill.model), self.seed, bundle_tokenizer())),
            Phase("warm up on the skill", 20, lambda: warm_up(skill)),
            Phase("warm up on all styles", 30, lambda: warm_up(base)),
            self.evaluate("base", self.model("base")),
        ]

    def start_phases(self) -> list[Phase]:
        """Teachers, their explanations, and the students that are distilled on them."""
        return [
            self.train("rlt_teacher"),
            *(self.explain(teacher) for teacher in TEACHERS),
            *(self.score(teacher, self.teacher(teacher)) for teacher in TEACHERS),
            *(phase for start in STARTS for phase in self.student(start)),
        ]

    def rl_phases(self) -> list[Phase]:
        """RL on right answers from each start, and from none."""
        starts = {ALONE: self.model("base"), **{start: self.student_folder(start) for start in STARTS}}
        return [phase for name, student in starts.items() for phase in self.cold_started(name + AFTER, student)]

    def cold_started(self, name: str, student: str) -> list[Phase]:
        """RL on right answers from a student on, and its evaluation."""
        config = cold_start(self, name, student)
        return [Phase(f"RL {name}", 60, lambda: coldstart(config)), self.evaluate(name, config.out)]

    def rank_phases(self) -> list[Phase]:
        """Students of the base's explanations by the rank of their reward, 1 the highest."""
        return [
            self.explain(CANDIDATES, model=self.model("base"), samples=RANKS),
            self.score(CANDIDATES, self.model("base"), RANKS),
            Phase(f"rank {CANDIDATES}", 1, self._rank),
            *(phase for rank in range(1, RANKS + 1) for phase in self.student(rank_name(rank))),
        ]

    def _rank(self) -> None:
        for rank, rows in enumerate(ranked(read_explanations(self.scores(CANDIDATES), RLT)), start=1):
            write_rows(self.explanations(rank_name(rank)), rows)

    def _observe(self, step: int, rollouts: Sequence[Rollout]) -> dict[str, float]:
        self.note()
        explained = [(rollout.draft.question, rollout.draft.explained.text) for rollout in rollouts]
        return {STYLE_METRIC + style: share for style, share in style_shares(explained).items()}


def rank_name(rank: int) -> str:
    """What the student of a rank is called."""
    return f"rank_{rank}"


def ranked(candidates: Sequence[Explanation]) -> list[list[Explanation]]:
    """For each rank one explanation a problem, the best first; a problem's candidates stand together."""
    ordered = [sorted(group, key=reward_of, reverse=True) for group in by_problem(candidates)]
    return [list(rows) for rows in zip(*ordered, strict=True)]


def reward_of(row: Explanation) -> float:
    """The reward of a scored row."""
    assert row.score is not None, "candidates are scored"
    return row.score.reward


def one_seed(recipe: Recipe, folder: Path, seed: int) -> dict[str, Any]:
    """What is found with one seed, whose files are in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(folder)
    chain = BundleChain(recipe, seed, ledger.note)
    phases = [*chain.base_phases(), *chain.start_phases(), *chain.rl_phases(), *chain.rank_phases()]
    run_phases(folder, ledger, phases, f"seed {seed}")
    return result_of(chain, sum(cost.cpu_seconds for cost in ledger.costs.values()))


def result_of(chain: Chain, cpu_seconds: float) -> dict[str, Any]:
    """Accuracies by name, what RL saw, and the correlations, of a seed that has run."""
    ranks = [rank_name(rank) for rank in range(1, RANKS + 1)]
    names = ["base", *STARTS, *(name + AFTER for name in (ALONE, *STARTS)), *ranks]
    solved = {name: accuracy(chain, name) for name in names}
    return {
        "cpu_seconds": cpu_seconds,
        "solutions": {name: whole for name, (whole, _) in solved.items()},
        "digits": {name: digit for name, (_, digit) in solved.items()},
        "styles": {teacher: styles(chain, teacher) for teacher in TEACHERS},
        "right_answers_seen": {name: right_answers(chain, name + AFTER) for name in (ALONE, *STARTS)},
        "spearman": {
            what: float(stats.spearmanr(range(RANKS, 0, -1), [solved[rank][place] for rank in ranks]).statistic)
            for place, what in enumerate(("solutions", "digits"))
        },
    }


def accuracy(chain: Chain, name: str) -> tuple[float, float]:
    """Of an evaluation's samples, the share of right solutions, and of right digits."""
    lines = (Path(chain.evaluation(name)) / "generations.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [Generation.model_validate_json(line) for line in lines]
    return float(np.mean([row.correct for row in rows])), float(np.mean([digits_right(row) for row in rows]))


def digits_right(row: Generation) -> float:
    """The share of a solution's digits that are right."""
    asked = parts_of(row.answer)
    told = parts_of(row.solution or "")
    return sum(one == other for one, other in zip(asked, told, strict=False)) / len(asked)


def styles(chain: Chain, teacher: str) -> dict[str, float]:
    """The share of each style among the chains that a teacher explained."""
    rows = read_explanations(chain.explanations(teacher), RLT)
    shares = style_shares([(row.question, row.explanation) for row in rows])
    return {str(style): share for style, share in shares.items()}


def right_answers(chain: Chain, name: str) -> float:
    """How many right answers RL sampled in all its steps."""
    grpo = chain.recipe.train.grpo
    lines = (Path(chain.student_folder(name)) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    shares: list[float] = [json.loads(line)["reward"] for line in lines]
    return sum(shares) * grpo.prompts_per_step * grpo.group_size


def each_seed(results: Sequence[Mapping[str, Any]], seeds: Sequence[int]) -> str:
    """Solutions right before RL and after it and the right answers that RL saw, a column a seed, as Markdown.

    The last line is by how much RL ends better from the RLT's student than from the base, paired by seed.
    """
    lines = [f"| RL begins at | {' | '.join(f'seed {seed}' for seed in seeds)} |", "|---" * (len(seeds) + 1) + "|"]
    for name in (ALONE, *STARTS):
        cells = [
            f"{before_rl(result, name):.3f} → {after_rl(result, name):.3f} ({result['right_answers_seen'][name]:,.0f})"
            for result in results
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    ahead = [after_rl(result, "rlt_teacher") - after_rl(result, ALONE) for result in results]
    return "\n".join([*lines, "", f"rlt_teacher less {ALONE} after RL: {difference(ahead)}"])


def before_rl(result: Mapping[str, Any], name: str) -> float:
    """Solutions right of what RL begins at."""
    return float(result["solutions"]["base" if name == ALONE else name])


def after_rl(result: Mapping[str, Any], name: str) -> float:
    """Solutions right where RL that began there ends."""
    return float(result["solutions"][name + AFTER])


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """Accuracy before and after RL, and by rank, as Markdown."""
    lines = [
        "| RL begins at | before RL | after RL | digits before | digits after | right answers seen |",
        "|---|---|---|---|---|---|",
    ]
    for name in (ALONE, *STARTS):
        before = "base" if name == ALONE else name
        cells = [
            shown([result[what][key] for result in results])
            for what in ("solutions", "digits")
            for key in (before, name + AFTER)
        ]
        seen = shown([result["right_answers_seen"][name] for result in results], digits=0)
        lines.append(f"| {name} | {' | '.join(cells)} | {seen} |")
    lines += ["", "| rank of the reward | solutions | digits |", "|---|---|---|"]
    for rank in range(1, RANKS + 1):
        cells = [shown([result[what][rank_name(rank)] for result in results]) for what in ("solutions", "digits")]
        lines.append(f"| {rank} | {' | '.join(cells)} |")
    cells = [shown([result["spearman"][what] for result in results], digits=2) for what in ("solutions", "digits")]
    lines.append(f"| Spearman | {' | '.join(cells)} |")
    return "\n".join(lines)


def shown(values: Sequence[float], digits: int = 3) -> str:
    """The mean over seeds and half the width of its 95 % t-interval; with one seed the mean alone.

    >>> shown([0.5, 0.7]), shown([0.5])
    ('0.600 ± 1.271', '0.500')
    """
    mean = f"{np.mean(values):.{digits}f}"
    if len(values) == 1:
        return mean
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return f"{mean} ± {half:.{digits}f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the seeds and prints the tables."""
    given = asked(__doc__, "demo/coldstart", RECIPE, arguments)
    results = given.made(one_seed)
    seconds = np.mean([result["cpu_seconds"] for result in results])
    print(f"seeds {given.seeds.start} to {given.seeds.stop - 1}, {seconds:.0f} CPU-seconds a seed")
    print(each_seed(results, given.seeds))
    print()
    print(table(results))


if __name__ == "__main__":
    main()
