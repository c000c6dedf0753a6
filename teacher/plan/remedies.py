"""What to change where a case does not fit: each change by itself, or as many of them together as are needed."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import ceil
from typing import NamedTuple

from student.configs import LoraConfig
from teacher.plan.cases import Case
from teacher.plan.memory import FREE, obstacles, student_bytes


class Change(NamedTuple):
    """A change, in the words of the settings, and the case with it."""

    words: str
    case: Case


Remedy = Callable[[Case], Change | None]


def remedies(case: Case) -> list[str]:
    """The changes after each of which the case fits; where none does, those that are needed together; else nothing."""
    single = [made.words for change in CHANGES if (made := change(case)) and not obstacles(made.case)]
    if single:
        return single
    needed = list(CHANGES)
    if obstacles(_after(case, needed).case):
        return []
    for change in reversed(CHANGES):
        others = [each for each in needed if each is not change]
        if not obstacles(_after(case, others).case):
            needed = others
    return [_after(case, needed).words]


def _after(case: Case, changes: Sequence[Remedy]) -> Change:
    words: list[str] = []
    for change in changes:
        if made := change(case):
            words, case = [*words, made.words], made.case
    return Change(" and ".join(words), case)


def _recompute(case: Case) -> Change | None:
    if case.config.grpo.gradient_checkpointing:
        return None
    return Change("--grpo.gradient-checkpointing", case.with_grpo(gradient_checkpointing=True))


def _row_by_row(case: Case) -> Change | None:
    if case.config.grpo.rows_per_device == 1:
        return None
    return Change("--grpo.rows-per-device 1", case.with_grpo(rows_per_device=1))


def _more_for_vllm(case: Case) -> Change | None:
    if case.sampling or case.config.rollout.gpu_memory_fraction >= 0.5:
        return None
    return Change("--rollout.gpu-memory-fraction 0.5", case.with_rollout(gpu_memory_fraction=0.5))


def _student_apart(case: Case) -> Change | None:
    if case.reading or case.gpus == 1:
        return None
    needed = ceil(student_bytes(case) / ((1 - FREE) * case.card.memory))
    return Change(f"--student-gpus {needed} (scoring.urls)", replace(case, reading=needed))


def _sampling_apart(case: Case) -> Change | None:
    if case.sampling or case.gpus == 1:
        return None
    apart = min(case.per_machine, case.gpus // 2)
    return Change(f"--engine vllm-server on {apart} GPUs (rollout.engine)", replace(case, sampling=apart))


def _shorter(case: Case) -> Change | None:
    if case.config.rollout.max_tokens <= 4096:
        return None
    return Change("--rollout.max-tokens 4096", case.with_rollout(max_tokens=4096))


def _no_reference(case: Case) -> Change | None:
    return Change("--grpo.beta 0 (no reference)", case.with_grpo(beta=0.0)) if case.config.grpo.beta > 0 else None


def _adapter(case: Case) -> Change | None:
    if case.config.lora is not None:
        return None
    adapted = case.with_grpo(reference_sync_steps=0)
    config = adapted.config.model_copy(update={"lora": LoraConfig()})
    return Change("--lora.rank 16 (--grpo.reference-sync-steps 0)", replace(adapted, config=config))


CHANGES: tuple[Remedy, ...] = (
    _recompute,
    _row_by_row,
    _more_for_vllm,
    _student_apart,
    _sampling_apart,
    _shorter,
    _no_reference,
    _adapter,
)
"""Those that change no result first."""
