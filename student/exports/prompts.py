r"""Problems for RL: one row a problem, with what the student is asked and the ground truth that a scorer compares.

The prompt is that of the other exports, so that a student who was trained on those knows it, and its system message
ends with `--answer-prompt`, since every scorer looks for the answer in a stated form (GC-16). A problem is one row,
however many explanations it has; what is one explanation's own (`rlt_id`, `rlt_reward`) is left out.

    verl-rl        verl's RL dataset, and compute_score.py, its reward function
    trl-grpo       TRL's GRPOTrainer with accuracy_reward, open-r1 with `dataset_prompt_column: problem`
    openrlhf-rl    OpenRLHF's prompts and labels, and reward_func.py
    nemo-rl-grpo   NeMo-RL's ResponseDataset and its math environment
    verifiers      a taskset package (v1), as prime-rl trains on
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from student.errors import ConfigError
from student.exports.arrow_text import column, joined, repeated
from student.exports.formats import Context, Format, Options, origin, prompt_turns, readme
from student.exports.ground_truths import answers_of, why_not
from student.exports.names import ProblemColumn

SAID = "its problem is there already"
SCORER = (Path(__file__).parent / "glue" / "compute_score.py").read_text(encoding="utf-8")


class Prompts(Format):
    """What all formats of problems do alike."""

    grouped = True
    answered = False

    def refused(self, lessons: pa.Table, options: Options) -> pa.Array:
        """A row whose problem is there already, or has no ground truth."""
        reasons = np.array([why_not(answer) for answer in answers_of(lessons)], dtype=object)
        reasons[~_first_of_each(lessons)] = SAID
        return pa.array(reasons, pa.string())

    def system(self, lessons: pa.Table, options: Options) -> pa.Array:
        """Ends with how the answer is to be stated."""
        return joined(column(lessons, "system"), " ", options.settings.answer_prompt)

    def problems(self, lessons: pa.Table, options: Options) -> pa.Table:
        """The first lesson of each problem that has a ground truth, with it as `truth` and the whole system message."""
        kept = lessons.filter(pc.is_null(self.refused(lessons, options)))
        kept = kept.set_column(kept.column_names.index("system"), "system", self.system(kept, options))
        return kept.append_column("truth", pa.array(answers_of(kept), pa.string()))


def _first_of_each(lessons: pa.Table) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    """Which lessons are the first of their problem."""
    first = np.zeros(len(lessons), dtype=bool)
    first[np.unique(column(lessons, "problem_id").to_numpy(zero_copy_only=False), return_index=True)[1]] = True
    return first


def problem_origin(problems: pa.Table, options: Options) -> dict[str, pa.Array]:
    """Of the columns that tell where a row is from, those that a problem has."""
    found = origin(problems, options)
    return {name: values for name, values in found.items() if name.removeprefix("rlt_") in get_args(ProblemColumn)}


def problem_number(problem_id: str) -> int:
    """A number of the problem's own, below 2**53 so that no reader rounds it.

    >>> problem_number("p") == problem_number("p") != problem_number("q")
    True
    """
    return int.from_bytes(hashlib.sha256(problem_id.encode()).digest()[:8], "big") >> 11


class VerlRl(Prompts):
    """verl takes the reward function by `data_source`, and stops at one that it does not know (GC-15)."""

    name = "verl-rl"
    purpose = "verl's RL trainers, with the reward function compute_score.py"

    marks: ClassVar[Mapping[str, str]] = {"openai/gsm8k": "####"}
    """What verl's own scorers look for before the answer; all others of `known` look for a box."""
    known: ClassVar[tuple[str, ...]] = ("openai/gsm8k", "lighteval/MATH", "HuggingFaceH4/MATH-500", "math_dapo", "math")
    """Sources that verl scores by itself."""

    def convert(self, lessons: pa.Table, options: Options) -> pa.Table:
        """`data_source`, `prompt` (messages), `ability`, `reward_model`, `extra_info`; all rows have the same keys."""
        problems = self.problems(lessons, options)
        rows, truth = len(problems), column(problems, "truth")
        ids = column(problems, "problem_id")
        numbers = pa.array([problem_number(each) for each in ids.to_pylist()], pa.int64())
        reward = pa.StructArray.from_arrays([repeated("rule", rows), truth], ["style", "ground_truth"])
        extra = {
            "split": repeated("train", rows),
            "index": numbers,
            "answer": column(problems, "solution"),
            "question": column(problems, "question"),
            "problem_id": ids,
        }
        made = {
            "data_source": repeated(options.settings.data_source, rows),
            "prompt": prompt_turns(problems),
            "ability": repeated("math", rows),
            "reward_model": reward,
            "extra_info": pa.StructArray.from_arrays(list(extra.values()), list(extra)),
        }
        return pa.table({**made, **problem_origin(problems, options)})

    def check(self, options: Options) -> None:
        """A source whose scorer looks for another mark than the prompt asks for is refused (GC-16)."""
        source, prompt = options.settings.data_source, options.settings.answer_prompt
        mark = self.marks.get(source, "\\boxed")
        if source in self.known and mark not in prompt:
            raise ConfigError(
                f"verl scores {source} by what follows {mark!r}, and --answer-prompt does not ask for it: {prompt!r}; "
                "say it there, or leave out --data-source"
            )

    def glue(self, context: Context) -> Mapping[str, str]:
        """The command, and the reward function."""
        data, own = context.data, context.options.settings.data_source not in self.known
        command = (
            f"python -m verl.trainer.main_ppo algorithm.adv_estimator=grpo data.train_files={data} "
            f"data.val_files={data} data.max_prompt_length=2048 data.max_response_length=8192 "
            "actor_rollout_ref.model.path=STUDENT actor_rollout_ref.rollout.n=8"
        )
        if own:
            command += " reward.custom_reward_function.path=compute_score.py"
        remark = (
            "verl leaves out prompts of more than `data.max_prompt_length` tokens. compute_score.py needs math-verify; "
            "in older verl its setting is `custom_reward_function.path`."
        )
        return {"README.md": readme(self, context, command, remark), "compute_score.py": SCORER}


class TrlGrpo(Prompts):
    """`solution` is what TRL's accuracy_reward and open-r1's parse: the answer in a box (GC-9, GC-19)."""

    name = "trl-grpo"
    purpose = "TRL's GRPOTrainer and RLOOTrainer with accuracy_reward, and open-r1"

    def convert(self, lessons: pa.Table, options: Options) -> pa.Table:
        """`prompt`, a list of messages; `solution` and, for open-r1, which makes its own messages, `problem`: texts."""
        problems = self.problems(lessons, options)
        made = {
            "prompt": prompt_turns(problems),
            "solution": joined("\\boxed{", column(problems, "truth"), "}"),
            "problem": column(problems, "question"),
        }
        return pa.table({**made, **problem_origin(problems, options)})

    def glue(self, context: Context) -> Mapping[str, str]:
        """The command, and what open-r1 needs."""
        command = (
            'trl grpo --dataset_name "$PWD" --model_name_or_path STUDENT --output_dir trained '
            "--reward_funcs accuracy_reward --max_completion_length 8192"
        )
        remark = (
            "open-r1 asks for one column of text and has the system message in its configuration: "
            f"`dataset_prompt_column: problem`, `system_prompt: {_yaml_text(_system(context))}`."
        )
        return {"README.md": readme(self, context, command, remark)}


class OpenrlhfRl(Prompts):
    """The column of sources is called `datasource` here, and `data_source` at verl (GC-18)."""

    name = "openrlhf-rl"
    purpose = "OpenRLHF's PPO and its kin: prompts with labels, and the reward function reward_func.py"

    def convert(self, lessons: pa.Table, options: Options) -> pa.Table:
        """`input`, a list of messages, `label`, the answer, and `datasource`."""
        problems = self.problems(lessons, options)
        made = {
            "input": prompt_turns(problems),
            "label": column(problems, "truth"),
            "datasource": repeated(options.settings.data_source, len(problems)),
        }
        return pa.table({**made, **problem_origin(problems, options)})

    def glue(self, context: Context) -> Mapping[str, str]:
        """The command, and the reward function."""
        command = (
            f"python -m openrlhf.cli.train_ppo_ray --data.prompt_dataset {context.data} --data.input_key input "
            "--data.label_key label --data.apply_chat_template --data.max_len 10240 --reward.remote_url reward_func.py "
            "--actor.model_name_or_path STUDENT"
        )
        files = {"reward_func.py": _OPENRLHF, "compute_score.py": SCORER}
        return {"README.md": readme(self, context, command), **files}


class NemoRlGrpo(Prompts):
    """NeMo-RL's math environment puts the truth into a box itself and asks math-verify."""

    name = "nemo-rl-grpo"
    purpose = "NeMo-RL's GRPO in its math environment, with the part of its YAML that reads the data"
    file_types = ("jsonl",)

    def convert(self, lessons: pa.Table, options: Options) -> pa.Table:
        """`input`, the question, and `output`, the answer: texts."""
        problems = self.problems(lessons, options)
        made = {"input": column(problems, "question"), "output": column(problems, "truth")}
        return pa.table({**made, **problem_origin(problems, options)})

    def glue(self, context: Context) -> Mapping[str, str]:
        """The YAML and the system message."""
        command = "uv run examples/run_grpo.py --config grpo.yaml"
        remark = "grpo.yaml goes over the `data` and `env` of NeMo-RL's own examples/configs/grpo_math_1B.yaml."
        yaml = _NEMO_GRPO.format(data=context.data)
        files = {"grpo.yaml": yaml, "system_prompt.txt": _system(context)}
        return {"README.md": readme(self, context, command, remark), **files}


class Verifiers(Prompts):
    """verifiers v1 has no file format: a taskset is a package that reads its own rows."""

    name = "verifiers"
    purpose = "verifiers and prime-rl's RL: a taskset package (v1) that holds its rows and its reward"
    file_types = ("jsonl",)

    def convert(self, lessons: pa.Table, options: Options) -> pa.Table:
        """`prompt`, `system_prompt`, `answer`: texts."""
        problems = self.problems(lessons, options)
        made = {
            "name": column(problems, "problem_id"),
            "prompt": column(problems, "question"),
            "system_prompt": column(problems, "system"),
            "answer": column(problems, "truth"),
        }
        return pa.table({**made, **problem_origin(problems, options)})

    def glue(self, context: Context) -> Mapping[str, str]:
        """The package, and how it is installed and asked."""
        command = "uv pip install -e . && uv run vf-eval rlt-taskset -m STUDENT"
        remark = 'prime-rl: `[[orchestrator.train.env]]` with `taskset = { id = "rlt-taskset" }`.'
        files = {"pyproject.toml": _PYPROJECT, "rlt_taskset.py": _TASKSET, "rlt_score.py": SCORER}
        return {"README.md": readme(self, context, command, remark), **files}


def _system(context: Context) -> str:
    return f"{context.options.tags.student_system} {context.options.settings.answer_prompt}"


def _yaml_text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


_OPENRLHF = '''\
"""OpenRLHF's reward: 1 where the response states the label, else 0 (compute_score.py)."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from compute_score import compute_score  # noqa: E402


def reward_func(queries, prompts, labels, **kwargs):
    """`queries` are prompts with their responses."""
    responses = [query[len(prompt) :] for query, prompt in zip(queries, prompts)]
    rewards = torch.tensor([compute_score("", text, label) for text, label in zip(responses, labels)])
    return {"rewards": rewards, "scores": rewards, "extra_logs": {"accuracy": rewards}}
'''
_NEMO_GRPO = """\
data:
  train:
    dataset_name: ResponseDataset
    data_path: {data}
    input_key: input
    output_key: output
    split: train
  default:
    prompt_file: null
    system_prompt_file: system_prompt.txt
    processor: math_hf_data_processor
    env_name: math
env:
  math:
    num_workers: 8
    math_verify_impl: hf_math_verify
"""
_PYPROJECT = """\
[project]
name = "rlt-taskset"
version = "0.1.0"
description = "Problems exported by rlt, with their reward."
requires-python = ">=3.11"
dependencies = ["verifiers>=0.4", "math-verify>=0.8"]

[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[tool.hatch.build.targets.wheel]
include = ["rlt_taskset.py", "rlt_score.py", "data.jsonl"]
"""
_TASKSET = '''\
"""Problems that rlt exported, as a verifiers taskset: the reward is 1 where the answer is stated, else 0."""

import json
from collections.abc import Iterator
from pathlib import Path

import verifiers.v1 as vf
from rlt_score import compute_score

__all__ = ["RltTaskset"]
DATA = Path(__file__).parent / "data.jsonl"


class RltData(vf.TaskData):
    """A problem and its answer."""

    answer: str


class RltTask(vf.Task[RltData]):
    """What a reply is worth."""

    @vf.reward(weight=1.0)
    async def correct(self, trace: vf.Trace) -> float:
        return compute_score("rlt", trace.last_reply, self.data.answer)


class RltConfig(vf.TasksetConfig):
    """Nothing but what every taskset has."""


class RltTaskset(vf.Taskset[RltTask, RltConfig]):
    def load(self) -> Iterator[RltTask]:
        with DATA.open(encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                fields = {name: row[name] for name in ("name", "prompt", "system_prompt", "answer")}
                yield RltTask(RltData(**fields), self.config.task)
'''
