"""GRPO with the student's understanding as the reward: a thin subclass of ours of TRL's trainer.

    advantage = (r - mean of the group) / std of the group,   r = rSS - lambda rKL        (method.md 3 and 4)

TRL (pinned) owns sampling, the loss and scale; that runs go on exactly is student/grpo.py's. Added here, each because
stock TRL lacks it: the policy's own log-probabilities handed to the reward, so that nobody runs the teacher twice;
seconds a phase; the reward on held-out problems. Contract tests pin the hooks used.

Whose log-probabilities the reward gets, the first of these that exist: TRL's own, made before the reward where its
loss corrects for samples of another policy or engine (vLLM, several steps a generation); those noted while sampling
(sampled_logps.py: transformers, on-policy); those of a pass made for nothing else, and `teacher/extra_forwards` is 1.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from student.adapters import base_of
from student.explanations import Score
from student.grpo import ResumableGrpo
from student.rewards import group_spread
from student.scoring.scorer import Scorer
from teacher.held_out import Asked, BestCheckpoint, explain_held_out
from teacher.read_ahead import Group, ReadAhead, generate_by_group
from teacher.reward_model import Draft, RewardModel
from teacher.sampled_logps import sampled_logps
from teacher.stopwatch import Stopwatch


@dataclass(frozen=True)
class Rollout:
    """One explanation sampled during RL, with its score: what observers see."""

    draft: Draft
    score: Score


Observer = Callable[[int, Sequence[Rollout]], Mapping[str, float]]
"""Called with the step and its rollouts after scoring; what it returns is logged as metrics."""


class StudentReward:
    """The reward function that TRL calls: cuts explanations out of completions and has the reward model score them."""

    __name__ = "student"

    def __init__(self, model: RewardModel, observers: Sequence[Observer] = ()) -> None:
        self.model = model
        self.observers = observers

    def __call__(
        self,
        completion_ids: Sequence[Sequence[int]],
        question: Sequence[str],
        solution: Sequence[str],
        teacher_logps: Sequence[Tensor],
        trainer_state: Any,
        log_metric: Callable[[str, float], None],
        **_: Any,
    ) -> list[float]:
        """The reward of each completion; also logs every part of it."""
        explained = [self.model.teacher_format.cut(ids) for ids in completion_ids]
        drafts = [Draft(*row) for row in zip(question, solution, explained, teacher_logps, strict=True)]
        rollouts = [Rollout(draft, score) for draft, score in zip(drafts, self.model.scores(drafts), strict=True)]
        for name, value in self._metrics(trainer_state.global_step, rollouts).items():
            log_metric(name, value)
        return [rollout.score.reward for rollout in rollouts]

    def read_ahead(self, sampled: Sequence[tuple[str, str, Sequence[int]]]) -> None:
        """Has the student read questions, solutions and completions before their reward is asked for (ReadAhead)."""
        cut = self.model.teacher_format.cut
        self.model.sightings([Draft(question, solution, cut(ids)) for question, solution, ids in sampled])

    def _metrics(self, step: int, rollouts: Sequence[Rollout]) -> dict[str, float]:
        explained = [rollout.draft.explained for rollout in rollouts]
        metrics = score_metrics([rollout.score for rollout in rollouts])
        metrics["explanation/tokens"] = _mean([len(each.explanation_ids) for each in explained])
        metrics["explanation/unclosed"] = _mean([not each.closed for each in explained])
        for observer in self.observers:
            metrics.update(observer(step, rollouts))
        return metrics


def score_metrics(scores: Sequence[Score]) -> dict[str, float]:
    """Means over explanations of each part of the reward."""
    return {
        "rss/total": _mean([score.rss for score in scores]),
        "rss/mean": _mean([score.ss_mean for score in scores]),
        "rss/min": _mean([score.ss_min for score in scores]),
        "rkl/total": _mean([score.rkl or 0.0 for score in scores]),
        "rkl/mean": _mean([score.kl_mean or 0.0 for score in scores]),
        "rkl/max": _mean([score.kl_max or 0.0 for score in scores]),
    }


def group_metrics(rewards: Sequence[float], group_size: int) -> dict[str, float]:
    """How far rewards differ inside a group: the mean deviation, and the number of groups that have none."""
    spread = group_spread(rewards, group_size)
    return {
        "group/spread": _mean(spread),
        "group/without_spread": float(sum(deviation == 0 for deviation in spread)),
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(1, len(values))


class TeacherTrainer(ResumableGrpo):
    """GRPO with a `StudentReward`. The rows need `prompt`, `question` and `solution`.

    `prompt_ids` maps each row's `prompt` text to the ids that are really sent to the model.
    """

    def __init__(
        self,
        *,
        reward: StudentReward,
        prompt_ids: Mapping[str, list[int]],
        held_out: Sequence[Asked] = (),
        on_held_out: Callable[[int, Sequence[Rollout]], None] = lambda step, rollouts: None,
        **trl: Any,
    ) -> None:
        self._held_out = held_out
        self._on_held_out = on_held_out
        self._trl_logps: list[Tensor] | None = None
        self._sampled_logps: list[Tensor] | None = None
        self._student_ahead: ReadAhead | None = None
        self._rows_by_prompt: dict[tuple[int, ...], dict[str, Any]] = {}
        super().__init__(prompt_ids=prompt_ids, reward_funcs=[reward], **trl)
        self._reward = reward
        self._stopwatch = Stopwatch(
            self.accelerator.device, lambda name, value: self._metrics["train"][name].append(value)
        )
        self.add_callback(self._stopwatch)
        student = reward.model.student
        if reward.model.config.kl_estimator == "exact":
            assert isinstance(student, Scorer), "the exact KL is of two models in this process"
            reward.model.teacher = Scorer(base_of(self.accelerator.unwrap_model(self.model)), student.settings)
        elif self.use_vllm and self.vllm_mode == "server" and self.accelerator.is_main_process:
            self._read_groups_ahead(reward)

    def _read_groups_ahead(self, reward: StudentReward) -> None:
        """Groups are read as the server answers. Not for the exact KL, which needs both models at once."""
        student = self._student_ahead = ReadAhead(reward.model.student)
        reward.model.student = student

        def read(groups: list[Group]) -> None:
            with self._stopwatch.phase("score_ahead"):
                reward.read_ahead([each for prompt_ids, group in groups for each in self._asked_for(prompt_ids, group)])

        generate_by_group(self.vllm_generation.vllm_client, read)

    def _asked_for(self, prompt_ids: list[int], group: list[list[int]]) -> list[tuple[str, str, list[int]]]:
        """A group with its problem; nothing where it is another process's, since the first one samples for all."""
        row = self._rows_by_prompt.get(tuple(prompt_ids))
        return [] if row is None else [(row["question"], row["solution"], ids) for ids in group]

    def training_step(self, *inputs: Any, **options: Any) -> Tensor:
        """One pass: explanations and their scores where they are due, then the loss and its gradient."""
        with self._stopwatch.phase("loss", without="rollout"):
            loss: Tensor = super().training_step(*inputs, **options)
        return loss

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self._trl_logps = None
        if self._student_ahead:
            self._student_ahead.forget()
            self._rows_by_prompt = {tuple(self._prompt_ids[row["prompt"]]): row for row in inputs}
        with self._stopwatch.phase("rollout"):
            result: dict[str, Any] = super()._generate_and_score_completions(inputs)
        return result

    def _generate(self, prompts: list[str]) -> tuple[Any, ...]:
        with self._stopwatch.phase("generate"):
            result: tuple[Any, ...] = super()._generate(prompts)
        return result

    def _generate_single_turn(self, *inputs: Any, **options: Any) -> tuple[list[list[int]], Any]:
        """Notes the log-probability of each token as transformers samples it."""
        with sampled_logps(base_of(self.accelerator.unwrap_model(self.model)), self.temperature) as noted:
            completion_ids, logps = super()._generate_single_turn(*inputs, **options)
        self._sampled_logps = noted.of(completion_ids)
        return completion_ids, logps

    @property
    def _trl_computes_policy_logps(self) -> bool:
        """TRL's own condition for computing the policy's log-probabilities before the reward."""
        settings = self.args
        steps_per_batch = settings.steps_per_generation * self.num_iterations
        within_a_batch: bool = settings.gradient_accumulation_steps % steps_per_batch != 0
        return within_a_batch or bool(self.use_vllm and self.vllm_importance_sampling_correction)

    def _get_per_token_logps_and_entropies(self, model: Any, *inputs: Any, **options: Any) -> tuple[Any, ...]:
        """Keeps what TRL computes: the first pass over the policy without gradient is the one we want."""
        if torch.is_grad_enabled():
            return self._logps_of(model, *inputs, **options)
        first = self._trl_logps is None and model is self.model and self._trl_computes_policy_logps
        with self._stopwatch.phase("policy_logps" if first else "reference_logps"):
            result = self._logps_of(model, *inputs, **options)
        if first:
            self._trl_logps = list(result[0])
        return result

    def _logps_of(self, *inputs: Any, **options: Any) -> tuple[Any, ...]:
        result: tuple[Any, ...] = super()._get_per_token_logps_and_entropies(*inputs, **options)
        return result

    def _calculate_rewards(
        self, inputs: list[dict[str, Any]], prompts: list[str], completions: list[str], completion_ids: list[list[int]]
    ) -> Tensor:
        """Attaches each completion's teacher log-probabilities, shape (E,), to its row before the reward is called.

        What comes back is of all R explanations of the step, whichever process sampled them.
        """
        for row, logps_T, ids in zip(inputs, self._policy_logps(prompts, completion_ids), completion_ids, strict=True):
            row["teacher_logps"] = logps_T[: len(ids)]
        with self._stopwatch.phase("score"):
            rewards_R1: Tensor = super()._calculate_rewards(inputs, prompts, completions, completion_ids)
        for name, value in group_metrics(rewards_R1[:, 0].tolist(), self.num_generations).items():
            self._log_metric(name, value)
        return rewards_R1

    def _policy_logps(self, prompts: list[str], completion_ids: list[list[int]]) -> list[Tensor]:
        """The policy's log-probabilities of each completion, at least its length each, from whoever has them."""
        known = self._sampled_logps if self._trl_logps is None else self._trl_logps
        self._log_metric("teacher/extra_forwards", float(known is None))
        if known is not None:
            return known
        with self._stopwatch.phase("policy_logps"):
            return list(self._forward_policy([self._prompt_ids[prompt] for prompt in prompts], completion_ids))

    def _forward_policy(self, prompts: list[list[int]], completions: list[list[int]]) -> Tensor:
        """The policy's log-probabilities, shape (B, longest completion), by a pass of its own."""
        longest_prompt, longest = max(map(len, prompts)), max(map(len, completions))
        ids_BT = torch.zeros(len(prompts), longest_prompt + longest, dtype=torch.long)
        mask_BT = torch.zeros_like(ids_BT)
        for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
            start, stop = longest_prompt - len(prompt), longest_prompt + len(completion)
            ids_BT[row, start:stop] = torch.tensor([*prompt, *completion])
            mask_BT[row, start:stop] = 1
        device = self.accelerator.device
        with torch.no_grad():
            logps_BT: Tensor = self._logps_of(
                self.model,
                ids_BT.to(device),
                mask_BT.to(device),
                longest,
                batch_size=self.args.per_device_train_batch_size,
            )[0]
        return logps_BT

    def _held_out_reward(self) -> float:
        """The mean reward on the held-out problems, whose explanations `on_held_out` gets to see; each process takes as
        many of them as the others."""
        accelerator = self.accelerator
        share = len(self._held_out) // accelerator.num_processes
        asked = self._held_out[accelerator.process_index :: accelerator.num_processes][:share]
        found = explain_held_out(asked, self._reward.model, self._sample, self.args.per_device_train_batch_size)
        rollouts = [Rollout(draft, score) for draft, score in found]
        self._on_held_out(self.state.global_step, rollouts)
        rewards = [rollout.score.reward for rollout in rollouts]
        mean: Tensor = accelerator.gather(torch.tensor([_mean(rewards)], device=accelerator.device)).mean()
        return mean.item()

    def _sample(self, prompts: list[list[int]]) -> tuple[list[list[int]], list[Tensor]]:
        """One completion a prompt, sampled as in training, with the policy's log-probabilities."""
        completions, _ = self._generate_single_turn(prompts, None, {}, 1)
        return completions, self._sampled_logps or list(self._forward_policy(prompts, completions))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Measures the held-out reward first: a checkpoint holds the random state that comes after it."""
        folder = Path(self.args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        reward = self._held_out_reward() if self._held_out else None
        super()._save_checkpoint(model, trial)
        if reward is not None and self.accelerator.is_main_process:
            BestCheckpoint(Path(self.args.output_dir)).note(self.state.global_step, reward, folder)
