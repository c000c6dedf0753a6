"""What all tests share: one thread, no network, a tiny model made as `rlt scratch` makes them; who runs beside whom."""

import os

os.environ.update(
    {
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
    }
)

from pathlib import Path
from typing import Any

import pytest
import torch

from student.models import save_pair
from student.problems import Problem
from student.scratch import make_scratch
from tests.scratch_models import small_model
from tests.sharing_out import Groups, longest_first

torch.set_num_threads(1)

TINY_PROBLEMS = [
    Problem(
        question=f"Ann has {start} apples and buys {more} more. How many apples does she have?",
        reasoning_trace=f"She starts with {start} apples. She buys {more} more, so {start} + {more} = {start + more}.",
        solution=f"The answer is \\boxed{{{start + more}}}.",
        answer=str(start + more),
    )
    for start in range(3, 11)
    for more in range(2, 7)
]


@pytest.fixture(scope="session")
def tiny_problems() -> list[Problem]:
    """40 additions, each with a trace, a solution and an answer."""
    return TINY_PROBLEMS


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a 2-layer Qwen2 (float32, random) and its tokenizer of 400 tokens; read it, do not write to it."""
    folder = tmp_path_factory.mktemp("tiny_model")
    config = small_model(folder, hidden_size=32, heads=4)
    save_pair(*make_scratch(config, TINY_PROBLEMS), folder)
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Several processes begin with what takes longest, so that they end together."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items[:] = longest_first(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Groups:
    """Several processes are given groups of tests."""
    return Groups(config, log)
