"""A checkpoint that cannot take another's place is told by its files alone."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from server.engine.weights import misfit


@pytest.fixture
def twin(tiny_model_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model, to be changed."""
    return Path(shutil.copytree(tiny_model_folder, tmp_path / "twin"))


def change_config(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_other_numbers_and_other_tokens_at_the_ends_fit(tiny_model_folder: Path, twin: Path) -> None:
    tensors = {name: tensor + 1 for name, tensor in load_file(twin / "model.safetensors").items()}
    save_file(tensors, twin / "model.safetensors")
    change_config(twin, eos_token_id=[1, 2], transformers_version="9")
    assert misfit(str(tiny_model_folder), str(twin)) is None


@pytest.mark.parametrize("name", ["hidden_size", "num_attention_heads", "rms_norm_eps", "tie_word_embeddings"])
def test_another_architecture_is_refused_by_its_name(tiny_model_folder: Path, twin: Path, name: str) -> None:
    change_config(twin, **{name: 17})
    assert f": {name} is 17 where the teacher has" in (misfit(str(tiny_model_folder), str(twin)) or "")


def test_a_missing_tensor_is_named(tiny_model_folder: Path, twin: Path) -> None:
    tensors = load_file(twin / "model.safetensors")
    lost = sorted(tensors)[0]
    save_file({name: tensor for name, tensor in tensors.items() if name != lost}, twin / "model.safetensors")
    assert f"1 tensors are not as in the teacher (first: {lost})" in (misfit(str(tiny_model_folder), str(twin)) or "")


def test_a_tensor_of_another_shape_is_refused(tiny_model_folder: Path, twin: Path) -> None:
    tensors = load_file(twin / "model.safetensors")
    save_file(tensors | {"model.norm.weight": torch.ones(3)}, twin / "model.safetensors")
    assert "(first: model.norm.weight)" in (misfit(str(tiny_model_folder), str(twin)) or "")


def test_a_torn_file_is_refused(tiny_model_folder: Path, twin: Path) -> None:
    whole = (twin / "model.safetensors").read_bytes()
    (twin / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "no readable *.safetensors" in (misfit(str(tiny_model_folder), str(twin)) or "")


def test_a_folder_that_is_not_there_is_refused(tiny_model_folder: Path, tmp_path: Path) -> None:
    assert "no such folder" in (misfit(str(tiny_model_folder), str(tmp_path / "nothing")) or "")
