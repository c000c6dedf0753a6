"""What a demo found, read from the files that its seeds left: the contents of report.json.

Shares and accuracies are fractions of 1. Nothing is measured here; the page (report.py) and the closing table are made
of this alone.
"""

import json
import platform
from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy import stats

from student.evaluate import Estimate, EvaluationReport
from student.explanations import Explanation, read_explanations
from student.problem_files import whole_file
from student.problems import Problem
from student.tags import RLT
from teacher.configs import DemoConfig
from teacher.demo.ablations import CANDIDATES, OTHER_STUDENT, OUTCOME_RL, PICKS, QUARTILES, quarter
from teacher.demo.chain import STUDENTS, STYLE_METRIC, TEACHERS, TRANSFER, Chain, style_shares
from teacher.demo.corpus import SHARES
from teacher.demo.phases import Ledger
from teacher.demo.settings import Recipe
from teacher.demo.world import STYLES, Style, style_of

REWARDS = ("rss_only", "rkl_only", "lambda_1")
"""The ablations that change the reward."""
ABLATIONS = (*REWARDS, *PICKS, *QUARTILES, OUTCOME_RL, *(OTHER_STUDENT + teacher for teacher in TEACHERS))
EXAMPLES = 3
"""Problems whose explanations are shown, the first ones of the file."""
PACKAGES = ("rlt", "torch", "transformers", "trl")


class Record(BaseModel):
    """A frozen part of the report."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Step(Record):
    """A step of RL: means over its explanations."""

    step: int
    reward: float
    rss: float
    rkl: float
    styles: dict[Style, float]


class Written(Record):
    """An explanation as it is shown."""

    text: str
    style: Style
    reward: float


class Example(Record):
    """One problem as it was explained before and after RL."""

    question: str
    solution: str
    before: Written
    after: Written


class StyleReward(Record):
    """What the base's own explanations of one style are worth."""

    share: float
    reward: float
    rss: float
    rkl: float


class SeedResult(Record):
    """What one seed found."""

    seed: int
    accuracy: dict[str, float]
    """Of the students, on adding."""
    transfer: dict[str, float]
    """Of the students, on subtracting, which RL never saw."""
    untaught: float
    """Accuracy of the base itself on adding."""
    intervals: dict[str, tuple[float, float]]
    """95 % intervals over problems, by the name of the evaluation."""
    styles_before: dict[Style, float]
    styles_after: dict[Style, float]
    reward_by_style: dict[Style, StyleReward]
    steps: list[Step]
    examples: list[Example]
    cpu_seconds: float
    """Of everything this seed has cost so far, ablations included."""
    wall_seconds: float
    phases: dict[str, float]
    """CPU seconds a phase."""


class Figures(Record):
    """What one ablation found with one seed."""

    accuracy: float
    leak_share: float | None
    """Of the explanations that the student learned from; None where it learned from none."""


class Ablation(Figures):
    """What one ablation found, means over the seeds."""

    by_seed: dict[int, Figures]


class RankPoint(Record):
    """One quarter of the base's explanations by reward, 4 the highest, and the student that learned from it."""

    seed: int
    rank: int
    reward: float
    accuracy: float


class DemoReport(Record):
    """All of it."""

    seeds: list[SeedResult]
    ablations: dict[str, Ablation]
    """Empty without `--full`."""
    reward_rank_pearson: float | None
    """Between rank of the reward, by quarters, and accuracy, over all seeds; None without `--full`."""
    reward_ranks: list[RankPoint]
    held_out: int
    """Problems that each accuracy is over."""
    corpus: dict[Style, float]
    """Shares of the styles that the base was warmed up on."""
    recipe: dict[str, Any]
    versions: dict[str, str]


def seed_folder(config: DemoConfig, seed: int) -> Path:
    """Where the files of a seed are."""
    return Path(config.out) / f"seed-{seed}"


def collect(config: DemoConfig, recipe: Recipe, seeds: Sequence[int]) -> DemoReport:
    """The report of finished seeds."""
    folders = {seed: seed_folder(config, seed) for seed in seeds}
    chains = {seed: Chain(recipe.placed(folder, seed), seed) for seed, folder in folders.items()}
    ranks = [point for chain in chains.values() for point in rank_points(chain)] if config.full else []
    return DemoReport(
        seeds=[seed_result(chain, Ledger(folders[seed])) for seed, chain in chains.items()],
        ablations={name: ablation(name, list(chains.values())) for name in ABLATIONS} if config.full else {},
        reward_rank_pearson=pearson([point.rank for point in ranks], [point.accuracy for point in ranks]),
        reward_ranks=ranks,
        held_out=evaluation(chains[seeds[0]], "gold").problems,
        corpus=SHARES,
        recipe=recipe.model_dump(mode="json"),
        versions={"python": platform.python_version()} | {package: version(package) for package in PACKAGES},
    )


def seed_result(chain: Chain, ledger: Ledger) -> SeedResult:
    """What the folder of one seed holds."""
    names = ("base", *STUDENTS, *(TRANSFER + teacher for teacher in TEACHERS))
    found = {name: evaluation(chain, name).pass_at_1 for name in names}
    before, after = (read_explanations(chain.scores(teacher), RLT) for teacher in TEACHERS)
    return SeedResult(
        seed=chain.seed,
        accuracy={name: found[name].value for name in STUDENTS},
        transfer={teacher: found[TRANSFER + teacher].value for teacher in TEACHERS},
        untaught=found["base"].value,
        intervals={name: _ends(estimate) for name, estimate in found.items()},
        styles_before=shares(before),
        styles_after=shares(after),
        reward_by_style=reward_by_style(before),
        steps=read_steps(Path(chain.model("rlt_teacher")) / "metrics.jsonl"),
        examples=[example(*pair) for pair in zip(before[:EXAMPLES], after[:EXAMPLES], strict=True)],
        cpu_seconds=sum(cost.cpu_seconds for cost in ledger.costs.values()),
        wall_seconds=sum(cost.wall_seconds for cost in ledger.costs.values()),
        phases={name: cost.cpu_seconds for name, cost in ledger.costs.items()},
    )


def evaluation(chain: Chain, name: str) -> EvaluationReport:
    """The report that `rlt evaluate` left under a name."""
    text = (Path(chain.evaluation(name)) / "report.json").read_text(encoding="utf-8")
    return EvaluationReport.model_validate_json(text)


def _ends(estimate: Estimate) -> tuple[float, float]:
    return estimate.low, estimate.high


def shares(rows: Sequence[Explanation]) -> dict[Style, float]:
    """The share of each style among explanations."""
    return style_shares([(row.question, row.solution, row.explanation) for row in rows])


def _style(row: Explanation) -> Style:
    return style_of(Problem(question=row.question, solution=row.solution), row.explanation)


def reward_by_style(rows: Sequence[Explanation]) -> dict[Style, StyleReward]:
    """Share, mean reward and mean terms of each style that occurs among scored explanations."""
    scores = defaultdict(list)
    for row in rows:
        if row.score is not None:
            scores[_style(row)].append(row.score)
    return {
        style: StyleReward(
            share=len(scores[style]) / len(rows),
            reward=fmean(score.reward for score in scores[style]),
            rss=fmean(score.rss for score in scores[style]),
            rkl=fmean(score.rkl or 0.0 for score in scores[style]),
        )
        for style in STYLES
        if scores[style]
    }


def read_steps(metrics: Path) -> list[Step]:
    """The steps of RL that a metrics.jsonl holds."""
    lines = metrics.read_text(encoding="utf-8").splitlines()
    return [_step(entry) for entry in map(json.loads, lines) if "reward" in entry]


def _step(entry: Mapping[str, Any]) -> Step:
    return Step(
        step=entry["step"],
        reward=entry["reward"],
        rss=entry["rss/total"],
        rkl=entry["rkl/total"],
        styles={style: entry[STYLE_METRIC + style] for style in STYLES},
    )


def example(before: Explanation, after: Explanation) -> Example:
    """Two explanations of one problem side by side."""
    assert before.problem_id == after.problem_id, "both teachers explain the same problems in the same order"
    return Example(question=before.question, solution=before.solution, before=_written(before), after=_written(after))


def _written(row: Explanation) -> Written:
    assert row.score is not None, "no problem of the toy world is unscorable"
    return Written(text=row.explanation, style=_style(row), reward=row.score.reward)


def ablation(name: str, chains: Sequence[Chain]) -> Ablation:
    """What one ablation found, for each seed and as the mean over them."""
    by_seed = {chain.seed: _figures(name, chain) for chain in chains}
    leaks = [found.leak_share for found in by_seed.values() if found.leak_share is not None]
    return Ablation(
        accuracy=fmean(found.accuracy for found in by_seed.values()),
        leak_share=fmean(leaks) if leaks else None,
        by_seed=by_seed,
    )


def _figures(name: str, chain: Chain) -> Figures:
    accuracy = evaluation(chain, name).pass_at_1.value
    if name == OUTCOME_RL:
        return Figures(accuracy=accuracy, leak_share=None)
    rows = read_explanations(chain.explanations(name.removeprefix(OTHER_STUDENT)), RLT)
    return Figures(accuracy=accuracy, leak_share=shares(rows)["leak"])


def rank_points(chain: Chain) -> list[RankPoint]:
    """Each quarter of a seed's candidates: its rank, 4 the highest, its mean reward and its student's accuracy."""
    rewards = _quarter_rewards(read_explanations(chain.scores(CANDIDATES), RLT))
    return [
        RankPoint(
            seed=chain.seed,
            rank=len(QUARTILES) - place,
            reward=rewards[place],
            accuracy=evaluation(chain, name).pass_at_1.value,
        )
        for place, name in enumerate(QUARTILES)
    ]


def _quarter_rewards(candidates: Sequence[Explanation]) -> list[float]:
    groups = defaultdict(list)
    for row in candidates:
        if row.score is not None:
            groups[row.problem_id].append((row, row.score))
    ranked = [sorted(group, key=lambda pair: pair[1].reward, reverse=True) for group in groups.values()]
    return [
        fmean(score.reward for group in ranked for _, score in quarter(group, place)) for place in range(len(QUARTILES))
    ]


def pearson(one: Sequence[float], other: Sequence[float]) -> float | None:
    """The correlation of two series; None where it is not defined, since one is empty or constant.

    >>> round(pearson([1, 2, 3], [2, 4, 6]) or 0, 6), pearson([1, 2], [3, 3])
    (1.0, None)
    """
    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(stats.pearsonr(one, other).statistic)


def write_json(report: DemoReport, path: Path) -> None:
    """Writes report.json, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        file.write(report.model_dump_json(indent=2) + "\n")
