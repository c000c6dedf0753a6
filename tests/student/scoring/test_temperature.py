"""The folded copy reads at temperature 1 as the original does at the temperature, or is not written at all."""

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    CohereConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    LlamaConfig,
    OPTConfig,
    PhiConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from student.configs import ModelSettings, ScoringSettings
from student.errors import ModelError, OutputError
from student.models import load_model, load_tokenizer, save_pair, weights_digest
from student.reading import Passage
from student.scoring.protocol import PassageLogps
from student.scoring.scorer import Scorer
from student.scoring.self_test import difference, fixed_passages
from student.scoring.temperature import MARK, fold_temperature
from student.scoring.temperature import main as temperature_main

SIZES = {
    "vocab_size": 400,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
FOLDABLE: dict[str, PretrainedConfig] = {
    "qwen2, tied head": Qwen2Config(**SIZES, tie_word_embeddings=True),
    "qwen3": Qwen3Config(**SIZES, head_dim=8),
    "llama, untied head": LlamaConfig(**SIZES, tie_word_embeddings=False),
    "gemma, 1 + w": GemmaConfig(**SIZES, head_dim=8),
    "gemma2, soft cap": Gemma2Config(**SIZES, head_dim=8, final_logit_softcapping=2.0),
    "gemma3": Gemma3TextConfig(**SIZES, head_dim=8),
    "phi, biased norm and head": PhiConfig(**SIZES),
    "cohere, logit scale": CohereConfig(**SIZES, logit_scale=0.25),
}
CPU = ModelSettings(device="cpu")


def saved(config: PretrainedConfig, tokenizer_of: Path, folder: Path, dtype: torch.dtype = torch.float32) -> str:
    """A model of random weights, spread so that temperature, cap and biases all matter."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    save_pair(model, load_tokenizer(str(tokenizer_of)), folder)
    return str(folder)


def read(folder: str | Path, temperature: float, dtype: str = "float32") -> tuple[list[Passage], list[PassageLogps]]:
    settings = ModelSettings.model_validate({"device": "cpu", "dtype": dtype})
    passages = fixed_passages(load_tokenizer(str(folder)))
    return passages, Scorer(load_model(str(folder), settings), ScoringSettings()).logps(passages, temperature)


@pytest.mark.parametrize("name", FOLDABLE)
@pytest.mark.parametrize("temperature", [0.7, 1.5])
def test_the_copy_reads_at_1_as_the_original_at_the_temperature(
    name: str, temperature: float, tiny_model_folder: Path, tmp_path: Path
) -> None:
    student = saved(FOLDABLE[name], tiny_model_folder, tmp_path / "student")
    fold_temperature(student, temperature, tmp_path / "copy")
    passages, here = read(student, temperature)
    _, there = read(tmp_path / "copy", 1.0)
    _, plain = read(student, 1.0)
    assert sum(len(passage.explanation) for passage in passages) > 100
    assert difference(there, here)[1] < 2e-5
    assert difference(there, plain)[0] > 1e-2
    assert json.loads((tmp_path / "copy" / MARK).read_text()) == {
        "temperature": temperature,
        "student": student,
        "weights": weights_digest(student),
    }


def test_a_bfloat16_copy_is_off_by_less_than_bfloat16_is(tiny_model_folder: Path, tmp_path: Path) -> None:
    student = saved(FOLDABLE["qwen2, tied head"], tiny_model_folder, tmp_path / "student", torch.bfloat16)
    fold_temperature(student, 0.7, tmp_path / "copy")
    _, exact = read(student, 0.7)
    assert (
        difference(read(tmp_path / "copy", 1.0)[1], exact)[0] < difference(read(student, 0.7, "bfloat16")[1], exact)[0]
    )


def test_only_the_norm_is_changed_and_shards_stay_what_they_are(tiny_model_folder: Path, tmp_path: Path) -> None:
    student = tmp_path / "student"
    saved(FOLDABLE["llama, untied head"], tiny_model_folder, student)
    load_model(str(student), CPU).save_pretrained(student, max_shard_size="40KB")
    (student / "model.safetensors").unlink()
    (student / "training_args.bin").write_bytes(b"not for vLLM")
    fold_temperature(str(student), 0.5, tmp_path / "copy")
    shards = sorted(file.name for file in student.glob("*.safetensors"))
    assert len(shards) > 2
    changed = set()
    for shard in shards:
        before, after = load_file(student / shard), load_file(tmp_path / "copy" / shard)
        changed |= {name for name in before if not torch.equal(before[name], after[name])}
        assert before.keys() == after.keys()
    assert changed == {"model.norm.weight"}
    assert not (tmp_path / "copy" / "training_args.bin").exists()


@pytest.mark.parametrize(
    "config",
    [
        BloomConfig(vocab_size=400, hidden_size=32, n_layer=1, n_head=4, eos_token_id=2, pad_token_id=0),
        OPTConfig(
            vocab_size=400,
            hidden_size=32,
            word_embed_proj_dim=32,
            ffn_dim=48,
            num_hidden_layers=1,
            num_attention_heads=4,
            eos_token_id=2,
            pad_token_id=0,
        ),
    ],
    ids=["bloom, two norms", "opt, norm further down"],
)
def test_an_architecture_that_is_not_known_to_fold_is_refused(
    config: PretrainedConfig, tiny_model_folder: Path, tmp_path: Path
) -> None:
    student = saved(config, tiny_model_folder, tmp_path / "student")
    with pytest.raises(ModelError, match=r"cannot be put into its weights: \d modules look like its final norm"):
        fold_temperature(student, 0.7, tmp_path / "copy")
    assert not list((tmp_path / "copy").glob("*"))


def test_a_copy_that_does_not_read_alike_is_refused_and_nothing_is_left(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = saved(FOLDABLE["gemma2, soft cap"], tiny_model_folder, tmp_path / "student")
    monkeypatch.setattr("student.scoring.temperature._divide_soft_cap", lambda file, temperature: None)
    with pytest.raises(ModelError, match="log-probabilities are off by"):
        fold_temperature(student, 0.7, tmp_path / "copy")
    assert not list((tmp_path / "copy").glob("*"))


def test_a_folder_with_a_model_is_not_overwritten_and_a_copy_is_not_folded_again(
    folded_student: Path, sharp_student: Path, tmp_path: Path
) -> None:
    with pytest.raises(OutputError, match="holds a model already"):
        fold_temperature(str(sharp_student), 0.7, folded_student)
    with pytest.raises(ModelError, match=f"temperature 0.7 in its weights.*name the original, '{sharp_student}'"):
        fold_temperature(str(folded_student), 0.7, tmp_path / "copy")
    with pytest.raises(ModelError, match="no such folder"):
        fold_temperature(str(tmp_path / "nowhere"), 0.7, tmp_path / "copy")
    with pytest.raises(ModelError, match="temperature 0: must be above 0"):
        fold_temperature(str(sharp_student), 0.0, tmp_path / "copy")


def test_the_command_folds_and_says_its_errors_in_one_line(
    sharp_student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["temperature", str(sharp_student), "0.7", str(tmp_path / "copy")])
    temperature_main()
    assert "at temperature 0.7; vllm serve" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="holds a model already"):
        temperature_main()
