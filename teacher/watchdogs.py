"""What stops a training run that goes wrong while its figures look well.

    RewardHacking   the reward rises, and with it the share of explanations that leak, or the tail of the KL: the run
                    saves, stops and says so; the same command goes on, judged anew from there

Left out: runs that hang or diverge, which student/stalls.py ends; any judgement of a single explanation, which is
student/measures/leaks.py's to say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from student.measures.leaks import LEAKY, find_leaks, leak_score
from student.run_events import note
from student.run_files import SAMPLES
from teacher.configs import TrainConfig
from teacher.errors import RewardHacked
from teacher.grpo import Rollout

LEAKS = "explanation/leaks"
"""The share of explanations that leak, in a step's metrics."""
READ = 64
"""Explanations a step in which leaks are looked for, spread evenly over its problems."""


def leak_share(step: int, rollouts: Sequence[Rollout]) -> Mapping[str, float]:
    """An observer of rollouts: the share of them that give their solution away, by READ of them."""
    some = rollouts[:: -(-len(rollouts) // READ)]
    return {LEAKS: sum(map(_leaks, some)) / len(some)}


def _leaks(rollout: Rollout) -> bool:
    draft = rollout.draft
    return leak_score(find_leaks(draft.question, draft.solution, None, draft.explained.text)) > LEAKY


@dataclass(frozen=True)
class _Sight:
    """What one log entry says."""

    reward: float
    leaks: float
    kl_max: float


class RewardHacking(TrainerCallback):
    """Saves and stops where the reward rises together with leaks or the tail of the KL; `reason` says whether it did.

    The means over the first and the last `window` log entries since the run was started are compared.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.reason: str | None = None
        self._config = config
        self._settings = config.watch
        self._seen: list[_Sight] = []

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Looks at one more entry; the last step's needs no stop."""
        if not logs or "reward" not in logs:
            return
        self._seen.append(_Sight(logs["reward"], logs.get(LEAKS, 0.0), logs["rkl/max"]))
        self.reason = self._judged()
        if self.reason is not None and state.global_step < state.max_steps:
            control.should_save = control.should_training_stop = True

    def raise_if_stopped(self, state: TrainerState) -> None:
        """Notes in the run's folder that it was stopped before its end and raises RewardHacked, where it was."""
        if self.reason is None or state.global_step >= state.max_steps:
            return
        out = Path(self._config.out)
        note(out, "paused", state.global_step, reason=self.reason, watch=self._thresholds())
        raise RewardHacked(state.global_step, state.max_steps, self.reason, " and ".join(self._to_read(out)))

    def _thresholds(self) -> dict[str, float]:
        return self._settings.model_dump(include={"leak_rise", "kl_tail_rise", "window"}, exclude_none=True)

    def _to_read(self, out: Path) -> list[str]:
        """Where explanations are to be had. Checkpoints of an adapter are no models, which `rlt explain` would take."""
        found = [f"{out / SAMPLES} holds some of this run"] if self._settings.sample_steps else []
        if self._config.lora is None:
            found.append("`rlt explain` takes the checkpoint as --teacher")
        return found or ["set watch.sample_steps, and the run keeps some"]

    def _judged(self) -> str | None:
        window = self._settings.window
        if len(self._seen) < 2 * window:
            return None
        first, last = _mean(self._seen[:window]), _mean(self._seen[-window:])
        if last.reward <= first.reward:
            return None
        rises = []
        if self._settings.leak_rise is not None and last.leaks - first.leaks >= self._settings.leak_rise:
            rises.append(f"the share of leaks from {first.leaks:.0%} to {last.leaks:.0%} (watch.leak_rise)")
        if self._settings.kl_tail_rise is not None and last.kl_max - first.kl_max >= self._settings.kl_tail_rise:
            rises.append(f"the largest KL of a token from {first.kl_max:.3g} to {last.kl_max:.3g} (watch.kl_tail_rise)")
        if not rises:
            return None
        return f"the reward rose from {first.reward:.3g} to {last.reward:.3g}, and so did {' and '.join(rises)}"


def _mean(seen: Sequence[_Sight]) -> _Sight:
    return _Sight(*(sum(values) / len(seen) for values in zip(*map(astuple, seen), strict=True)))
