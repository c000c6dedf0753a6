"""With LoRA only an adapter is trained; what is saved is a plain model with the adapter in its weights."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from student.adapters import peft_config
from student.careful_trainer import training
from student.cli import main
from student.configs import DistillConfig, LoraConfig, SftConfig
from student.distill import main as distill
from student.errors import ConfigError
from student.models import load_model, load_pair
from student.problem_files import write_problems
from student.problems import Problem
from student.sft import TokenRow, train_sft
from teacher.configs import TrainConfig
from tests.teacher.rl import CPU, assert_bitwise_equal, forget_after, run, settings, weights

LORA = {"rank": 4, "alpha": 8.0}
IDS = torch.tensor([[5, 6, 7, 8, 9, 10, 11]])


def with_lora(folder: Path, out: Path, lora: dict[str, Any] = LORA, **grpo: Any) -> TrainConfig:
    config = settings(folder, out, **{"reference_sync_steps": 0, **grpo})
    return TrainConfig.model_validate({**config.model_dump(), "lora": lora})


def only_linear_layers_changed(before: Path, after: Path) -> None:
    ours, theirs = weights(before), weights(after)
    assert ours.keys() == theirs.keys()
    changed = {name for name in ours if not torch.equal(ours[name], theirs[name])}
    assert changed == {name for name in ours if name.endswith("_proj.weight")}
    for name in changed:  # of rank 4 at most: of the fifth singular value rounding alone is left
        singular = torch.linalg.svdvals((theirs[name] - ours[name]).double())
        assert singular[4] < 1e-4 * singular[0]


def test_rl_trains_an_adapter_and_saves_a_plain_model(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path
) -> None:
    trainer = run(tiny_model_folder, tiny_problems, with_lora(tiny_model_folder, tmp_path / "out"))
    only_linear_layers_changed(tiny_model_folder, tmp_path / "out")
    log = [entry for entry in trainer.state.log_history if "reward" in entry]
    assert all(entry["teacher/extra_forwards"] == 0 for entry in log)
    assert log[0]["kl"] == 0  # the reference is the model without its adapter, which at first changes nothing
    assert log[-1]["kl"] > 0
    assert not list((tmp_path / "out").glob("adapter*"))


def test_rl_goes_on_from_a_checkpoint_of_the_adapter_bitwise(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for out in (whole, killed):
        run(tiny_model_folder, tiny_problems, with_lora(tiny_model_folder, out))
    assert_bitwise_equal(whole, killed)
    forget_after(killed, step=2)
    (killed / "model.safetensors").unlink()
    run(tiny_model_folder, tiny_problems, with_lora(tiny_model_folder, killed))
    assert_bitwise_equal(whole, killed)
    assert (killed / "checkpoint-2" / "adapter_model.safetensors").exists()


def test_distillation_trains_an_adapter_and_saves_a_plain_model(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path
) -> None:
    write_problems(tiny_problems, tmp_path / "problems.jsonl")
    sft = {"batch_size": 8, "max_steps": 6, "learning_rate": 1e-2, "log_steps": 1}
    config = DistillConfig.model_validate(
        {
            "explanations": str(tmp_path / "problems.jsonl"),
            "student": str(tiny_model_folder),
            "out": str(tmp_path / "out"),
            "device": "cpu",
            "threads": 1,
            "sft": sft,
            "lora": LORA,
        }
    )
    distill(config)
    only_linear_layers_changed(tiny_model_folder, tmp_path / "out")
    losses = [json.loads(line)["loss"] for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0]
    distill(config)  # finished already


def test_the_model_in_memory_is_the_one_saved(tiny_model_folder: Path, tmp_path: Path) -> None:
    model, tokenizer = load_pair(str(tiny_model_folder), CPU)
    rows = [TokenRow([5, 6, 7], [8, 9, 10, number]) for number in range(11, 27)]
    sft = SftConfig(batch_size=8, max_steps=4, learning_rate=1e-2)
    train_sft(model, tokenizer, rows, tmp_path, sft, lora=LoraConfig(rank=4, targets="attention"))
    saved = load_model(str(tmp_path), CPU)
    with torch.no_grad():
        torch.testing.assert_close(model(IDS).logits, saved(IDS).logits)
    assert all(parameter.requires_grad for parameter in model.parameters())
    changed = {
        name for name, value in weights(tmp_path).items() if not torch.equal(value, weights(tiny_model_folder)[name])
    }
    assert changed
    assert all("self_attn" in name for name in changed)


def test_the_weights_beside_an_adapter_stay_in_their_precision(tiny_model_folder: Path) -> None:
    model = load_model(str(tiny_model_folder), CPU.model_copy(update={"dtype": "bfloat16"}))
    with training(model, whole=False):
        assert model.dtype == torch.bfloat16
    with training(model):
        assert model.dtype == torch.float32


@pytest.mark.parametrize(
    ("grpo", "complaint"),
    [
        ({"reference_sync_steps": 32}, r"TRL cannot move that \(grpo.reference_sync_steps is 32\); set it to 0"),
        ({"held_out": 2}, r"set grpo.held_out to 0"),
    ],
)
def test_what_goes_ill_with_an_adapter_is_refused(
    tiny_model_folder: Path, tmp_path: Path, grpo: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ValidationError, match=complaint):
        with_lora(tiny_model_folder, tmp_path, **grpo)


def test_without_a_reference_there_is_nothing_to_move(tiny_model_folder: Path, tmp_path: Path) -> None:
    assert with_lora(tiny_model_folder, tmp_path, beta=0, reference_sync_steps=32).lora == LoraConfig(**LORA)


def test_the_command_says_so_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = ["--problems", "p", "--teacher", "t", "--student", "s", "--out", str(tmp_path / "out")]
    assert main(["train", *paths, "--lora.rank", "8"]) == 1
    said = capsys.readouterr().err
    assert "lora: the reference is the model without its adapter" in said
    assert said.count("\n") == 1
    paths = ["--explanations", "e", "--student", "s", "--out", str(tmp_path / "out"), "--method", "dpo"]
    assert main(["distill", *paths, "--lora.rank", "8"]) == 1
    assert "lora is for method sft" in capsys.readouterr().err


def test_a_divided_model_takes_no_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    assert peft_config(None) is None
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ConfigError, match="without FSDP and DeepSpeed"):
        peft_config(LoraConfig())
