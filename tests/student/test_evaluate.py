"""`rlt evaluate`: figures worked by hand, the same twice, resumed, and the interval against known ones."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from student.configs import EvaluateConfig, SamplingSettings
from student.engine import Request, Sample
from student.errors import OutputError
from student.evaluate import EvaluationReport, Setup, bootstrap_mean, evaluate_model, main, pass_at, table
from student.models import load_tokenizer
from student.problem_files import write_problems
from student.problems import Problem
from student.reading import StudentFormat
from student.tags import RLT

SAMPLING = SamplingSettings(temperature=1.0, max_tokens=12, batch_size=8, seed=5, engine="transformers")
RIGHT = "<|begin_of_thought|>\n\nx<|end_of_thought|>\n\n<|begin_of_solution|>\n\n{}\n\n<|end_of_solution|>"


class ScriptedStudent:
    """An engine that writes the given texts in turn; `None` is a text that was cut."""

    name = "transformers"
    precision = "float32"
    context_tokens = 500

    def __init__(self, form: StudentFormat, texts: Sequence[str | None]) -> None:
        self._form = form
        self._texts = iter(texts)

    def sample(self, requests: Sequence[Request], sampling: SamplingSettings) -> list[Sample]:
        return [self._sample(text) for _, text in zip(requests, self._texts, strict=False)]

    def _sample(self, text: str | None) -> Sample:
        return Sample(self._form.tokenizer(text or "cut")["input_ids"], [], finished=text is not None)

    def close(self) -> None: ...


@pytest.fixture
def form(tiny_model_folder: Path) -> StudentFormat:
    return StudentFormat(load_tokenizer(str(tiny_model_folder)), RLT)


def test_the_figures_of_a_known_student(form: StudentFormat) -> None:
    problems = [Problem(question=f"{n} + 1?", solution=str(n + 1), answer=str(n + 1)) for n in range(3)]
    problems.append(Problem(question="too long? " * 400, solution="7"))
    # right, wrong, no section, cut | all right | all wrong | (not sampled)
    texts = [RIGHT.format(1), RIGHT.format(9), "1", None, *[RIGHT.format(2)] * 4, *[RIGHT.format(0)] * 4]
    setup = Setup(model="scripted", samples=4, sampling=SAMPLING)
    report = evaluate_model(ScriptedStudent(form, texts), form, problems, setup)
    assert (report.problems, report.generations, report.impossible) == (4, 16, 4)
    assert report.pass_at_1.value == pytest.approx((0.25 + 1 + 0 + 0) / 4)
    # one of four right: pass@2 = 1 - C(3,2)/C(4,2) = .5, pass@4 = 1
    assert report.pass_at_k == {1: pytest.approx(0.3125), 2: pytest.approx(0.375), 4: pytest.approx(0.5)}
    assert report.truncated == 1 / 16
    assert report.no_answer == (2 + 4) / 16
    assert report.pass_at_1.low < report.pass_at_1.value < report.pass_at_1.high
    text = table(report)
    assert "pass@1        31.25%   95 % interval" in text
    assert "impossible         4   counted as wrong" in text


def test_pass_at_k_is_the_share_of_all_draws_that_hold_a_correct_one() -> None:
    for correct, k in itertools.product(range(6), range(1, 6)):
        draws = list(itertools.combinations([True] * correct + [False] * (5 - correct), k))
        assert pass_at(k, 5, correct) == pytest.approx(sum(map(any, draws)) / len(draws))


def test_the_interval_is_close_to_the_normal_one_where_that_holds() -> None:
    shares = np.random.default_rng(0).binomial(4, 0.3, size=1000) / 4
    estimate = bootstrap_mean(shares, seed=0)
    half = 1.96 * shares.std(ddof=1) / np.sqrt(1000)
    assert estimate.value == pytest.approx(shares.mean())
    assert estimate.low == pytest.approx(shares.mean() - half, abs=0.1 * half)
    assert estimate.high == pytest.approx(shares.mean() + half, abs=0.1 * half)
    assert bootstrap_mean(shares, seed=0) == estimate


@pytest.mark.parametrize(("right", "low", "high"), [(0, 0.0, 0.1157), (30, 0.8843, 1.0)])
def test_all_wrong_or_all_right_is_not_certain(right: int, low: float, high: float) -> None:
    # Clopper and Pearson for 0 of 30: 1 - .025 ** (1 / 30) = .1157
    estimate = bootstrap_mean(np.array([float(right > 0)] * 30), seed=0)
    assert (estimate.low, estimate.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))
    assert bootstrap_mean(np.array([0.0]), seed=0).high == pytest.approx(0.975)


def settings(folder: Path, model: Path, out: str, **changes: object) -> EvaluateConfig:
    values = {"problems": str(folder / "problems.jsonl"), "model": str(model), "out": str(folder / out), "samples": 2}
    return EvaluateConfig.model_validate({**values, "device": "cpu", "threads": 1, "sampling": SAMPLING, **changes})


def test_two_runs_of_one_seed_agree_and_a_stopped_one_goes_on(
    tmp_path: Path, tiny_model_folder: Path, tiny_problems: list[Problem], capsys: pytest.CaptureFixture[str]
) -> None:
    write_problems(tiny_problems[:15], tmp_path / "problems.jsonl")
    main(settings(tmp_path, tiny_model_folder, "first"))
    printed = capsys.readouterr().out
    main(settings(tmp_path, tiny_model_folder, "second"))
    first, second = tmp_path / "first", tmp_path / "second"
    names = {"generations.jsonl", "generations.jsonl.settings.json", "report.json", "report.txt"}
    assert {path.name for path in first.iterdir()} == names
    assert printed == (first / "report.txt").read_text()
    assert "30 samples" not in printed
    assert "15 problems, 2 samples each, temperature 1.0, top-p 1.0, at most 12 tokens, seed 5, math grading" in printed
    for name in ("generations.jsonl", "report.json", "report.txt"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    # as if killed after two batches and a bit
    lines = (second / "generations.jsonl").read_bytes().splitlines(keepends=True)
    (second / "generations.jsonl.partial").write_bytes(b"".join(lines[:17]) + lines[17][:9])
    for name in ("generations.jsonl", "report.json", "report.txt"):
        (second / name).unlink()
    main(settings(tmp_path, tiny_model_folder, "second"))
    for name in ("generations.jsonl", "report.json", "report.txt"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_the_report_says_what_was_run_and_is_read_back(
    tmp_path: Path, tiny_model_folder: Path, tiny_problems: list[Problem], capsys: pytest.CaptureFixture[str]
) -> None:
    write_problems(tiny_problems[:4], tmp_path / "problems.jsonl")
    greedy = SAMPLING.model_copy(update={"temperature": 0.0})
    config = settings(tmp_path, tiny_model_folder, "out", samples=1, sampling=greedy, grading="exact")
    main(config)
    report = EvaluationReport.model_validate_json((tmp_path / "out" / "report.json").read_text())
    assert (report.engine, report.precision, report.setup.grading) == ("transformers", "float32", "exact")
    assert (report.problems, report.generations, report.pass_at_1.value) == (4, 4, 0.0)
    assert report.truncated == report.no_answer == 1.0
    assert len(json.loads((tmp_path / "out" / "report.json").read_text())["setup"]["digest"]) == 16
    assert "greedy" in capsys.readouterr().out
    main(config)
    assert "complete already" in capsys.readouterr().out
    with pytest.raises(OutputError, match="grading was 'exact', now 'math'"):
        main(settings(tmp_path, tiny_model_folder, "out", samples=1, sampling=greedy))
