"""`rlt plan`: what a recipe's RL takes on some numbers of GPUs, from a stated model; runs nothing, loads no model."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from student.config import read_table, resolve_recipe, validated
from student.errors import ConfigError
from teacher.configs import PlanConfig, TrainConfig
from teacher.plan.cards import CARDS
from teacher.plan.cases import Case, Lengths, Rates
from teacher.plan.memory import FREE, cache_bytes, obstacles, training_memory
from teacher.plan.remedies import remedies
from teacher.plan.seconds import rows_at_once, step_seconds
from teacher.plan.shapes import shape_of


def main(config: PlanConfig) -> None:
    """Carries out `rlt plan`; raises RltError where the recipe or a shape cannot be read."""
    recipe = recipe_settings(config)
    cases = [case_of(config, recipe, gpus) for gpus in config.gpus]
    print(heading(cases[0]))
    for case in cases:
        print()
        print(told(case))
    if config.out:
        Path(config.out).write_text(json.dumps([figures(case) for case in cases], indent=2) + "\n", encoding="utf-8")


def recipe_settings(config: PlanConfig) -> TrainConfig:
    """The [train] table of the recipe; raises ConfigError where it has none."""
    path = resolve_recipe(config.recipe)
    table = read_table(path, "train")
    if not table:
        raise ConfigError(f"{path}: has no [train] table, which is what is planned; choose another recipe")
    return validated(TrainConfig, {"problems": "unread", **table}, f"{path} [train]")


def case_of(config: PlanConfig, recipe: TrainConfig, gpus: int) -> Case:
    """The recipe on so many GPUs. One GPU has vLLM in the process, whatever the recipe says."""
    teacher = shape_of(config.model or recipe.teacher, "--model" if config.model else "the recipe's teacher; --model")
    engine = "vllm" if gpus == 1 else config.engine or recipe.rollout.engine
    if engine == "transformers":
        engine = "vllm"
    apart = min(config.machine, gpus // 2) if config.sampling_gpus is None else config.sampling_gpus
    return Case(
        config=recipe,
        teacher=teacher,
        student=shape_of(config.student, "--student") if config.student else teacher,
        card=CARDS[config.card],
        gpus=gpus,
        sampling=apart if engine == "vllm-server" else 0,
        reading=config.student_gpus if gpus > 1 else 0,
        per_machine=config.machine,
        lengths=Lengths(config.prompt_tokens, min(config.explanation_tokens, recipe.rollout.max_tokens)),
        rates=Rates(config.training_share, config.reading_share, config.decoding_share),
    )


def heading(case: Case) -> str:
    """What is planned, and by which assumptions."""
    grpo, card, rates = case.config.grpo, case.card, case.rates
    return (
        f"{case.teacher.name} ({case.teacher.parameters / 1e9:.2f} B) taught by a student {case.student.name} "
        f"({case.student.parameters / 1e9:.2f} B): {grpo.prompts_per_step} x {grpo.group_size} explanations a step\n"
        f"{card.name}: {card.memory / 1e9:.0f} GB, {card.flops / 1e12:.0f} TFLOP/s, {card.bandwidth / 1e12:.2f} TB/s "
        f"({card.source})\n"
        f"assumed: {rates.training:.0%} of the FLOP in training, {rates.reading:.0%} in reading, {rates.decoding:.0%} "
        f"of the bandwidth in decoding\n"
        f"{case.lengths.prompt} + {case.lengths.explanation} tokens a row in the mean, {case.longest} at most; "
        "nothing of this was run"
    )


def told(case: Case) -> str:
    """The case in lines: who does what, memory, seconds, verdict."""
    lines = [f"{case.gpus} x {case.card.name}: {_division(case)}"]
    found = obstacles(case)
    if case.training:
        memory = training_memory(case)
        lines += [f"  {part:<24} {size / 1e9:8.1f} GB" for part, size in memory.items()]
        total, room = sum(memory.values()), (1 - FREE) * case.card.memory
        lines.append(f"  {'a GPU that trains':<24} {total / 1e9:8.1f} GB of {room / 1e9:.1f}")
    if found:
        known = remedies(case) or ["more or larger GPUs: no other change that is known here suffices"]
        lines += [f"  does not fit: {obstacle}" for obstacle in found]
        return "\n".join([*lines, *(f"  fits with {each}" for each in known)])
    seconds = step_seconds(case)
    lines += [f"  {phase:<24} {taken:8.1f} s" for phase, taken in seconds.items()]
    lines.append(f"  {'a step':<24} {sum(seconds.values()):8.1f} s, {rows_at_once(case):.0f} rows at once an engine")
    return "\n".join([*lines, "  fits"])


def _division(case: Case) -> str:
    apart = [f"{case.sampling} sample", f"{case.reading} read"] if case.sampling or case.reading else []
    shares = [share for share in apart if not share.startswith("0 ")]
    trains = f"{case.training} train" if case.sampling else f"{case.training} sample and train"
    divided = f", the teacher in {case.parts} parts" if case.parts > 1 else ""
    return ", ".join([*shares, trains, *([f"{case.idle} idle"] if case.idle else [])]) + divided


def figures(case: Case) -> dict[str, Any]:
    """The case as numbers: bytes, and seconds where it fits."""
    found = obstacles(case)
    return {
        "teacher": case.teacher.name,
        "student": case.student.name,
        "gpus": {"all": case.gpus, "sampling": case.sampling, "reading": case.reading, "training": case.training},
        "lengths": asdict(case.lengths),
        "memory": training_memory(case) if case.training else {},
        "cache": cache_bytes(case),
        "obstacles": found,
        "remedies": remedies(case) if found else [],
        "seconds": {} if found else step_seconds(case),
    }
