"""The reward on problems that are never trained on, at every checkpoint, and the best checkpoint's model kept.

    held_out.jsonl   a line a checkpoint: step, reward (mean over the held-out problems, one explanation each, sampled
                     as in training), and whether it was the best so far
    best/            model and tokenizer of the best checkpoint, in its precision, ready for `rlt explain`

Sampling takes random numbers, and a checkpoint holds the random state that comes after it: a resumed run measures and
trains as one that was never stopped. Left out: stopping early.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from student.errors import OutputError
from student.explanations import Score
from student.models import whole_or_removed
from student.run_files import HELD_OUT
from teacher.reward_model import Draft, RewardModel

FILE = HELD_OUT
BEST = "best"
_TRAINER_ONLY = (
    "optimizer.*",
    "pytorch_model_fsdp*",
    "global_step*",
    "latest",
    "zero_to_fp32.py",
    "scheduler.pt",
    "trainer_state.json",
    "training_args.bin",
    "rng_state*.pth",
    "reference.*",
)
"""What a checkpoint holds besides the model, some of it where FSDP or DeepSpeed divides it."""


@dataclass(frozen=True)
class Asked:
    """A held-out problem with its prompt for the teacher."""

    question: str
    solution: str
    prompt_ids: list[int]


Sampler = Callable[[list[list[int]]], tuple[list[list[int]], list[Tensor]]]
"""One completion a prompt, and its tokens' log-probabilities by the policy, at least as many, shape (E,)."""


def explain_held_out(
    asked: Sequence[Asked], model: RewardModel, sample: Sampler, at_once: int
) -> list[tuple[Draft, Score]]:
    """One explanation of each problem with its score, `at_once` sampled together."""
    found: list[tuple[Draft, Score]] = []
    for start in range(0, len(asked), at_once):
        some = asked[start : start + at_once]
        completions, logps = sample([each.prompt_ids for each in some])
        drafts = [
            Draft(each.question, each.solution, model.teacher_format.cut(ids), logps_T[: len(ids)])
            for each, ids, logps_T in zip(some, completions, logps, strict=True)
        ]
        found += zip(drafts, model.scores(drafts), strict=True)
    return found


class BestCheckpoint:
    """The ledger of held-out rewards in a run's folder, and the best model beside it."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._path = out / FILE

    def note(self, step: int, reward: float, checkpoint: Path) -> None:
        """Writes a line, and keeps the checkpoint's model where no earlier one was better."""
        earlier = [line for line in self._lines() if line["step"] < step]
        best = all(reward > line["reward"] for line in earlier)
        if best:
            self._keep(checkpoint)
        lines = [*earlier, {"step": step, "reward": reward, "best": best}]
        writing = self._path.with_name(FILE + ".partial")
        writing.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        writing.replace(self._path)

    def _keep(self, checkpoint: Path) -> None:
        writing = self._out / f"{BEST}.partial"
        with whole_or_removed(writing):
            shutil.copytree(checkpoint, writing, ignore=shutil.ignore_patterns(*_TRAINER_ONLY), dirs_exist_ok=True)
        shutil.rmtree(self._out / BEST, ignore_errors=True)
        writing.replace(self._out / BEST)

    def _lines(self) -> list[dict[str, float]]:
        if not self._path.exists():
            return []
        try:
            return [json.loads(line) for line in self._path.read_text(encoding="utf-8").splitlines()]
        except ValueError as error:
            raise OutputError(f"{self._path}: damaged ({error}); remove it, and the best is found anew") from error


def asked_of(rows: Sequence[dict[str, str]], ids: dict[str, list[int]]) -> list[Asked]:
    """Rows of prompts as held-out problems."""
    return [Asked(row["question"], row["solution"], ids[row["prompt"]]) for row in rows]
