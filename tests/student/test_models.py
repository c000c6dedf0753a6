import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Gemma2Config, PreTrainedTokenizerFast

from student.configs import ModelSettings
from student.errors import ModelError, OutputError
from student.models import (
    cast_parameters,
    load_model,
    load_pair,
    load_tokenizer,
    prepare_tokenizer,
    resolve_dtype,
    save_pair,
    training_settings,
    weights_digest,
    whole_or_removed,
)

CPU = ModelSettings(device="cpu")


@pytest.fixture
def folder(tiny_model_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may break."""
    return Path(shutil.copytree(tiny_model_folder, tmp_path / "model"))


def test_a_saved_model_loads_with_the_same_weights_in_eval_mode(tiny_model_folder: Path, tmp_path: Path) -> None:
    model, tokenizer = load_pair(str(tiny_model_folder), CPU)
    (tmp_path / "again").mkdir()
    save_pair(model, tokenizer, tmp_path / "again")
    again = load_model(str(tmp_path / "again"), CPU)
    assert not again.training
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), again.parameters(), strict=True))
    assert weights_digest(str(tmp_path / "again")) == weights_digest(str(tiny_model_folder))


def test_our_loader_and_transformers_give_the_same_ids(tiny_model_folder: Path) -> None:
    text = "Ann has 12 apples,  e\u0301 and <|begin_of_thought|>\n\n 3.5\n"
    ours = load_tokenizer(str(tiny_model_folder))
    assert ours(text)["input_ids"] == AutoTokenizer.from_pretrained(tiny_model_folder)(text)["input_ids"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("/nowhere/at/all", "no such folder"),
        ("./nowhere", "no such folder"),
        ("runs/teacher/final", "no such folder"),
        ("nobody/nothing", "not reachable as a hub name"),
        ("not a hub name", "not reachable as a hub name"),
    ],
)
def test_a_missing_model_is_named_on_one_line(name: str, told: str) -> None:
    for load in (load_tokenizer, lambda name: load_model(name, CPU)):
        with pytest.raises(ModelError) as caught:
            load(name)
        assert repr(name) in str(caught.value)
        assert told in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_file_in_place_of_a_folder_is_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match="is a file"):
        load_model(str(folder / "config.json"), CPU)


@pytest.mark.parametrize(
    ("file", "told"),
    [("config.json", "no config.json"), ("model.safetensors", "no weights")],
)
def test_a_folder_that_lacks_a_file_is_refused_by_its_name(folder: Path, file: str, told: str) -> None:
    (folder / file).unlink()
    with pytest.raises(ModelError, match=told):
        load_model(str(folder), CPU)


def test_a_folder_without_a_tokenizer_is_refused(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ModelError, match="no tokenizer"):
        load_tokenizer(str(folder))


@pytest.mark.parametrize("length", [0, 100, -200])
def test_weights_cut_short_are_refused_on_one_line(folder: Path, length: int) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:length])
    with pytest.raises(ModelError, match="weights cannot be read") as caught:
        load_model(str(folder), CPU)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_whose_parts_contradict_each_other_is_refused_on_one_line(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    content["model"]["merges"].append(["never", "seen"])
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ModelError, match=r"its tokenizer cannot be read .*out of vocabulary") as caught:
        load_tokenizer(str(folder))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json"])
def test_a_damaged_tokenizer_is_refused_on_one_line(folder: Path, file: str) -> None:
    (folder / file).write_text('{"version": ')
    with pytest.raises(ModelError, match="tokenizer cannot be read") as caught:
        load_tokenizer(str(folder))
    assert "\n" not in str(caught.value)


def test_weights_that_lack_a_tensor_are_refused_rather_than_drawn_at_random(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3, "layer_types": None}))
    with pytest.raises(ModelError, match=r"lack 12 tensors \(first: model.layers.2"):
        load_model(str(folder), CPU)


def test_a_tokenizer_larger_than_the_embedding_is_refused(folder: Path) -> None:
    tokenizer = load_tokenizer(str(folder))
    tokenizer.add_tokens(["<|one_more|>"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelError, match="its tokenizer has 401 tokens but its embedding 400 rows"):
        load_pair(str(folder), CPU)


def test_a_missing_chat_template_is_replaced_and_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "chat_template.jinja").unlink()
    tokenizer = load_tokenizer(str(folder))
    assert "no chat template" in capsys.readouterr().err
    chat = [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert text == "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n"


def test_a_missing_pad_token_becomes_one_that_is_there_and_is_not_the_end(tiny_model_folder: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model_folder))
    tokenizer.pad_token = None
    size = len(tokenizer)
    assert prepare_tokenizer(tokenizer, "tiny").pad_token == "<|endoftext|>"
    assert len(tokenizer) == size


def test_the_end_token_pads_where_nothing_else_can(tiny_model_folder: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model_folder))
    tokenizer.pad_token, tokenizer.eos_token = None, "<|endoftext|>"
    assert prepare_tokenizer(tokenizer, "tiny").pad_token == "<|endoftext|>"


def test_a_tokenizer_without_an_end_token_is_refused(tiny_model_folder: Path) -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(tiny_model_folder / "tokenizer.json"))
    with pytest.raises(ModelError, match="no end-of-sequence token"):
        prepare_tokenizer(tokenizer, "tiny")


def test_precision_is_resolved_by_device() -> None:
    assert resolve_dtype(ModelSettings(), torch.device("cuda")) == torch.bfloat16
    assert resolve_dtype(ModelSettings(), torch.device("cpu")) == torch.float32
    assert resolve_dtype(ModelSettings(dtype="float16"), torch.device("cpu")) == torch.float16
    assert training_settings(ModelSettings(device="cpu", threads=2)) == ModelSettings(
        device="cpu", dtype="float32", threads=2
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_device_that_is_not_there_is_refused(tiny_model_folder: Path) -> None:
    with pytest.raises(ModelError, match="device 'cuda' is not available"):
        load_model(str(tiny_model_folder), ModelSettings(device="cuda"))


def test_threads_are_set_where_asked_for(tiny_model_folder: Path) -> None:
    try:
        load_model(str(tiny_model_folder), ModelSettings(device="cpu", threads=2))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_casting_parameters_leaves_the_rotary_frequencies_alone(tiny_model_folder: Path) -> None:
    model = load_model(str(tiny_model_folder), CPU)
    cast_parameters(model, torch.bfloat16)
    assert model.dtype == torch.bfloat16
    assert {buffer.dtype for buffer in model.buffers()} == {torch.float32}


def test_the_digest_depends_on_the_weights(folder: Path) -> None:
    before = weights_digest(str(folder))
    model, tokenizer = load_pair(str(folder), CPU)
    with torch.no_grad():
        next(model.parameters())[0, 0] += 1
    save_pair(model, tokenizer, folder)
    assert len(before) == 16
    assert weights_digest(str(folder)) != before
    assert weights_digest("never/downloaded") == "never/downloaded"
    with pytest.raises(ModelError, match="model 'no/such/folder': no such folder, and no name of the hub"):
        weights_digest("no/such/folder")


def test_what_could_not_be_written_whole_is_removed(tmp_path: Path) -> None:
    def fail() -> None:
        with whole_or_removed(tmp_path / "part"):
            (tmp_path / "part").mkdir()
            raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 4480 vs 4438\nmore")

    with pytest.raises(OutputError, match=r"cannot be written .* free some space") as caught:
        fail()
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "part").exists()


def test_a_soft_cap_inside_attention_is_not_left_out(tiny_model_folder: Path, tmp_path: Path) -> None:
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Gemma2Config(vocab_size=300, **sizes, num_key_value_heads=2, head_dim=16, attn_logit_softcapping=0.1)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    save_pair(model, load_tokenizer(str(tiny_model_folder)), tmp_path / "capped")
    ids = torch.arange(1, 30).unsqueeze(0)
    with torch.no_grad():
        logits = load_model(str(tmp_path / "capped"), CPU)(ids).logits
        torch.testing.assert_close(logits, model(ids).logits)
        model.set_attn_implementation("sdpa")
        assert (model(ids).logits - logits).abs().max() > 0.01  # what would have been read
