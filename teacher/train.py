"""`rlt train`: a teacher learns by GRPO to write the explanations from which a frozen student understands most.

Reads problems, builds prompts, runs teacher/grpo.py, saves the teacher. Started again with the same settings it goes on
from its last checkpoint, exactly; SIGTERM saves one at the end of the step under way.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import GRPOConfig

from student import processes
from student.adapters import peft_config
from student.careful_trainer import save_trained
from student.configs import ModelSettings
from student.engine import context_tokens
from student.errors import ScoringError
from student.grpo import TooFewProblems, grpo_options, making_trainer, refuse_beyond_context
from student.metrics import MetricsFile, ProgressBar
from student.models import load_pair, quiet, resolve_dtype, training_settings
from student.problem_files import read_problems
from student.problems import Problem
from student.reading import StudentFormat
from student.run_files import METRICS
from student.run_folder import begin, finish, is_finished
from student.scoring.opening import open_scorer
from student.scoring.protocol import PassageScorer
from student.tags import STYLES
from teacher.configs import TrainConfig
from teacher.grpo import Observer, StudentReward, TeacherTrainer
from teacher.held_out import Asked, asked_of
from teacher.prompts import TeacherFormat
from teacher.reward_model import RewardModel, refuse_exact_kl
from teacher.samples import SampleFile
from teacher.watchdogs import RewardHacking, leak_share


def main(config: TrainConfig, observers: Sequence[Observer] = ()) -> None:
    """Carries out `rlt train`, logging also what observers make of each step's explanations; raises RltError."""
    out = Path(config.out)
    if is_finished(out, config):
        return
    problems = read_problems(config, STYLES[config.tags], out.with_name(out.name + ".skipped.jsonl"))
    teacher, tokenizer = load_pair(config.teacher, held_in(config), to_train=True)
    student, student_tokenizer = open_scorer(config.student, config, config.scoring, config.reward.temperature)
    refuse_exact_kl(config.reward, tokenizer, student_tokenizer, student)
    begin(out, config)
    started = time.monotonic()
    trainer = train(teacher, tokenizer, student, problems, config, observers, student_tokenizer)
    finish(out, {**report(trainer), "problems": len(problems), "seconds": time.monotonic() - started})


def held_in(config: TrainConfig) -> ModelSettings:
    """How the teacher is loaded: in float32, or in its own precision where only an adapter of it is trained."""
    return training_settings(config) if config.lora is None else config


def report(trainer: TeacherTrainer) -> dict[str, float]:
    """Steps, and each part of the reward as the mean of the first and of the last tenth of the log."""
    log = [entry for entry in trainer.state.log_history if "reward" in entry]
    tenth = max(1, len(log) // 10)
    ends = {"first": log[:tenth], "last": log[-tenth:]}
    means = {
        f"{name.replace('/', '_')}_{end}": sum(entry[name] for entry in entries) / len(entries)
        for name in ("reward", "rss/total", "rkl/total")
        for end, entries in ends.items()
    }
    return {"steps": trainer.state.global_step, **means}


@dataclass(frozen=True)
class Prompts:
    """The rows that TRL trains on, the exact ids behind each row's text, and how many problems were left out."""

    rows: Dataset
    ids: dict[str, list[int]]
    too_long: int
    unusable: int


def train(
    teacher: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    student: PassageScorer,
    problems: Sequence[Problem],
    config: TrainConfig,
    observers: Sequence[Observer] = (),
    student_tokenizer: PreTrainedTokenizerBase | None = None,
) -> TeacherTrainer:
    """Trains `teacher` in place and saves it as `config.out`; returns the trainer, whose `state` holds the log.

    The student's tokenizer is the teacher's by default. Raises RltError where the problems or settings do not do.
    """
    teacher_format = TeacherFormat(tokenizer, STYLES[config.tags], end_ids(teacher))
    student_format = StudentFormat(student_tokenizer or tokenizer, STYLES[config.tags])
    prompts = build_prompts(problems, teacher_format, student_format, student.max_tokens, config)
    refuse_beyond_context(prompts.ids, config.rollout, context_tokens(teacher.config))
    trained, held_out = set_aside(prompts, config)
    model = RewardModel(teacher_format, student_format, student, config.reward)
    samples = SampleFile(Path(config.out), config.watch.sample_steps)
    watchers = [leak_share, *observers] if config.watch.leak_rise is not None else observers
    reward = StudentReward(model, [*watchers, samples])
    hacking = RewardHacking(config)
    with quiet(), making_trainer(config.rollout):
        trainer = TeacherTrainer(
            reward=reward,
            prompt_ids=prompts.ids,
            held_out=held_out,
            on_held_out=samples.held_out,
            draw_by_row=config.rollout.draws == "sample",
            model=teacher,
            args=trl_config(config, teacher),
            peft_config=peft_config(config.lora),
            train_dataset=trained,
            processing_class=tokenizer,
            callbacks=[hacking, samples, MetricsFile(Path(config.out) / METRICS), ProgressBar("train")],
        )
    trainer.run("train", config.watch.no_progress_minutes)
    hacking.raise_if_stopped(trainer.state)
    save_trained(trainer, Path(config.out), resolve_dtype(config, teacher.device))
    return trainer


def build_prompts(
    problems: Sequence[Problem],
    teacher_format: TeacherFormat,
    student_format: StudentFormat,
    student_tokens: int | None,
    config: TrainConfig,
) -> Prompts:
    """Every problem as a prompt; those too long for the teacher or the student are left out, counted and reported."""
    rows: list[dict[str, str]] = []
    ids: dict[str, list[int]] = {}
    too_long = unusable = 0
    for problem in problems:
        try:
            prompt = teacher_format.prompt_ids(problem.question, problem.solution)
            student_format.read(problem.question, [], problem.solution, student_tokens)
        except ScoringError as error:
            unusable += 1
            processes.tell(f"problem {problem.id} left out: {error}")
            continue
        if len(prompt) > config.rollout.max_prompt_tokens:
            too_long += 1
            continue
        text = str(teacher_format.tokenizer.decode(prompt))
        ids[text] = prompt
        rows.append({"prompt": text, "question": problem.question, "solution": problem.solution})
    if too_long:
        limit = config.rollout.max_prompt_tokens
        processes.tell(f"{too_long} problems left out: their prompt is longer than {limit} tokens")
    trained = len(rows) - config.grpo.held_out
    if trained < config.grpo.prompts_per_step:
        raise TooFewProblems(trained, config.grpo.prompts_per_step)
    return Prompts(Dataset.from_list(rows), ids, too_long, unusable)


def set_aside(prompts: Prompts, config: TrainConfig) -> tuple[Dataset, list[Asked]]:
    """The rows to train on, and the last `grpo.held_out` as problems to measure the reward on."""
    rows, trained = prompts.rows.to_list(), len(prompts.rows) - config.grpo.held_out
    return Dataset.from_list(rows[:trained]), asked_of(rows[trained:], prompts.ids)


def trl_config(config: TrainConfig, teacher: PreTrainedModel) -> GRPOConfig:
    """The run's settings in TRL's words."""
    return grpo_options(
        config.grpo,
        config.rollout,
        teacher,
        out=config.out,
        temperature=config.reward.temperature,
        dtype=config.dtype,
        tracker=config.tracker,
    )


def end_ids(model: PreTrainedModel) -> list[int]:
    """The tokens at which generation of this model ends."""
    ends = getattr(model.generation_config, "eos_token_id", None)
    return [] if ends is None else ends if isinstance(ends, list) else [ends]
