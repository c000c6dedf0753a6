"""A case: one recipe with its models on a number of GPUs, and which of these samples, reads and trains.

    1 GPU           samples, reads and trains; vLLM is inside the process that trains
    vllm            every GPU does all three
    vllm-server     some sample (TRL's server: one engine, on one machine), the others train; the student's servers may
                    have GPUs of their own

As many GPUs train as the batch divides among; the rest would idle.
"""

from dataclasses import dataclass, replace

from teacher.configs import TrainConfig
from teacher.plan.cards import Card
from teacher.plan.shapes import Shape


@dataclass(frozen=True)
class Lengths:
    """Mean tokens, which time depends on; memory is by the longest that the settings allow."""

    prompt: int
    explanation: int


@dataclass(frozen=True)
class Rates:
    """Which share of a card's rates is reached: assumed."""

    training: float
    reading: float
    decoding: float


@dataclass(frozen=True)
class Case:
    """One recipe on a number of GPUs."""

    config: TrainConfig
    teacher: Shape
    student: Shape
    card: Card
    gpus: int
    sampling: int
    """GPUs that do nothing but sample; 0 where those that train do."""
    reading: int
    """GPUs that do nothing but read as the student; 0 where those that train do."""
    per_machine: int
    lengths: Lengths
    rates: Rates
    divided: bool = True
    """By FSDP2, where several GPUs train."""

    @property
    def completions(self) -> int:
        """Explanations a step."""
        return self.config.grpo.prompts_per_step * self.config.grpo.group_size

    @property
    def training(self) -> int:
        """GPUs that train: the most among which the batch divides; 0 where none is left."""
        left, passes = self.gpus - self.sampling - self.reading, self.completions // self.config.grpo.rows_per_device
        return max((count for count in range(1, left + 1) if passes % count == 0), default=0)

    @property
    def idle(self) -> int:
        """GPUs with nothing to do."""
        return self.gpus - self.sampling - self.reading - self.training

    @property
    def parts(self) -> int:
        """Into how many parts the teacher is divided; with an adapter it is not."""
        return max(1, self.training) if self.divided and self.config.lora is None else 1

    @property
    def trained(self) -> int:
        """Parameters that are trained: all, or those of the adapter."""
        lora = self.config.lora
        if lora is None:
            return self.teacher.parameters
        return self.teacher.adapter(lora.rank, attention_only=lora.targets == "attention")

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt with the longest explanation."""
        return self.config.rollout.max_prompt_tokens + self.config.rollout.max_tokens

    def with_grpo(self, **changes: object) -> "Case":
        """The case with other settings of GRPO."""
        grpo = self.config.grpo.model_copy(update=changes)
        return replace(self, config=self.config.model_copy(update={"grpo": grpo}))

    def with_rollout(self, **changes: object) -> "Case":
        """The case with other settings of sampling."""
        rollout = self.config.rollout.model_copy(update=changes)
        return replace(self, config=self.config.model_copy(update={"rollout": rollout}))
