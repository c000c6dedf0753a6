"""The ways of computing the same rewards that are held against each other.

reference                  benchmarks/reference_algorithm.py
reference, no collection   the same without a garbage collection an explanation
ours                       as in RL: the teacher's log-probabilities are known from sampling or the loss
ours, teacher read         the teacher reads its own texts too, as in `rlt score`
ours, padded rows          nothing packed, no beginning shared (ScoringSettings.pack)
ours, exact KL             summed over the vocabulary: another reward, so only its cost is compared
"""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from student.configs import ScoringSettings
from student.errors import ConfigError
from student.scoring.scorer import Scorer
from student.tags import RLT
from teacher.bench.workload import REWARD, World
from teacher.reward_model import Draft, RewardModel

REFERENCE, UNCOLLECTED = "reference", "reference, no collection"
OURS, READ, ROWS, EXACT = "ours", "ours, teacher read", "ours, padded rows", "ours, exact KL"

REFERENCE_FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "reference_algorithm.py"

Variant = Callable[[Sequence[Draft]], list[float]]
"""Drafts whose teacher log-probabilities are known -> rewards."""


class Variants:
    """All of them on one student and one teacher, by name."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._packed = [Scorer(model, ScoringSettings()) for model in (world.student, world.teacher)]
        self._rows = Scorer(world.student, ScoringSettings(pack=False))
        self.collection_seconds = 0.0
        """CPU seconds that the reference spent collecting garbage in its last run."""

    def __getitem__(self, name: str) -> Variant:
        student, teacher = self._packed
        made: dict[str, Callable[[], Variant]] = {
            REFERENCE: lambda: self._reference(collect=True),
            UNCOLLECTED: lambda: self._reference(collect=False),
            OURS: lambda: self._ours(student),
            READ: lambda: _forgetting(self._ours(student, teacher)),
            ROWS: lambda: self._ours(self._rows),
            EXACT: lambda: self._ours(student, teacher, exact=True),
        }
        return made[name]()

    def teacher_logps(self, drafts: Sequence[Draft]) -> list[Tensor]:
        """The teacher's log-probabilities of each explanation, which the other variants are handed."""
        form = self._world.teacher_format
        passages = [form.passage(draft.question, draft.solution, draft.explained.explanation_ids) for draft in drafts]
        return [logps.explanation_E for logps in self._packed[1].logps(passages, REWARD.temperature)]

    def _ours(self, student: Scorer, teacher: Scorer | None = None, *, exact: bool = False) -> Variant:
        config = REWARD.model_copy(update={"kl_estimator": "exact"}) if exact else REWARD
        world = self._world
        reward_model = RewardModel(world.teacher_format, world.student_format, student, config, teacher)
        return lambda drafts: [score.reward for score in reward_model.scores(drafts)]

    def _reference(self, *, collect: bool) -> Variant:
        module = load_reference()
        world = self._world

        def rewards(drafts: Sequence[Draft]) -> list[float]:
            algorithm = module.ReferenceAlgorithm(
                world.student, world.teacher, world.tokenizer, RLT, REWARD, collect=collect
            )
            samples = [
                module.Sampled(draft.question, draft.solution, draft.explained.explanation_ids) for draft in drafts
            ]
            result: list[float] = algorithm.rewards(samples)
            self.collection_seconds = algorithm.collection_seconds
            return result

        return rewards


def _forgetting(variant: Variant) -> Variant:
    """The variant, but the teacher's log-probabilities are taken from the drafts: they must be computed."""
    return lambda drafts: variant([replace(draft, teacher_logps_E=None) for draft in drafts])


def load_reference() -> Any:
    """The module benchmarks/reference_algorithm.py, which is no part of the package; raises ConfigError without it."""
    if not REFERENCE_FILE.is_file():
        raise ConfigError(
            "bench score: benchmarks/reference_algorithm.py is not installed with the package; run it in a checkout of "
            "the repository (`make bench`)"
        )
    spec = importlib.util.spec_from_file_location("reference_algorithm", REFERENCE_FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
