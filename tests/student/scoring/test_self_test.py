"""The self-test tells a student from its next checkpoint, its temperature and its rounding."""

from pathlib import Path

import pytest
import torch

from student.configs import ModelSettings, ScoringSettings
from student.errors import ModelError
from student.models import load_model, load_pair
from student.scoring.protocol import PassageLogps
from student.scoring.scorer import Scorer
from student.scoring.self_test import SelfTest, difference, on_cpu, read_here

CPU = ModelSettings(device="cpu")


def logps(folder: Path, test: SelfTest, temperature: float, dtype: str = "float32") -> list[PassageLogps]:
    settings = ModelSettings.model_validate({"device": "cpu", "dtype": dtype})
    return Scorer(load_model(str(folder), settings), ScoringSettings()).logps(test.passages, temperature)


def test_the_same_student_passes(sharp_student: Path) -> None:
    test = read_here(str(sharp_student), CPU, ScoringSettings(), 0.7)
    test.judge(logps(sharp_student, test, 0.7), "here")
    assert difference(logps(sharp_student, test, 0.7), test.expected)[1] < 1e-6


def test_the_next_checkpoint_is_refused_in_one_line(sharp_student: Path, other_student: Path) -> None:
    test = read_here(str(sharp_student), CPU, ScoringSettings(), 1.0)
    with pytest.raises(
        ModelError, match=r"vLLM at http://a does not read as the student does.*serve this student"
    ) as told:
        test.judge(logps(other_student, test, 1.0), "http://a")
    assert "\n" not in str(told.value)


def test_a_student_at_temperature_1_is_recognised(sharp_student: Path) -> None:
    test = read_here(str(sharp_student), CPU, ScoringSettings(), 0.7)
    with pytest.raises(ModelError, match="it holds the student at temperature 1: let it serve the copy"):
        test.judge(logps(sharp_student, test, 1.0), "http://a")


def test_16_bits_are_refused_at_the_tolerance_of_32_and_pass_at_their_own(sharp_student: Path) -> None:
    exact = read_here(str(sharp_student), CPU, ScoringSettings(), 1.0)
    rounded = logps(sharp_student, exact, 1.0, "bfloat16")
    with pytest.raises(ModelError, match=r"tolerance 0\.001"):
        exact.judge(rounded, "here")
    read_here(str(sharp_student), CPU, ScoringSettings(tolerance=0.5), 1.0).judge(rounded, "here")


def test_numbers_that_are_not_finite_are_refused(sharp_student: Path) -> None:
    test = read_here(str(sharp_student), CPU, ScoringSettings(), 1.0)
    seen = logps(sharp_student, test, 1.0)
    seen[0].solution_S[0] = torch.nan
    with pytest.raises(ModelError, match="differ by nan"):
        test.judge(seen, "here")


def test_the_student_is_read_in_the_precision_of_its_weights_unless_told(sharp_student: Path, tmp_path: Path) -> None:
    model, tokenizer = load_pair(str(sharp_student), ModelSettings(device="cpu", dtype="bfloat16"))
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert on_cpu(str(tmp_path), ModelSettings()).dtype == "bfloat16"
    assert on_cpu(str(tmp_path), ModelSettings(dtype="float32", threads=3)) == ModelSettings(
        device="cpu", dtype="float32", threads=3
    )
    assert on_cpu(str(sharp_student), ModelSettings()).dtype == "float32"
    assert read_here(str(tmp_path), ModelSettings(), ScoringSettings(), 1.0).tolerance == 0.05
    assert read_here(str(sharp_student), ModelSettings(), ScoringSettings(), 1.0).tolerance == 1e-3
