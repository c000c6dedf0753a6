"""The teacher's errors, all of them things a person can mend (see student/errors.py for the root).

TeacherError
├── NoExactKl        the exact KL, asked of a student that cannot give it
├── TooFewProblems   not enough problems for one step
├── ContextTooShort  prompt and explanation do not fit into the teacher
└── RewardHacked     the reward rises together with what it should not reward
"""

from student.errors import RltError


class TeacherError(RltError):
    """Something about training or running a teacher that a person can mend."""


class NoExactKl(TeacherError):
    """The exact KL sums over a vocabulary that both models have, and takes all logits of both."""

    def __init__(self, obstacle: str, remedy: str) -> None:
        super().__init__(f"reward.kl_estimator is 'exact', and {obstacle}; use kl_estimator k1 or k3, or {remedy}")


class TooFewProblems(TeacherError):
    """A step of GRPO needs as many different problems as it has groups."""

    def __init__(self, found: int, needed: int) -> None:
        super().__init__(
            f"{max(0, found)} usable problems, and a step takes {needed} (grpo.prompts_per_step); give more or lower it"
        )


class ContextTooShort(TeacherError):
    """A prompt leaves no room for the longest explanation that may be sampled."""

    def __init__(self, prompt_tokens: int, max_tokens: int, context_tokens: int) -> None:
        room = context_tokens - max_tokens
        prompts = f", or leave longer prompts out with rollout.max_prompt_tokens {room}" if room > 0 else ""
        super().__init__(
            f"rollout: the longest prompt has {prompt_tokens} tokens, and with rollout.max_tokens {max_tokens} that "
            f"does not fit into the teacher's context of {context_tokens}; lower rollout.max_tokens{prompts}"
        )


class RewardHacked(TeacherError):
    """A watchdog of `rlt train` paused the run."""

    def __init__(self, step: int, steps: int, reason: str) -> None:
        super().__init__(
            f"paused after step {step} of {steps}, saved: {reason}; read some explanations (`rlt explain` takes the "
            "checkpoint as --teacher), then run the same command to go on, or begin anew with a larger reward.kl_weight"
        )
