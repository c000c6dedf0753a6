"""What the tests of scoring elsewhere share: a student, its copy at temperature 0.7, and one vLLM that serves that."""

import json
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from student.configs import ModelSettings
from student.models import load_pair, save_pair
from student.problems import Problem
from student.scoring.temperature import MARK, fold_temperature
from student.scratch import make_scratch
from tests.scratch_models import small_model
from tests.student.scoring.vllm_process import FOLDED, MAX_MODEL_LEN, Vllm, serving


@pytest.fixture(scope="session")
def sharp_student(tmp_path_factory: pytest.TempPathFactory, tiny_problems: list[Problem]) -> Path:
    """A folder with a 2-layer Qwen2 (float32) that vLLM's CPU code takes, and 400 tokens; read it only.

    Random weights ten times the usual, so that it is sure of its tokens and temperatures matter.
    """
    folder = tmp_path_factory.mktemp("sharp_student")
    config = small_model(folder, hidden_size=64, heads=2)
    model, tokenizer = make_scratch(config, tiny_problems)
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=0.5 if parameter.ndim == 1 else 0.0, std=0.2)
    save_pair(model, tokenizer, folder)
    return folder


@pytest.fixture(scope="session")
def folded_student(sharp_student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """sharp_student with temperature 0.7 in its weights, as vLLM serves it."""
    out = tmp_path_factory.mktemp("folded") / "student"
    fold_temperature(str(sharp_student), FOLDED, out)
    return out


@pytest.fixture(scope="session")
def plain_folded_student(folded_student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights as an ordinary student, whose own temperature is 1."""
    out = tmp_path_factory.mktemp("plain_folded") / "student"
    shutil.copytree(folded_student, out)
    assert json.loads((out / MARK).read_text())["temperature"] == FOLDED
    (out / MARK).unlink()
    return out


@pytest.fixture(scope="session")
def other_student(sharp_student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """sharp_student with a tenth of its weights' spread added to them: the next checkpoint, say."""
    out = tmp_path_factory.mktemp("other")
    model, tokenizer = load_pair(str(sharp_student), ModelSettings(device="cpu"))
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    save_pair(model, tokenizer, out)
    return out


@pytest.fixture(scope="session")
def vllm(folded_student: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vllm]:
    """The one vLLM of these tests: it serves folded_student under the name "student", 900 tokens at most."""
    if find_spec("vllm") is None:
        pytest.skip("vllm is not installed")
    with serving(folded_student, MAX_MODEL_LEN, tmp_path_factory.mktemp("vllm") / "log") as served:
        yield served
