"""`rlt coldstart`: a student trained by RL on its own answers, from where distillation left it.

    reward = 1 where the solution that the student wrote is the right one, else 0        (grading.py, as in evaluation)

A group of samples that are all wrong, or all right, has no spread and teaches nothing. So RL of this kind cannot begin
where a model solves nothing; a distilled student is where it can. The trainer is student/grpo.py: a killed run goes on
exactly, SIGTERM saves. Left out: rewards for form, length or steps.
"""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from student.configs import ColdstartConfig, Grading
from student.engine import context_tokens
from student.errors import ScoringError
from student.grading import gold_answer, grade, solution_section
from student.grpo import ResumableGrpo, TooFewProblems, grpo_options, making_trainer, refuse_beyond_context
from student.metrics import MetricsFile, ProgressBar
from student.models import cast_parameters, load_pair, quiet, resolve_dtype, save_pair, training_settings
from student.problem_files import read_problems
from student.problems import Problem
from student.reading import StudentFormat
from student.run_files import METRICS
from student.run_folder import begin, finish, is_finished
from student.tags import STYLES, Tags

TITLE = "coldstart"
"""What the progress bar is called."""


def main(config: ColdstartConfig) -> None:
    """Carries out `rlt coldstart`; raises RltError where something must be mended first."""
    out, started = Path(config.out), time.monotonic()
    if is_finished(out, config):
        return
    problems = read_problems(config, STYLES[config.tags], out.with_name(out.name + ".skipped.jsonl"))
    student, tokenizer = load_pair(config.student, training_settings(config))
    questions = Questions(problems, StudentFormat(tokenizer, STYLES[config.tags]), config)
    refuse_beyond_context(questions.ids, config.rollout, context_tokens(student.config))
    begin(out, config)
    trainer = train(student, tokenizer, questions, config)
    counts = {"problems": len(questions.rows), "too_long": questions.too_long, "unusable": questions.unusable}
    finish(out, {**report(trainer.state.log_history), **counts, "seconds": time.monotonic() - started})


class Questions:
    """Problems as rows that TRL trains on, with the exact ids behind each prompt; what is left out is counted.

    Raises TooFewProblems where what is left does not make a step.
    """

    def __init__(self, problems: Sequence[Problem], form: StudentFormat, config: ColdstartConfig) -> None:
        self.rows: list[dict[str, str]] = []
        self.ids: dict[str, list[int]] = {}
        self.too_long = self.unusable = 0
        for problem in problems:
            try:
                self._ask(problem, form, config.rollout.max_prompt_tokens)
            except ScoringError as error:
                self.unusable += 1
                print(f"problem {problem.id} left out: {error}", file=sys.stderr)
        if self.too_long:
            limit = config.rollout.max_prompt_tokens
            print(f"{self.too_long} problems left out: their prompt is longer than {limit} tokens", file=sys.stderr)
        if len(self.rows) < config.grpo.prompts_per_step:
            raise TooFewProblems(len(self.rows), config.grpo.prompts_per_step)

    def _ask(self, problem: Problem, form: StudentFormat, limit: int) -> None:
        prompt = form.prompt_ids(problem.question)
        if len(prompt) > limit:
            self.too_long += 1
            return
        text = str(form.tokenizer.decode(prompt))
        self.ids[text] = prompt
        self.rows.append({"prompt": text, "answer": gold_answer(problem)})


def train(
    student: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, questions: Questions, config: ColdstartConfig
) -> ResumableGrpo:
    """Trains `student` in place and saves it as `config.out`; returns the trainer, whose `state` holds the log."""
    out = Path(config.out)
    with quiet(), making_trainer(config.rollout):
        trainer = ResumableGrpo(
            reward_funcs=[RightAnswer(tokenizer, STYLES[config.tags], config.grading, config.grpo.group_size)],
            prompt_ids=questions.ids,
            draw_by_row=config.rollout.draws == "sample",
            model=student,
            args=grpo_options(
                config.grpo,
                config.rollout,
                student,
                out=config.out,
                temperature=config.temperature,
                dtype=config.dtype,
                tracker=config.tracker,
            ),
            train_dataset=Dataset.from_list(questions.rows),
            processing_class=tokenizer,
            callbacks=[MetricsFile(out / METRICS), ProgressBar(TITLE)],
        )
    trainer.run(TITLE, config.watch.no_progress_minutes)
    cast_parameters(student, resolve_dtype(config, student.device))
    save_pair(student, tokenizer, out)
    return trainer


class RightAnswer:
    """TRL's reward function: 1 for a completion whose solution section states the answer, else 0.

    A completion without that section, such as one that was cut, is wrong; a text that cannot be graded is too.
    """

    __name__ = "right"

    def __init__(self, tokenizer: PreTrainedTokenizerBase, tags: Tags, grading: Grading, group_size: int) -> None:
        self._tokenizer = tokenizer
        self._tags = tags
        self._grading = grading
        self._group_size = group_size

    def __call__(
        self,
        completion_ids: Sequence[Sequence[int]],
        answer: Sequence[str],
        log_metric: Callable[[str, float], None],
        **_: Any,
    ) -> list[float]:
        """The reward of each completion; also logs what share of them, and of their problems, RL can learn from."""
        solutions = [self._solution(ids) for ids in completion_ids]
        rewards = [
            float(solution is not None and grade(solution, right, self._grading))
            for solution, right in zip(solutions, answer, strict=True)
        ]
        for name, value in group_metrics(rewards, self._group_size).items():
            log_metric(name, value)
        log_metric("solution/missing", sum(solution is None for solution in solutions) / len(solutions))
        return rewards

    def _solution(self, ids: Sequence[int]) -> str | None:
        return solution_section(str(self._tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)), self._tags)


def group_metrics(rewards: Sequence[float], group_size: int) -> dict[str, float]:
    """Of the problems of a step, the share that some sample solves, and the share that some does and some does not.

    >>> group_metrics([0, 0, 0, 1, 1, 1, 0, 0], group_size=2)
    {'problems/solved': 0.5, 'problems/mixed': 0.25}
    """
    groups = [rewards[start : start + group_size] for start in range(0, len(rewards), group_size)]
    return {
        "problems/solved": sum(any(group) for group in groups) / len(groups),
        "problems/mixed": sum(any(group) and not all(group) for group in groups) / len(groups),
    }


def report(log: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Steps, and the share of right answers as the mean of the first and of the last tenth of the log.

    >>> report([{"step": 1, "reward": 0.0}, {"step": 2, "reward": 0.5}])
    {'steps': 2, 'right_first': 0.0, 'right_last': 0.5}
    """
    entries = [entry for entry in log if "reward" in entry]
    tenth = max(1, len(entries) // 10)
    first, last = (sum(entry["reward"] for entry in part) / tenth for part in (entries[:tenth], entries[-tenth:]))
    return {"steps": entries[-1]["step"], "right_first": first, "right_last": last}
