import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from student.cli import main as rlt
from student.configs import ModelSettings
from student.models import load_pair, load_tokenizer
from student.problems import Problem
from student.scratch import SPECIAL_TOKENS, ModelShape, random_model, train_tokenizer
from student.tags import STYLES


def test_any_text_survives_encoding_and_decoding(tiny_model_folder: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model_folder))
    for text in ("", " a ,b .", "naïve 漢字 🙂\t\n\n  x", "\x00\x7f", "1 234,5"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_every_digit_is_a_token_of_its_own(tiny_model_folder: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model_folder))
    assert tokenizer.tokenize("x 2048") == ["x", "Ġ", "2", "0", "4", "8"]


def test_tags_are_plain_text_of_several_tokens_and_only_chat_markers_are_special(tiny_model_folder: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model_folder))
    for tags in STYLES.values():
        for marker in tags.markers:
            ids = tokenizer(marker)["input_ids"]
            assert len(ids) > 1
            assert not set(ids) & set(tokenizer.all_special_ids)
    assert sorted(tokenizer.all_special_tokens) == sorted(SPECIAL_TOKENS)
    assert all(len(tokenizer(token)["input_ids"]) == 1 for token in SPECIAL_TOKENS)


def test_the_same_seed_gives_the_same_weights_and_leaves_torchs_generator_alone(tiny_model_folder: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model_folder))
    shape = ModelShape(16, 1, 2, 1, 32, 64)
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    one, same, other = (random_model(tokenizer, shape, seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["model.embed_tokens.weight"], other["model.embed_tokens.weight"])


def test_a_small_corpus_gives_fewer_tokens_than_asked_for() -> None:
    assert len(train_tokenizer(["ab ab ab"], 4096)) == len(SPECIAL_TOKENS) + 256 + 2  # "ab" and " ab"


@pytest.fixture
def problems_file(tmp_path: Path, tiny_problems: list[Problem]) -> Path:
    path = tmp_path / "problems.jsonl"
    path.write_text("".join(problem.model_dump_json() + "\n" for problem in tiny_problems))
    return path


def test_the_command_makes_a_folder_that_transformers_loads(
    problems_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "models" / "base"
    sizes = "--vocabulary 350 --hidden-size 16 --layers 1 --heads 2 --key-value-heads 1 --intermediate-size 32"
    command = ["scratch", "--problems", str(problems_file), "--out", str(out), *sizes.split()]
    assert rlt(command) == 0
    said = capsys.readouterr().out
    model, tokenizer = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    size = sum(weight.numel() for weight in model.parameters())
    assert f"parameters {size}, vocabulary 350, problems 40, bytes per token " in said
    assert len(tokenizer) == 350
    assert json.loads((out / "config.json").read_text())["model_type"] == "qwen2"
    load_pair(str(out), ModelSettings(device="cpu"))
    assert rlt(command) == 0
    assert "finished already" in capsys.readouterr().out
    assert rlt([*command, "--seed", "1"]) == 1
    assert "seed was 0, now 1" in capsys.readouterr().err


def test_the_command_does_not_write_over_a_model(
    problems_file: Path, tiny_model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rlt(["scratch", "--problems", str(problems_file), "--out", str(tiny_model_folder)]) == 1
    assert "already holds a model" in capsys.readouterr().err
