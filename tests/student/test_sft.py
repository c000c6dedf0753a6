import copy
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import SFTTrainer

import student.sft
from student.careful_trainer import Diverged, passes
from student.configs import ModelSettings, SftConfig
from student.errors import ConfigError, OutputError, ProblemError
from student.interruption import Interrupted
from student.models import cast_parameters, load_model, load_pair
from student.sft import SftReport, TokenRow, rows_digest, train_sft

CPU = ModelSettings(device="cpu")
ROWS = [
    TokenRow([3 + row % 7, 40, 41 + row], [50 + (row * position) % 90 for position in range(2 + row % 5)] + [2])
    for row in range(40)
]
"""40 rows of 6 to 10 tokens."""


@pytest.fixture
def pair(tiny_model_folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    return load_pair(str(tiny_model_folder), CPU)


def config(**settings: Any) -> SftConfig:
    small = {"epochs": 1, "batch_size": 8, "rows_per_device": 8, "learning_rate": 1e-3, "log_steps": 1}
    return SftConfig.model_validate(small | settings)


def metrics(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def oracle(model: PreTrainedModel, rows: list[TokenRow]) -> tuple[float, float]:
    """Loss and gradient norm of one step in float64: row by row, without padding, completion tokens only."""
    exact = copy.deepcopy(model).double()
    loss = torch.zeros((), dtype=torch.float64)
    for row in rows:
        logits_TV = exact(torch.tensor([row.prompt_ids + row.completion_ids])).logits[0]
        logps_TV = logits_TV.log_softmax(-1)
        for position, token in enumerate(row.completion_ids, start=len(row.prompt_ids)):
            loss = loss - logps_TV[position - 1, token]
    loss = loss / sum(len(row.completion_ids) for row in rows)
    loss.backward()
    squares = [weight.grad.pow(2).sum() for weight in exact.parameters() if weight.grad is not None]
    return loss.item(), torch.stack(squares).sum().sqrt().item()


@pytest.mark.parametrize("rows_per_device", [8, 2, 1])
@pytest.mark.parametrize("small_vocabulary", [8192, 0], ids=["plain logits", "TRL's chunked head"])
def test_the_loss_is_the_mean_over_completion_tokens_of_the_whole_step(
    pair: tuple[PreTrainedModel, PreTrainedTokenizerBase],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rows_per_device: int,
    small_vocabulary: int,
) -> None:
    monkeypatch.setattr(student.sft, "SMALL_VOCABULARY", small_vocabulary)
    model, tokenizer = pair
    loss, norm = oracle(model, ROWS[:8])
    train_sft(model, tokenizer, ROWS[:8], tmp_path, config(rows_per_device=rows_per_device))
    [first] = metrics(tmp_path)
    assert first["loss"] == pytest.approx(loss, abs=1e-5)
    assert first["grad_norm"] == pytest.approx(norm, rel=1e-5)


def test_a_row_without_other_rows_around_it_gives_the_same_loss_as_among_longer_ones(
    pair: tuple[PreTrainedModel, PreTrainedTokenizerBase], tmp_path: Path
) -> None:
    model, tokenizer = pair
    short, long = TokenRow([3, 4], [5, 2]), TokenRow(list(range(3, 40)), list(range(40, 80)))
    loss, _ = oracle(model, [short, long])
    train_sft(model, tokenizer, [short, long], tmp_path, config(batch_size=2))
    assert metrics(tmp_path)[0]["loss"] == pytest.approx(loss, abs=1e-5)


def test_rows_that_are_too_long_are_left_out_and_counted_never_cut(
    pair: tuple[PreTrainedModel, PreTrainedTokenizerBase], tmp_path: Path
) -> None:
    model, tokenizer = pair
    fits = [row for row in ROWS if len(row) <= 8]
    report = train_sft(model, tokenizer, ROWS, tmp_path, config(max_tokens=8, epochs=2))
    assert (report.rows, report.used, report.too_long) == (40, len(fits), 40 - len(fits))
    assert 0 < report.too_long < 40
    assert report.trained_tokens == 2 * sum(len(row.completion_ids) for row in fits)


def test_what_the_model_cannot_read_is_too_long_whatever_the_setting(
    pair: tuple[PreTrainedModel, PreTrainedTokenizerBase], tmp_path: Path
) -> None:
    model, tokenizer = pair
    rows = [TokenRow([3], [4] * tokens) for tokens in (1023, 1024)]
    assert train_sft(model, tokenizer, rows, tmp_path, config(max_steps=1)).too_long == 1


@pytest.mark.parametrize(
    ("rows", "told"), [([], "there are none"), (ROWS, "the shortest has 6 tokens, the limit is 5")]
)
def test_nothing_to_train_on_is_refused_before_anything_is_written(
    pair: tuple[PreTrainedModel, PreTrainedTokenizerBase], tmp_path: Path, rows: list[TokenRow], told: str
) -> None:
    with pytest.raises(ProblemError, match=told):
        train_sft(*pair, rows, tmp_path / "out", config(max_tokens=5))
    assert not (tmp_path / "out").exists()


def test_training_lowers_the_loss_and_leaves_only_the_model_and_its_logs(
    pair: tuple[PreTrainedModel, PreTrainedTokenizerBase], tmp_path: Path
) -> None:
    model, tokenizer = pair
    report = train_sft(model, tokenizer, ROWS, tmp_path, config(epochs=6, learning_rate=1e-2, save_steps=4))
    assert isinstance(report, SftReport)
    assert report.steps == 30
    assert report.final_loss == metrics(tmp_path)[-1]["loss"] < 0.7 * metrics(tmp_path)[0]["loss"]
    assert [entry["step"] for entry in metrics(tmp_path)] == list(range(1, 31))
    saved = load_model(str(tmp_path), CPU)
    assert all(torch.equal(one, other) for one, other in zip(saved.parameters(), model.parameters(), strict=True))
    files = {"config.json", "generation_config.json", "model.safetensors", "training.json"}
    assert {file.name for file in tmp_path.iterdir()} == files | {
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "events.jsonl",
        "metrics.jsonl",
    }


def test_the_learning_rate_follows_the_schedule(
    pair: tuple[PreTrainedModel, PreTrainedTokenizerBase], tmp_path: Path
) -> None:
    train_sft(*pair, ROWS, tmp_path, config(schedule="linear", warmup_fraction=0.4, learning_rate=0.01))
    # 5 steps, 2 of warm-up; transformers logs the rate that the step was made with.
    rates = [entry["learning_rate"] for entry in metrics(tmp_path)]
    assert rates == pytest.approx([0.005, 0.01, 0.01, 0.01 * 2 / 3, 0.01 / 3])


def test_max_steps_ends_the_run_whatever_the_epochs(
    pair: tuple[PreTrainedModel, PreTrainedTokenizerBase], tmp_path: Path
) -> None:
    assert train_sft(*pair, ROWS, tmp_path, config(epochs=1, max_steps=7)).steps == 7


def test_the_model_comes_back_in_eval_mode_and_its_copy_is_its_own(
    pair: tuple[PreTrainedModel, PreTrainedTokenizerBase], tmp_path: Path
) -> None:
    model, tokenizer = pair
    train_sft(model, tokenizer, ROWS, tmp_path, config(gradient_checkpointing=True))
    assert not model.training
    assert not model.is_gradient_checkpointing
    assert all(weight.grad is None for weight in model.parameters())
    ids = torch.tensor([[3, 4, 5]])
    twin = copy.deepcopy(model)
    before = model(ids).logits
    with torch.no_grad():
        for weight in twin.parameters():
            weight.zero_()
    assert twin(ids).logits.abs().max() == 0
    assert torch.equal(model(ids).logits, before)


def test_a_model_can_be_trained_twice_in_one_process(
    pair: tuple[PreTrainedModel, PreTrainedTokenizerBase], tmp_path: Path
) -> None:
    model, tokenizer = pair
    first = train_sft(model, tokenizer, ROWS, tmp_path / "one", config(epochs=3))
    loss, _ = oracle(model, ROWS)
    second = train_sft(model, tokenizer, ROWS, tmp_path / "two", config(batch_size=40, rows_per_device=40))
    assert second.final_loss == pytest.approx(loss, abs=1e-5)
    assert second.final_loss < first.final_loss


def test_bfloat16_weights_learn_by_steps_smaller_than_their_spacing(
    pair: tuple[PreTrainedModel, PreTrainedTokenizerBase], tmp_path: Path
) -> None:
    model, tokenizer = pair
    cast_parameters(model, torch.bfloat16)
    before = [weight.clone() for weight in model.parameters() if weight.ndim > 1]
    train_sft(model, tokenizer, ROWS, tmp_path, config(epochs=10, learning_rate=1e-5, schedule="constant"))
    after = [weight for weight in model.parameters() if weight.ndim > 1]
    assert model.dtype == torch.bfloat16
    assert load_model(str(tmp_path), ModelSettings(device="cpu", dtype="bfloat16")).dtype == torch.bfloat16
    # Without the embedding, most of whose rows saw no token. Weights near 0.02 are 1.2e-4 apart: each of 50 steps of
    # 1e-5 alone rounds to nothing, their sum does not.
    blocks = zip(before[1:], after[1:], strict=True)
    assert torch.cat([(one != other).flatten() for one, other in blocks]).float().mean() > 0.7


def test_a_loss_that_is_not_finite_stops_with_one_error_before_anything_is_saved(
    pair: tuple[PreTrainedModel, PreTrainedTokenizerBase], tmp_path: Path
) -> None:
    model, tokenizer = pair
    with torch.no_grad():
        next(model.parameters())[50] = float("nan")
    with pytest.raises(Diverged, match=r"diverged in step 1: the loss is nan; lower learning_rate \(0.001\)"):
        train_sft(model, tokenizer, ROWS, tmp_path, config(save_steps=1))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["events.jsonl", "metrics.jsonl", "training.json"]


def test_weights_that_break_in_a_step_with_a_finite_loss_are_not_saved(
    pair: tuple[PreTrainedModel, PreTrainedTokenizerBase], tmp_path: Path
) -> None:
    with pytest.raises(Diverged, match="weights are not finite"):
        train_sft(*pair, ROWS, tmp_path, config(max_steps=1, learning_rate=3e38, warmup_fraction=0))
    assert not (tmp_path / "config.json").exists()


def test_another_runs_checkpoints_are_refused(
    pair: tuple[PreTrainedModel, PreTrainedTokenizerBase], tmp_path: Path
) -> None:
    train_sft(*pair, ROWS, tmp_path, config(max_steps=1))
    with pytest.raises(OutputError, match="rows was"):
        train_sft(*pair, ROWS[1:], tmp_path, config(max_steps=1))
    with pytest.raises(OutputError, match=r"sft\.max_steps was 1, now 2"):
        train_sft(*pair, ROWS, tmp_path, config(max_steps=2))


def test_the_digest_of_rows_tells_prompt_from_completion_and_order() -> None:
    one, moved = TokenRow([1, 2], [3]), TokenRow([1], [2, 3])
    digests = {rows_digest(rows) for rows in ([one], [moved], [one, moved], [moved, one], [])}
    assert len(digests) == 5


def test_a_step_is_split_into_equal_passes() -> None:
    assert passes(SftConfig(batch_size=96, rows_per_device=8)) == (8, 12)
    assert passes(SftConfig(batch_size=10, rows_per_device=8)) == (5, 2)
    assert passes(SftConfig(batch_size=4, rows_per_device=8)) == (4, 1)
    assert passes(SftConfig(batch_size=16, rows_per_device=8), devices=8) == (2, 1)
    with pytest.raises(ConfigError, match="multiple of the 8 devices, got 12"):
        passes(SftConfig(batch_size=12), devices=8)


def test_trl_still_has_the_hooks_that_we_override() -> None:
    for hook in (
        "_send_telemetry",
        "_save_checkpoint",
        "compute_loss",
        "training_step",
        "create_optimizer",
        "create_scheduler",
    ):
        assert callable(getattr(SFTTrainer, hook))


LONG = config(epochs=12, save_steps=7, rows_per_device=4)
"""60 steps of two passes, 5 an epoch: checkpoints fall into epochs, not only between them."""


def run_until_signal(folder: Path, out: Path, settings: SftConfig, from_step: int) -> None:
    """Trains in this process and sends it SIGTERM once metrics.jsonl has reached `from_step`."""

    def send() -> None:
        log = out / "metrics.jsonl"
        while not log.exists() or len(log.read_text().splitlines()) < from_step:
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGTERM)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        train_sft(*load_pair(str(folder), CPU), ROWS, out, settings)
    finally:
        sender.join()


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_stopped_by_sigterm_in_its_second_and_a_later_epoch_a_run_ends_with_the_same_bits(
    tiny_model_folder: Path, tmp_path: Path, optimizer: str
) -> None:
    settings = config(epochs=8, optimizer=optimizer, rows_per_device=4, save_steps=100)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    expected = train_sft(*load_pair(str(tiny_model_folder), CPU), ROWS, whole, settings)
    for from_step in (7, 19):
        with pytest.raises(Interrupted, match=r"after step \d+ of 40, saved"):
            run_until_signal(tiny_model_folder, stopped, settings, from_step)
        assert not (stopped / "config.json").exists()
    report = train_sft(*load_pair(str(tiny_model_folder), CPU), ROWS, stopped, settings)
    assert (stopped / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert [entry["loss"] for entry in metrics(stopped)] == [entry["loss"] for entry in metrics(whole)]
    assert (report.steps, report.final_loss) == (expected.steps, expected.final_loss)


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
from student.models import load_pair
from test_sft import CPU, LONG, ROWS, train_sft
torch.set_num_threads(1)
train_sft(*load_pair(sys.argv[2], CPU), ROWS, Path(sys.argv[3]), LONG)
"""


@pytest.mark.slow
def test_killed_in_its_second_epoch_or_later_a_run_ends_with_the_same_bits(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train_sft(*load_pair(str(tiny_model_folder), CPU), ROWS, whole, LONG)
    arguments = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(tiny_model_folder), str(killed)]
    process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None and not (killed / "checkpoint-14" / "trainer_state.json").exists():
            time.sleep(0.001)
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (killed / "config.json").exists()
    train_sft(*load_pair(str(tiny_model_folder), CPU), ROWS, killed, LONG)
    assert (killed / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert [entry["step"] for entry in metrics(killed)] == list(range(1, 61))


@pytest.mark.parametrize("save_steps", [2, 100])
def test_a_disk_that_is_full_leaves_no_half_written_model_or_checkpoint(
    pair: tuple[PreTrainedModel, PreTrainedTokenizerBase], tmp_path: Path, save_steps: int
) -> None:
    # A limit on the size of files fails as a full disk does, in the middle of writing.
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, former[1]))
    try:
        with pytest.raises(OutputError, match="cannot be written"):
            train_sft(*pair, ROWS, tmp_path, config(save_steps=save_steps))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["events.jsonl", "metrics.jsonl", "training.json"]
