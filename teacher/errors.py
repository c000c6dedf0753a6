"""The teacher's errors, all of them things a person can mend (see student/errors.py for the root).

TeacherError
├── NoExactKl        the exact KL, asked of a student that cannot give it
├── RowDiffers       a row that was made again is another one
└── RewardHacked     the reward rises together with what it should not reward
"""

from student.errors import RltError


class TeacherError(RltError):
    """Something about training or running a teacher that a person can mend."""


class NoExactKl(TeacherError):
    """The exact KL sums over a vocabulary that both models have, and takes all logits of both."""

    def __init__(self, obstacle: str, remedy: str) -> None:
        super().__init__(f"reward.kl_estimator is 'exact', and {obstacle}; use kl_estimator k1 or k3, or {remedy}")


class RowDiffers(TeacherError):
    """A replay that does not match; where it differs, and why it may, is told before."""

    def __init__(self, row: str) -> None:
        super().__init__(f"row {row!r} does not come out the same; mend the first of the causes above and try again")


class RewardHacked(TeacherError):
    """A watchdog of `rlt train` paused the run; `where` is what to read before it goes on."""

    def __init__(self, step: int, steps: int, reason: str, where: str) -> None:
        super().__init__(
            f"paused after step {step} of {steps}, saved: {reason}; read some explanations ({where}), then run the "
            "same command to go on, or begin anew with a larger reward.kl_weight"
        )
