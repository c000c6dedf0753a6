"""GRPO whatever the reward: TRL's trainer, made to go on exactly where it was stopped, and its options in our words.

    advantage = (r - mean of the group) / std of the group            arXiv 2402.03300

The teacher's RL (teacher/grpo.py) and the student's own (coldstart.py) differ in their reward and their prompts; all
else is here. TRL (pinned) owns sampling, the loss, the reference model and checkpoints. Added, each because stock TRL
lacks it: prompts as exact ids; an order of problems that a resumed run finds again in every epoch; the reference model
in checkpoints; weight transfer to vLLM on a CPU; SIGTERM, and an end to runs that hang or diverge.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel, PrinterCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import RepeatSampler

from student import processes
from student.adapters import base_of
from student.careful_trainer import options_where_divided
from student.checkpoints import last_checkpoint
from student.configs import GrpoSettings, RolloutSettings
from student.engine import context_tokens, sample_seed
from student.engine_vllm import starting_vllm
from student.errors import RltError
from student.interruption import Interrupted, StopOnSigterm
from student.models import quiet, training_device
from student.reference import load_reference, save_reference
from student.row_draws import RowDraws, drawing
from student.run_events import noted
from student.stalls import NotFinite, Stalled
from student.vllm_sync import reload_weights_on_cpu


class TooFewProblems(RltError):
    """A step of GRPO needs as many different problems as it has groups."""

    def __init__(self, found: int, needed: int) -> None:
        super().__init__(
            f"{max(0, found)} usable problems, and a step takes {needed} (grpo.prompts_per_step); give more or lower it"
        )


class ContextTooShort(RltError):
    """A prompt leaves no room for the longest text that may be sampled."""

    def __init__(self, prompt_tokens: int, max_tokens: int, context_tokens: int) -> None:
        room = context_tokens - max_tokens
        prompts = f", or leave longer prompts out with rollout.max_prompt_tokens {room}" if room > 0 else ""
        super().__init__(
            f"rollout: the longest prompt has {prompt_tokens} tokens, and with rollout.max_tokens {max_tokens} that "
            f"does not fit into the model's context of {context_tokens}; lower rollout.max_tokens{prompts}"
        )


class EpochSampler(RepeatSampler):  # type: ignore[misc]  # TRL ships no types
    """TRL's sampler, with an order that depends on the epoch's number alone.

    TRL's draws each epoch's permutation from one generator and has no `set_epoch`, so a run resumed in its second epoch
    replays the first one's order.
    """

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate before each epoch, also when a run is resumed inside it."""
        self.generator.manual_seed(self.seed + epoch)


class ResumableGrpo(GRPOTrainer):  # type: ignore[misc]  # TRL ships no types
    """TRL's GRPO trainer that goes on exactly. The rows need `prompt`, and whatever the reward function reads.

    `prompt_ids` maps each row's `prompt` text to the ids that are really sent to the model. With `draw_by_row` what
    transformers samples does not depend on the number of processes (row_draws.py).
    """

    def __init__(self, *, prompt_ids: Mapping[str, list[int]], draw_by_row: bool = False, **trl: Any) -> None:
        self._prompt_ids = prompt_ids
        self._draw_by_row = draw_by_row
        super().__init__(**trl)
        self.remove_callback(PrinterCallback)
        if self.use_vllm and self.vllm_mode == "colocate" and self.accelerator.device.type == "cpu":
            reload_weights_on_cpu(self.vllm_generation)

    def run(self, verb: str, no_progress_minutes: float) -> None:
        """Trains to the end, from the last checkpoint on if there is one.

        Raises Interrupted after SIGTERM, Diverged before a gradient that is no number; ends the process of `rlt VERB`
        where no step ends for so many minutes.
        """
        stop, stalled = StopOnSigterm(), Stalled(verb, no_progress_minutes)
        for callback in (stop, stalled, NotFinite()):
            self.add_callback(callback)
        checkpoint = last_checkpoint(Path(self.args.output_dir))
        with noted(self):
            try:
                with quiet():
                    self.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
            finally:
                stop.restore()
                stalled.close()
            if stop.stopped:
                raise Interrupted(self.state.global_step, self.state.max_steps)

    def _send_telemetry(self) -> None:
        """Nobody is told that this trainer was made."""

    def create_model_card(self, *names: Any, **options: Any) -> None:
        """TRL's card, which would name neither the data nor the base, is not written."""

    def _get_train_sampler(self, dataset: Dataset | None = None) -> EpochSampler:
        theirs = super()._get_train_sampler(dataset)
        return EpochSampler(
            data_source=theirs.data_source,
            mini_repeat_count=theirs.mini_repeat_count,
            batch_size=theirs.batch_size,
            repeat_count=theirs.repeat_count,
            shuffle=theirs.shuffle,
            seed=theirs.seed,
        )

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        """Exact ids instead of text tokenised again: what a model learnt and what it is asked agree to the token."""
        return [self._prompt_ids[prompt] for prompt in prompts], None, {}

    def _generate_single_turn(
        self, prompt_ids: list[list[int]], images: Any, multimodal_fields: Any, num_generations: int, **options: Any
    ) -> tuple[list[list[int]], Any]:
        """Each sample drawn from its own seed, where that is asked for."""
        model, rest = base_of(self.accelerator.unwrap_model(self.model)), (images, multimodal_fields, num_generations)
        with drawing(model, self._row_draws(prompt_ids, num_generations)) if self._draw_by_row else nullcontext():
            sampled: tuple[list[list[int]], Any] = super()._generate_single_turn(prompt_ids, *rest, **options)
        return sampled

    def _row_draws(self, prompt_ids: list[list[int]], group_size: int) -> RowDraws:
        """A seed a sample, by step, prompt and number: not by the process that makes it."""
        first, step = self.accelerator.process_index * len(prompt_ids), self.state.global_step
        seeds = [
            sample_seed(self.args.seed, f"{step} {ids}", (first + row) % group_size)
            for row, ids in enumerate(prompt_ids)
        ]
        return RowDraws(seeds, self.accelerator.device)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Adds the reference model, which TRL forgets: after a sync it is not the model the run began with."""
        folder = Path(self.args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        if self.ref_model is not None:
            reference = self.accelerator.unwrap_model(self.ref_model)
            save_reference(reference, folder, writes=self.accelerator.is_main_process)
        super()._save_checkpoint(model, trial)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Loads the reference model too: this is called however the processes divide the models, unlike
        `_load_from_checkpoint`, which DeepSpeed does without.
        """
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None and self.ref_model is not None:
            load_reference(self.accelerator.unwrap_model(self.ref_model), Path(checkpoint))


def making_trainer(rollout: RolloutSettings) -> AbstractContextManager[None]:
    """What a trainer is made in, where that may start a vLLM."""
    return starting_vllm() if rollout.engine == "vllm" else nullcontext()


def refuse_beyond_context(prompts: Mapping[str, Sequence[int]], rollout: RolloutSettings, context: int | None) -> None:
    """Raises ContextTooShort where the longest sample after the longest prompt is more than the model holds."""
    longest = max(map(len, prompts.values()))
    if context is not None and longest + rollout.max_tokens > context:
        raise ContextTooShort(longest, rollout.max_tokens, context)


def vllm_tokens(rollout: RolloutSettings, context: int | None) -> int:
    """The longest sequence that vLLM makes room for; it refuses to start with more than the model's context."""
    wanted = rollout.max_prompt_tokens + rollout.max_tokens
    return wanted if context is None else min(wanted, context)


def grpo_options(
    grpo: GrpoSettings,
    rollout: RolloutSettings,
    model: PreTrainedModel,
    *,
    out: str,
    temperature: float,
    dtype: str,
    tracker: str,
) -> GRPOConfig:
    """Our recipe in TRL's words; every default of TRL that differs from the paper is set (trl's names on the left)."""
    device = training_device(model)
    on_cuda = device.type == "cuda"
    accumulation = accumulation_steps(grpo)
    return GRPOConfig(
        output_dir=out,
        max_steps=grpo.steps,
        per_device_train_batch_size=grpo.rows_per_device,
        gradient_accumulation_steps=accumulation,
        num_generations=grpo.group_size,
        steps_per_generation=accumulation * grpo.steps_per_generation,
        max_completion_length=rollout.max_tokens,
        temperature=temperature,
        top_p=rollout.top_p,
        learning_rate=grpo.learning_rate,
        lr_scheduler_type={"constant": "constant_with_warmup"}.get(grpo.schedule, grpo.schedule),
        warmup_steps=grpo.warmup_steps,
        max_grad_norm=grpo.max_grad_norm,
        optim="adamw_torch",
        beta=grpo.beta,
        use_bias_correction_kl=False,
        sync_ref_model=grpo.beta > 0 and grpo.reference_sync_steps > 0,
        ref_model_sync_steps=grpo.reference_sync_steps or 1,
        ref_model_mixup_alpha=grpo.reference_mixup,
        loss_type=grpo.loss,
        scale_rewards=grpo.scale_rewards,
        bf16=on_cuda and dtype in ("auto", "bfloat16"),
        use_cpu=device.type == "cpu",
        gradient_checkpointing=grpo.gradient_checkpointing,
        use_vllm=rollout.engine != "transformers",
        vllm_mode="server" if rollout.engine == "vllm-server" else "colocate",
        vllm_server_base_url=rollout.server_url if rollout.engine == "vllm-server" else None,
        vllm_gpu_memory_utilization=rollout.gpu_memory_fraction,
        vllm_max_model_length=vllm_tokens(rollout, context_tokens(model.config)),
        # Per token: TRL's default drops whole sequences whose *product* of ratios is large, a tenth of long ones.
        vllm_importance_sampling_mode="token_truncate",
        save_steps=grpo.save_steps,
        save_total_limit=grpo.keep_checkpoints,
        logging_steps=grpo.log_steps,
        report_to="none" if tracker == "none" else tracker,
        disable_tqdm=True,
        ddp_find_unused_parameters=False,
        seed=grpo.seed,
        dataloader_pin_memory=on_cuda,
        **options_where_divided(),
    )


def accumulation_steps(grpo: GrpoSettings) -> int:
    """Backward passes an optimizer step takes on each device."""
    per_pass = grpo.rows_per_device * processes.count()
    completions = grpo.prompts_per_step * grpo.group_size
    if completions % per_pass:
        raise RltError(
            f"grpo: {grpo.prompts_per_step} prompts x {grpo.group_size} samples do not divide into passes of "
            f"{per_pass} rows (rows_per_device x devices); choose a rows_per_device that does"
        )
    return completions // per_pass
