"""Preference training starts from no preference, learns the one that rewards say, and resumes to the same bits."""

import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

import student.preferences
from student.cli import main as rlt
from student.configs import ModelSettings, PreferenceConfig, SftConfig
from student.distill import labels_among, pairs_among, prepare
from student.errors import ConfigError, ProblemError
from student.explanations import Explanation, Score, from_trace
from student.interruption import Interrupted
from student.metrics import MetricsFile
from student.models import load_pair
from student.preferences import LabelledRow, TokenPair, train_on_labels, train_on_pairs
from student.problems import Problem
from student.reading import StudentFormat
from student.sft import TokenRow
from student.tags import RLT

CPU = ModelSettings(device="cpu", threads=1)
SETTINGS = SftConfig(batch_size=4, rows_per_device=4, learning_rate=1e-3, max_steps=12, save_steps=3, log_steps=1)
GOOD, BAD = "Nine and one are ten, so it is right.", "It is so because it is."


def rows(problems: list[Problem], rewards: tuple[float, ...] = (-1.0, -2.0)) -> list[Explanation]:
    """Two explanations a problem, the good one with the first reward."""
    return [
        from_trace(problem).model_copy(
            update={
                "sample": sample,
                "explanation": text,
                "score": Score(reward=reward, rss=reward, ss_mean=reward, ss_min=reward),
            }
        )
        for problem in problems
        for sample, (text, reward) in enumerate(zip((GOOD, BAD), rewards, strict=True))
    ]


def lesson(folder: Path, explanations: list[Explanation]) -> Any:
    return prepare(explanations, StudentFormat(load_pair(str(folder), CPU)[1], RLT), "explanation")


def metrics(out: Path, name: str) -> list[float]:
    entries = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [entry[name] for entry in entries if name in entry]


def logp(folder: str, row: TokenRow) -> float:
    """log p of a row's completion after its prompt, summed."""
    model, _ = load_pair(folder, CPU)
    ids = torch.tensor([[*row.prompt_ids, *row.completion_ids]])
    with torch.no_grad():
        logps = torch.log_softmax(model(ids).logits[0, :-1].float(), -1)
    picked = logps.gather(1, ids[0, 1:, None])[len(row.prompt_ids) - 1 :]
    return float(picked.sum())


def gains(before: Path, after: Path, some: list[TokenRow]) -> list[float]:
    """How much likelier each row became."""
    return [logp(str(after), row) - logp(str(before), row) for row in some]


def test_dpo_begins_at_log_2_and_ends_preferring_the_better_explanation(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path
) -> None:
    pairs = pairs_among(lesson(tiny_model_folder, rows(tiny_problems[:8])), PreferenceConfig())
    model, tokenizer = load_pair(str(tiny_model_folder), CPU)
    report = train_on_pairs(model, tokenizer, pairs, tmp_path / "out", SETTINGS, PreferenceConfig())
    losses = metrics(tmp_path / "out", "loss")
    assert losses[0] == pytest.approx(math.log(2), abs=1e-4)
    assert losses[-1] < losses[0] - 0.05
    assert (report.used, report.good, report.steps, report.preferred) == (8, 8, 12, 1.0)
    gained = [
        logp(str(tmp_path / "out"), row) - logp(str(tiny_model_folder), row)
        for row in (pairs[0].chosen, pairs[0].rejected)
    ]
    assert gained[0] > gained[1]


def test_the_first_step_of_dpo_has_the_loss_that_its_formula_gives_by_hand(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path
) -> None:
    """After one step the loss of the same pair is -log sigmoid(beta (h(chosen) - h(rejected)))."""
    pair = pairs_among(lesson(tiny_model_folder, rows(tiny_problems[:1])), PreferenceConfig())
    once = SETTINGS.model_copy(update={"batch_size": 1, "max_steps": 1, "warmup_fraction": 0.0, "schedule": "constant"})
    train_on_pairs(*load_pair(str(tiny_model_folder), CPU), pair, tmp_path / "one", once, PreferenceConfig(beta=0.3))
    twice = once.model_copy(update={"max_steps": 2})
    train_on_pairs(*load_pair(str(tiny_model_folder), CPU), pair, tmp_path / "two", twice, PreferenceConfig(beta=0.3))
    h = gains(tiny_model_folder, tmp_path / "one", [pair[0].chosen, pair[0].rejected])
    by_hand = -math.log(1 / (1 + math.exp(-0.3 * (h[0] - h[1]))))
    assert metrics(tmp_path / "two", "loss")[1] == pytest.approx(by_hand, abs=1e-3)


def test_kto_begins_at_a_half_and_ends_with_the_good_ones_ahead(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path
) -> None:
    labelled = labels_among(lesson(tiny_model_folder, rows(tiny_problems[:8])), PreferenceConfig())
    assert [each.good for each in labelled] == [True, False] * 8
    model, tokenizer = load_pair(str(tiny_model_folder), CPU)
    report = train_on_labels(model, tokenizer, labelled, tmp_path / "out", SETTINGS, PreferenceConfig())
    losses = metrics(tmp_path / "out", "loss")
    assert losses[0] == pytest.approx(0.5, abs=1e-3)
    assert losses[-1] < losses[0]
    assert (report.used, report.good) == (16, 8)
    gained = gains(tiny_model_folder, tmp_path / "out", [each.row for each in labelled[:2]])
    assert gained[0] > gained[1]


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_a_run_stopped_midway_ends_with_the_same_bits(
    method: str, tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught = lesson(tiny_model_folder, rows(tiny_problems[:8]))

    def train(out: Path) -> None:
        model, tokenizer = load_pair(str(tiny_model_folder), CPU)
        if method == "dpo":
            pairs = pairs_among(taught, PreferenceConfig())
            train_on_pairs(model, tokenizer, pairs, out, SETTINGS, PreferenceConfig())
        else:
            labelled = labels_among(taught, PreferenceConfig())
            train_on_labels(model, tokenizer, labelled, out, SETTINGS, PreferenceConfig())

    class StopsAtFive(MetricsFile):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 4:
                os.kill(os.getpid(), signal.SIGTERM)

    train(tmp_path / "whole")
    with monkeypatch.context() as patched:
        patched.setattr(student.preferences, "MetricsFile", StopsAtFive)
        with pytest.raises(Interrupted, match="after step 5 of 12"):
            train(tmp_path / "stopped")
    train(tmp_path / "stopped")
    assert (tmp_path / "stopped/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()
    assert len(metrics(tmp_path / "stopped", "loss")) == 12


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_the_command_trains_by_preference_and_says_what_it_used(
    method: str, tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path, capsys: Any
) -> None:
    source = tmp_path / "scored.jsonl"
    source.write_text("".join(row.model_dump_json() + "\n" for row in rows(tiny_problems[:4])))
    command = (
        f"distill --explanations {source} --student {tiny_model_folder} --out {tmp_path / 'out'} --method {method}"
    )
    assert (
        rlt([*command.split(), "--device", "cpu", "--threads", "1", "--sft.batch-size", "4", "--sft.epochs", "1"]) == 0
    )
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["rows"], report["used"], report["good"]) == (8, 4 if method == "dpo" else 8, 4)
    assert "preferred" in capsys.readouterr().out


def test_what_cannot_be_preferred_is_one_clear_error(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path
) -> None:
    preference = PreferenceConfig()
    with pytest.raises(ProblemError, match=r"no row has a reward: `rlt score` the explanations first"):
        pairs_among(lesson(tiny_model_folder, [from_trace(problem) for problem in tiny_problems[:4]]), preference)
    with pytest.raises(ProblemError, match="no pairs among 8 rows: a problem needs two explanations whose rewards"):
        pairs_among(lesson(tiny_model_folder, rows(tiny_problems[:4], (-1.0, -1.0))), preference)
    model, tokenizer = load_pair(str(tiny_model_folder), CPU)
    row = TokenRow([1, 2], [3])
    alone = SETTINGS.model_copy(update={"rows_per_device": 1})
    with pytest.raises(ConfigError, match=r"sft\.rows_per_device: KTO compares rows of one pass"):
        train_on_labels(model, tokenizer, [LabelledRow(row, True)], tmp_path / "out", alone, preference)
    with pytest.raises(ProblemError, match="2 of 2 rows are good ones: KTO needs good and bad"):
        train_on_labels(model, tokenizer, [LabelledRow(row, True)] * 2, tmp_path / "out", SETTINGS, preference)
    long = TokenRow([1], [2] * 5000)
    with pytest.raises(ProblemError, match="no pairs to train on: the shortest has 5001 tokens, the limit is 1024"):
        train_on_pairs(model, tokenizer, [TokenPair(long, row)], tmp_path / "out", SETTINGS, preference)


def test_a_preference_for_no_thought_is_refused_before_anything_is_read() -> None:
    assert (
        rlt(["distill", "--explanations", "x", "--student", "y", "--out", "z", "--method", "dpo", "--think", "none"])
        != 0
    )
