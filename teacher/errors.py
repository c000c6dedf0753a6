"""The teacher's errors, all of them things a person can mend (see student/errors.py for the root).

TeacherError
├── TokenizerMismatch   teacher and student do not read the same tokens
└── TooFewProblems      not enough problems for one step
"""

from student.errors import RltError


class TeacherError(RltError):
    """Something about training or running a teacher that a person can mend."""


class TokenizerMismatch(TeacherError):
    """The per-token KL compares the two models on the same ids."""

    def __init__(self, teacher: str, student: str) -> None:
        super().__init__(
            f"teacher {teacher!r} and student {student!r} have different tokenizers, and rKL compares "
            "them token by token; use a student with the teacher's tokenizer"
        )


class TooFewProblems(TeacherError):
    """A step of GRPO needs as many different problems as it has groups."""

    def __init__(self, found: int, needed: int) -> None:
        super().__init__(
            f"{found} usable problems, and a step takes {needed} (grpo.prompts_per_step); give more or lower it"
        )
