"""What `rlt demo --full` adds to a seed: what each part of the method is good for, and what does better without it.

    rss_only, rkl_only, lambda_1     RL with other rewards: r = rSS, r = -rKL, r = rSS - rKL
    best_of_n                        no RL: the best of n explanations by the base, by the reward or by a term of it
    quartile_1 ... quartile_4        the base's explanations of a problem by rank of their reward, 1 the highest
    outcome_rl                       no teacher: the base is trained by RL on its own correct answers
    other_student_*                  a student from other weights and texts, taught by the teachers of this seed

Each ends in an evaluation of its name. Transfer to the other family is in every demo.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from student.coldstart import main as coldstart
from student.configs import ColdstartConfig, GrpoSettings, ModelSettings, ProblemSource, ProgressWatch
from student.explanations import Explanation, Score, read_explanations
from student.problem_files import whole_file
from student.tags import RLT
from teacher.demo.chain import TEACHERS, Chain
from teacher.demo.phases import Phase
from teacher.demo.settings import Recipe

CANDIDATES = "candidates"
"""The base's explanations to choose among."""
SAMPLES = 16
"""Candidates a problem."""
QUARTILES = ("quartile_1", "quartile_2", "quartile_3", "quartile_4")
OUTCOME_RL = "outcome_rl"
OTHER_STUDENT = "other_student_"
"""What names of the other student begin with; the teacher's name follows."""
OTHER_SEED = 1000
"""Added to a seed for its other student, so that no two seeds share one."""


class Pick(NamedTuple):
    """Which of a problem's candidates is taken: the best by `value` among the first `of`."""

    of: int
    value: Callable[[Score], float]


def by_reward(score: Score) -> float:
    """The full reward."""
    return score.reward


def by_rss(score: Score) -> float:
    """rSS alone."""
    return score.rss


def by_rkl(score: Score) -> float:
    """-rKL alone."""
    assert score.rkl is not None, "candidates are scored with their teacher"
    return -score.rkl


PICKS = {
    **{f"best_of_{n}": Pick(n, by_reward) for n in (2, 4, 8, SAMPLES)},
    f"best_of_{SAMPLES}_by_rss": Pick(SAMPLES, by_rss),
    f"best_of_{SAMPLES}_by_rkl": Pick(SAMPLES, by_rkl),
}


@dataclass(frozen=True)
class Ablations:
    """The further phases of a seed; `recipe` is the one that is not placed yet, `folder` the seed's."""

    chain: Chain
    recipe: Recipe
    folder: Path

    def phases(self) -> list[Phase]:
        """All of them; the chain's own phases must have run."""
        return [
            *(phase for name, reward in self.rewards().items() for phase in self.other_reward(name, reward)),
            *self.selections(),
            *self.outcome_rl(),
            *self.other_student(),
        ]

    def rewards(self) -> dict[str, dict[str, float]]:
        """The changed weights of each other reward."""
        weight = self.chain.recipe.train.reward.ss_weight
        return {"rss_only": {"kl_weight": 0.0}, "rkl_only": {"ss_weight": 0.0}, "lambda_1": {"kl_weight": weight}}

    def other_reward(self, name: str, reward: Mapping[str, float]) -> list[Phase]:
        """RL with that reward, then explanations and a student as in the chain."""
        return [self.chain.train(name, reward), self.chain.explain(name), *self.chain.student(name)]

    def selections(self) -> list[Phase]:
        """Students of explanations chosen by their scores among many by the base."""
        base = self.chain.model("base")
        return [
            self.chain.explain(CANDIDATES, model=base, samples=SAMPLES),
            self.chain.score(CANDIDATES, base, SAMPLES),
            Phase(f"choose among {CANDIDATES}", 3, self._choose),
            *(phase for name in (*PICKS, *QUARTILES) for phase in self.chain.student(name)),
        ]

    def outcome_rl(self) -> list[Phase]:
        """The base trained on its own right answers."""
        config = cold_start(self.chain, OUTCOME_RL, self.chain.model("base"))
        return [
            Phase(f"train {OUTCOME_RL}", 40, lambda: coldstart(config)),
            self.chain.evaluate(OUTCOME_RL, config.out),
        ]

    def other_student(self) -> list[Phase]:
        """Another base, warmed up on other texts from other weights, distilled on what this seed's teachers wrote."""
        seed = self.chain.seed + OTHER_SEED
        other = Chain(self.recipe.placed(self.folder / "other_student", seed), seed)
        return [
            *(Phase(f"{phase.name} (other student)", phase.seconds, phase.run) for phase in other.base_phases()),
            *(
                phase
                for teacher in TEACHERS
                for phase in self.chain.student(
                    OTHER_STUDENT + teacher, self.chain.explanations(teacher), other.model("base")
                )
            ),
        ]

    def _choose(self) -> None:
        candidates = read_explanations(self.chain.scores(CANDIDATES), RLT)
        for name, rows in chosen(candidates, self.chain.seed).items():
            with whole_file(Path(self.chain.explanations(name))) as file:
                file.writelines(f"{row.model_dump_json()}\n" for row in rows)


def cold_start(chain: Chain, name: str, student: str) -> ColdstartConfig:
    """RL of a student on its own right answers, with the settings and the problems of the teacher's RL."""
    train, evaluate = chain.recipe.train, chain.recipe.evaluate
    shared = train.model_dump(include={*ProblemSource.model_fields, *ModelSettings.model_fields, "tags", "tracker"})
    return ColdstartConfig(
        **shared,
        student=student,
        out=chain.student_folder(name),
        grading=evaluate.grading,
        temperature=train.reward.temperature,
        grpo=GrpoSettings(**train.grpo.model_dump(exclude={"held_out"})),
        rollout=train.rollout.model_copy(update={"max_tokens": evaluate.sampling.max_tokens}),
        watch=ProgressWatch(no_progress_minutes=train.watch.no_progress_minutes),
    )


def chosen(candidates: Sequence[Explanation], seed: int) -> dict[str, list[Explanation]]:
    """For each name of PICKS and QUARTILES one explanation a problem; a problem's candidates stand together.

    A quartile's explanation is drawn at random from that quarter of its problem's candidates, so that the four sets
    differ in nothing but the reward.
    """
    rng = random.Random(f"quartiles {seed}")
    sets: dict[str, list[Explanation]] = {name: [] for name in (*PICKS, *QUARTILES)}
    for _, group in groupby(candidates, key=lambda row: row.problem_id):
        scored = [(row, row.score) for row in group if row.score is not None]
        for name, pick in PICKS.items():
            sets[name].append(best(scored[: pick.of], pick.value))
        ranked = sorted(scored, key=lambda pair: pair[1].reward, reverse=True)
        for place, name in enumerate(QUARTILES):
            sets[name].append(rng.choice(quarter(ranked, place))[0])
    return sets


def best(scored: Sequence[tuple[Explanation, Score]], value: Callable[[Score], float]) -> Explanation:
    """The explanation whose score is worth most, the first of equals."""
    return max(scored, key=lambda pair: value(pair[1]))[0]


def quarter(ranked: Sequence[tuple[Explanation, Score]], place: int) -> Sequence[tuple[Explanation, Score]]:
    """The quarter number `place`, from 0, of a problem's candidates in the order of their reward."""
    size = len(ranked) / len(QUARTILES)
    return ranked[round(place * size) : max(round((place + 1) * size), round(place * size) + 1)]
