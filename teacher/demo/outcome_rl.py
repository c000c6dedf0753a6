"""The rival without a teacher: RL on the student's own answers, by TRL's GRPO trainer as it comes.

    reward = 1 where the solution that the student wrote is the right one, else 0

The settings are those of the teacher's RL; only reward and prompt differ. The base solves one problem in six by itself
here, so there is something to reinforce; where it solves none, this has nothing to learn from.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase, PrinterCallback
from trl import GRPOTrainer

from student.checkpoints import last_checkpoint
from student.grading import grade, solution_section
from student.interruption import Interrupted, StopOnSigterm
from student.metrics import MetricsFile, ProgressBar
from student.models import load_pair, save_pair, training_settings
from student.problem_files import read_problems
from student.reading import StudentFormat
from student.run_folder import begin, finish, is_finished
from student.tags import RLT
from teacher.configs import TrainConfig
from teacher.train import trl_config


def train_on_outcome(config: TrainConfig) -> None:
    """Trains the student of `config` on its own correct answers and saves it as `config.out`."""
    out, started = Path(config.out), time.monotonic()
    if is_finished(out, config):
        return
    problems = read_problems(config, RLT)
    student, tokenizer = load_pair(config.student, training_settings(config))
    begin(out, config)
    form, stop = StudentFormat(tokenizer, RLT), StopOnSigterm()
    trainer = GRPOTrainer(
        reward_funcs=[CorrectAnswer(tokenizer)],
        model=student,
        args=trl_config(config, student),
        train_dataset=Dataset.from_list(
            [
                {"prompt": str(tokenizer.decode(form.prompt_ids(problem.question))), "answer": problem.answer}
                for problem in problems
            ]
        ),
        processing_class=tokenizer,
        callbacks=[stop, MetricsFile(out / "metrics.jsonl"), ProgressBar("outcome RL")],
    )
    trainer.remove_callback(PrinterCallback)
    checkpoint = last_checkpoint(out)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if stop.stopped:
        raise Interrupted(trainer.state.global_step, trainer.state.max_steps)
    save_pair(student, tokenizer, out)
    finish(out, {"steps": trainer.state.global_step, "seconds": time.monotonic() - started})


class CorrectAnswer:
    """TRL's reward function: 1 for a completion whose solution section holds the answer, else 0."""

    __name__ = "correct"

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer

    def __call__(self, completion_ids: Sequence[Sequence[int]], answer: Sequence[str], **_: Any) -> list[float]:
        """The reward of each completion."""
        return [float(self._is_right(ids, right)) for ids, right in zip(completion_ids, answer, strict=True)]

    def _is_right(self, ids: Sequence[int], right: str) -> bool:
        solution = solution_section(str(self._tokenizer.decode(list(ids))), RLT)
        return solution is not None and grade(solution, right, "exact")
