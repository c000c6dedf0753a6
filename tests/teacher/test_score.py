"""`rlt score` gives any trace the reward that RL would have given it, and a row that cannot be scored says why."""

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from student.config import FREE, remember
from student.configs import ModelSettings
from student.errors import OutputError
from student.explanations import Explanation, from_trace, read_explanations
from student.models import load_pair, load_tokenizer
from student.problem_files import write_problems
from student.problems import Problem
from student.reading import StudentFormat
from student.scoring.scorer import Scorer
from student.tags import STYLES
from teacher.configs import ScoreConfig
from teacher.errors import NoExactKl
from teacher.prompts import TeacherFormat
from teacher.score import build_reward_model, draft_of, load_reward_model, main, score_rows
from tests.other_tokens import byte_tokenizer, save_tiny_model

CPU = ModelSettings(device="cpu", threads=1)


def settings(folder: Path, tmp_path: Path, **changes: object) -> ScoreConfig:
    values = {"traces": str(tmp_path / "traces.jsonl"), "student": str(folder), "out": str(tmp_path / "scored.jsonl")}
    return ScoreConfig.model_validate({"device": "cpu", "threads": 1, **values, **changes})


def logp(folder: Path, ids: list[int], positions: range, temperature: float) -> torch.Tensor:
    model, _ = load_pair(str(folder), CPU)
    with torch.no_grad():
        logp_TV = (model(torch.tensor([ids])).logits[0].double() / temperature).log_softmax(-1)
    return torch.stack([logp_TV[i - 1, ids[i]] for i in positions])


def test_a_trace_is_scored_by_the_paper_s_formula(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path
) -> None:
    problem = tiny_problems[0]
    config = settings(tiny_model_folder, tmp_path)
    student, tokenizer = load_pair(str(tiny_model_folder), CPU)
    teacher, _ = load_pair(str(tiny_model_folder), CPU)
    model = build_reward_model(Scorer(student, config.scoring), tokenizer, teacher, config)
    [row] = score_rows(model, [from_trace(problem)])

    reads = StudentFormat(tokenizer, STYLES["rlt"])
    thought = reads.encode(str(problem.reasoning_trace))
    ours = reads.read(problem.question, thought, problem.solution)
    theirs = TeacherFormat(tokenizer, STYLES["rlt"]).passage(problem.question, problem.solution, thought)
    solution = logp(tiny_model_folder, ours.input_ids, ours.solution, 0.7)
    kl = logp(tiny_model_folder, theirs.input_ids, theirs.explanation, 0.7) - logp(
        tiny_model_folder, ours.input_ids, ours.explanation, 0.7
    )
    expected = solution.mean() + 0.01 * solution.min() - 3 * (kl.mean() + 0.01 * kl.max())
    assert row.score is not None
    assert row.score.reward == pytest.approx(expected.item(), abs=1e-5)


def test_without_a_teacher_the_reward_is_rss(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_problems(tiny_problems[:5], tmp_path / "traces.jsonl")
    config = settings(tiny_model_folder, tmp_path)
    main(config)
    rows = read_explanations(config.out, STYLES["rlt"])
    assert [row.problem_id for row in rows] == [problem.id for problem in tiny_problems[:5]]
    assert all(row.score is not None and row.score.reward == row.score.rss and row.score.rkl is None for row in rows)
    assert "5 rows, 5 scored" in capsys.readouterr().out
    main(config)
    assert "nothing to do" in capsys.readouterr().out


def test_a_row_that_cannot_be_scored_says_why_and_its_siblings_go_on(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path
) -> None:
    student, tokenizer = load_pair(str(tiny_model_folder), CPU)
    sound = from_trace(tiny_problems[0])
    control = sound.model_copy(update={"explanation": f"so {tokenizer.eos_token}"})
    failed = sound.model_copy(update={"error": "the prompt did not fit"})
    too_long = sound.model_copy(update={"question": "why " * 2000})
    empty = sound.model_copy(update={"explanation": "", "closed": False})
    cut = sound.model_copy(update={"explanation": "because " * 2000})
    config = settings(tiny_model_folder, tmp_path)
    model = build_reward_model(Scorer(student, config.scoring), tokenizer, None, config)
    rows: list[Explanation] = score_rows(model, [control, failed, too_long, empty, cut, sound])
    assert [row.score is None for row in rows] == [True, True, True, False, False, False]
    assert "control token" in str(rows[0].unscored)
    assert "see error" in str(rows[1].unscored)
    assert rows[1].error == "the prompt did not fit"
    assert "reads at most 1024" in str(rows[2].unscored)
    assert rows[2].error is None
    assert rows[3].score is not None
    assert "no end tag" in rows[3].score.notes
    assert rows[4].score is not None
    assert "to fit the student" in rows[4].score.notes[0]
    assert rows[5].unscored is None
    assert score_rows(model, [rows[5].model_copy(update={"unscored": "by another student"})])[0].unscored is None


@pytest.mark.parametrize("estimator", ["k1", "k3", "exact"])
def test_every_estimator_scores_a_teacher(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path, estimator: str
) -> None:
    config = settings(tiny_model_folder, tmp_path, reward={"kl_estimator": estimator})
    student, tokenizer = load_pair(str(tiny_model_folder), CPU)
    teacher, _ = load_pair(str(tiny_model_folder), CPU)
    model = build_reward_model(Scorer(student, config.scoring), tokenizer, teacher, config)
    rows = score_rows(model, [from_trace(problem) for problem in tiny_problems])
    kl = [row.score.kl_mean for row in rows if row.score is not None and row.score.kl_mean is not None]
    assert len(kl) == len(tiny_problems)
    assert estimator == "k1" or min(kl) > -1e-6


@pytest.fixture(scope="module")
def byte_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that reads bytes."""
    return save_tiny_model(byte_tokenizer(), tmp_path_factory.mktemp("byte_model"))


def test_a_teacher_with_other_tokens_is_compared_by_the_text_and_rss_is_as_without_it(
    tiny_model_folder: Path, byte_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path
) -> None:
    write_problems(tiny_problems[:5], tmp_path / "traces.jsonl")
    alone = settings(tiny_model_folder, tmp_path)
    beside = settings(
        tiny_model_folder, tmp_path, teacher=str(byte_model_folder), out=str(tmp_path / "with_teacher.jsonl")
    )
    main(alone)
    main(beside)
    for without, row in zip(*(read_explanations(each.out, STYLES["rlt"]) for each in (alone, beside)), strict=True):
        assert without.score is not None
        assert row.score is not None
        assert row.score.rss == without.score.rss
        text, tokens = row.explanation, len(row.explanation.encode())  # of the teacher's: bytes
        reads = StudentFormat(load_tokenizer(str(tiny_model_folder)), STYLES["rlt"])
        ours = reads.read(row.question, reads.encode(text), row.solution)
        writes = TeacherFormat(byte_tokenizer(), STYLES["rlt"])
        theirs = writes.passage(row.question, row.solution, byte_tokenizer()(text)["input_ids"])
        nats = logp(byte_model_folder, theirs.input_ids, theirs.explanation, 0.7).sum() - (
            logp(tiny_model_folder, ours.input_ids, ours.explanation, 0.7).sum()
        )
        assert row.score.kl_mean == pytest.approx(nats.item() / tokens, abs=1e-5)


def test_sampled_tokens_stay_the_teacher_s_and_the_student_reads_their_text(
    tiny_model_folder: Path, byte_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path
) -> None:
    model = load_reward_model(settings(byte_model_folder, tmp_path, teacher=str(tiny_model_folder)))
    tokenizer = load_tokenizer(str(tiny_model_folder))
    text = str(tiny_problems[0].reasoning_trace)
    odd = [token for letter in text for token in tokenizer(letter)["input_ids"]]  # not how the text is encoded
    row = from_trace(tiny_problems[0]).model_copy(update={"token_ids": tuple(odd)})
    draft = draft_of(model, row)
    assert draft.explained.explanation_ids == odd
    [seen] = model.sightings([draft])
    assert seen.teacher_logps_E is not None
    assert len(seen.teacher_logps_E) == len(odd)
    assert len(seen.logps.explanation_E) == len(text.encode())


def test_the_exact_kl_of_other_tokens_is_one_line_before_any_row_is_written(
    tiny_model_folder: Path, byte_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path
) -> None:
    write_problems(tiny_problems[:5], tmp_path / "traces.jsonl")
    config = settings(tiny_model_folder, tmp_path, teacher=str(byte_model_folder), reward={"kl_estimator": "exact"})
    with pytest.raises(NoExactKl, match=f"teacher '{byte_model_folder}' and student '{tiny_model_folder}'"):
        main(config)
    assert [path.name for path in tmp_path.iterdir()] == ["traces.jsonl"]


def test_the_exact_kl_of_a_student_elsewhere_is_refused_with_the_settings(tmp_path: Path) -> None:
    elsewhere = {"reward": {"kl_estimator": "exact"}, "scoring": {"urls": ["http://localhost:8000"]}}
    with pytest.raises(ValidationError, match=r"kl_estimator 'exact' takes all logits, and scoring\.urls give none"):
        settings(tmp_path, tmp_path, **elsewhere)


def test_a_run_may_go_on_with_servers_at_other_addresses(tmp_path: Path) -> None:
    for port in (8000, 8001):
        remember(
            settings(tmp_path, tmp_path, scoring={"urls": [f"http://localhost:{port}"]}), tmp_path / "s", free=FREE
        )
    with pytest.raises(OutputError, match=r"scoring\.model was None, now 'other'"):
        remember(
            settings(tmp_path, tmp_path, scoring={"urls": ["http://a"], "model": "other"}), tmp_path / "s", free=FREE
        )
