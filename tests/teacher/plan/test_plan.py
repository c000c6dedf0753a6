"""What `rlt plan` says is what its formulas say, worked by hand; its verdicts and remedies hold for one another."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen2Config

from student.cli import main
from teacher.configs import PlanConfig
from teacher.plan.cards import GIB
from teacher.plan.cases import Case
from teacher.plan.memory import activations, obstacles, training_memory
from teacher.plan.plan import case_of, recipe_settings
from teacher.plan.remedies import CHANGES, remedies
from teacher.plan.seconds import rows_at_once, step_seconds
from teacher.plan.shapes import QWEN, shape_of
from teacher.plan.table import table

ROOT = Path(__file__).parent.parent.parent.parent


def case(gpus: int = 8, **settings: object) -> Case:
    plan = PlanConfig.model_validate({"recipe": "rlt-7b", "model": "7B", **settings})
    return case_of(plan, recipe_settings(plan), gpus)


@pytest.mark.parametrize(
    ("name", "published"), [("1.5B", 1_543_714_304), ("7B", 7_615_616_512), ("32B", 32_763_876_352)]
)
def test_a_shape_has_the_parameters_of_the_model(name: str, published: int) -> None:
    shape = QWEN[name]
    config = Qwen2Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.queries // 128,
        num_key_value_heads=shape.keys // 128,
        tie_word_embeddings=shape.tied,
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert shape.parameters == sum(each.numel() for each in model.parameters()) == published


def test_a_folder_is_read_as_the_model_in_it(tiny_model_folder: Path) -> None:
    shape = shape_of(str(tiny_model_folder), "--model")
    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
    assert shape.parameters == sum(each.numel() for each in model.parameters())


def test_memory_is_what_the_formulas_say() -> None:
    """Four GPUs train 7,615,616,512 parameters; a block has 233,057,792, both ends 1,090,002,432."""
    memory = training_memory(case(engine="vllm-server"))
    assert memory["weights"] == memory["gradients"] == memory["reference"] == 7_615_616_512
    assert memory["AdamW's moments"] == 2 * 7_615_616_512
    # a = 2 (4 x 3584 + 3 x 3584 + 3 x 512 + 4 x 18944) + 8 x 3584 = 233,472 + ... bytes of a token in a block
    a = 2 * (4 * 3584 + 3 * 3584 + 3 * 512 + 4 * 18_944) + 8 * 3584
    assert a == 233_472
    kept = 32_768 * (2 * 3584 * 28 + a)
    policy, reference = 2 * (2 * 233_057_792 + 1_090_002_432) + kept, 2 * 7_615_616_512 + 32_768 * a
    assert memory["a pass in bfloat16"] == max(policy, reference)
    assert memory["student"] == 2 * 7_615_616_512 + 16_384 * a
    assert "vLLM: weights, KV cache" not in memory


def test_vllm_in_the_process_takes_its_share_of_the_card() -> None:
    memory = training_memory(case(engine="vllm"))
    assert memory["vLLM: weights, KV cache"] == pytest.approx(0.3 * 139 * GIB)


def test_without_checkpointing_every_block_is_kept() -> None:
    kept = case().with_grpo(gradient_checkpointing=False)
    assert activations(kept) == 32_768 * 28 * 233_472
    assert activations(kept) > 10 * activations(case())


def test_the_loss_of_one_gpu_takes_its_flop_at_the_assumed_share() -> None:
    """1.5B, tied: 5,120 tokens a row, 1,024 rows; 2 P FLOP a token and 4 L q x 2,560 of attention, four times."""
    one = case(1, model="1.5B")
    flops = 1024 * 5120 * (2 * 1_543_714_304 + 4 * 28 * 1536 * 2560)
    assert step_seconds(one)["score"] == pytest.approx(flops / (790e12 * 0.5))
    assert step_seconds(one)["loss"] == pytest.approx(4 * flops / (790e12 * 0.4))


def test_decoding_reads_weights_and_cache_once_a_token() -> None:
    """All 1,024 rows fit beside the weights of a 1.5B on four GPUs: 4,096 steps, then the longest row's 12,288."""
    apart = case(8, model="1.5B", engine="vllm-server")
    assert rows_at_once(apart) == 1024
    rate, weights, seen, kv = 4 * 4.3e12 * 0.6, 2 * 1_543_714_304, 1024 + 2048, 4 * 28 * 256
    expected = 4096 * (weights + 1024 * seen * kv) / rate + 12_288 * (weights + seen * kv) / rate
    assert step_seconds(apart)["generate"] == pytest.approx(expected)


def test_gpus_among_which_the_batch_does_not_divide_are_idle() -> None:
    apart = case(64, engine="vllm-server")
    assert (apart.sampling, apart.training, apart.idle) == (8, 32, 24)


def test_one_gpu_does_everything_whatever_the_recipe_says() -> None:
    alone = case(1, engine="vllm-server", student_gpus=1)
    assert (alone.sampling, alone.reading, alone.training, alone.parts) == (0, 0, 1, 1)


def test_a_case_that_does_not_fit_says_which_part_is_too_large() -> None:
    [obstacle] = obstacles(case(1))
    assert "a GPU that trains needs" in obstacle
    assert "AdamW's moments 61" in obstacle
    assert obstacles(case(8)) == []


def test_no_gpu_left_to_train_is_said_so() -> None:
    assert obstacles(case(2, engine="vllm-server", student_gpus=1)) == ["no GPU is left to train: 1 sample and 1 read"]


def test_vllm_without_room_for_one_row_does_not_fit() -> None:
    cramped = case(64, model="32B", engine="vllm")
    assert any("keys and values" in obstacle for obstacle in obstacles(cramped))


@pytest.mark.parametrize("gpus", [8, 64])
@pytest.mark.parametrize("model", ["1.5B", "7B", "32B"])
def test_with_a_remedy_a_case_fits(model: str, gpus: int) -> None:
    made = case(gpus, model=model)
    for words in remedies(made) if obstacles(made) else []:
        mended = made
        for change in CHANGES:
            changed = change(mended)
            if changed and changed.words in words.split(" and "):
                mended = changed.case
        assert obstacles(mended) == []


def test_more_gpus_never_take_more_memory_each() -> None:
    sizes = [sum(training_memory(case(gpus, engine="vllm")).values()) for gpus in (1, 2, 8, 64)]
    assert sizes == sorted(sizes, reverse=True)


def test_an_adapter_needs_two_bytes_a_parameter_and_no_reference() -> None:
    """7B, rank 16: 28 x 16 x (2 (3584 + 3584) + 2 (3584 + 512) + 3 (3584 + 18944)) = 40,370,176 parameters."""
    [adapted] = [made.case for change in CHANGES if (made := change(case(1))) and "lora" in made.words]
    memory = training_memory(adapted)
    assert adapted.trained == 40_370_176
    assert memory["weights"] == 2 * 7_615_616_512 + 4 * 40_370_176
    assert memory["AdamW's moments"] == 8 * 40_370_176
    assert "reference" not in memory
    assert memory["a pass in bfloat16"] == activations(adapted)
    assert step_seconds(adapted)["loss"] == pytest.approx(0.75 * step_seconds(case(1))["loss"])


def test_undivided_each_gpu_holds_all() -> None:
    whole = replace(case(8, engine="vllm"), divided=False)
    assert training_memory(whole)["weights"] == 4 * 7_615_616_512


def test_the_command_prints_and_writes_the_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "plan.json"
    assert main(["plan", "rlt-7b", "--model", "7B", "--gpus", "1", "--gpus", "8", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "does not fit" in said
    assert said.rstrip().endswith("fits")
    one, eight = json.loads(out.read_text())
    assert one["obstacles"]
    assert one["seconds"] == {}
    assert eight["gpus"] == {"all": 8, "sampling": 4, "reading": 0, "training": 4}
    assert eight["seconds"]["loss"] > eight["seconds"]["score"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["rlt-7b"], "the recipe's teacher; --model: 'runs/rlt-7b/warm' is neither a shape (1.5B, 7B, 32B) nor"),
        (["rlt-7b", "--model", "8B"], "--model: '8B' is neither a shape"),
        (["none"], "no such file"),
        (["rlt-7b", "--model", "7B", "--gpus", "0"], "--gpus.0"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *arguments]) == 1
    said = capsys.readouterr().err
    assert complaint in said
    assert said.count("\n") == 1


def test_a_folder_of_another_kind_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text('{"hidden_size": 8}')
    assert main(["plan", "rlt-7b", "--model", str(tmp_path)]) == 1
    assert "does not describe a dense decoder (KeyError('num_attention_heads'))" in capsys.readouterr().err


def test_the_table_in_the_docs_is_what_is_computed_now() -> None:
    assert table() in (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")


def test_a_plan_loads_no_torch() -> None:
    code = "import sys, teacher.plan.plan, teacher.plan.table; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_every_checked_in_recipe_with_rl_can_be_planned() -> None:
    for recipe in ("toy", "gsm8k-cpu", "gsm8k-gpu", "rlt-7b"):
        plan = PlanConfig(recipe=recipe, model="1.5B")
        assert sum(training_memory(case_of(plan, recipe_settings(plan), 8)).values()) > 0
