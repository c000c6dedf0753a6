"""`rlt resample` on a tiny model: who gets more, in which order, how far the budget goes; killed, repeated, refused."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from student.configs import SamplingSettings
from student.errors import OutputError, ProblemError
from student.explanations import Explanation, Score, read_explanations
from student.problems import Problem
from student.sampling import Task
from student.tags import RLT
from teacher.configs import ExplainConfig, ResampleConfig
from teacher.explain import main as explain
from teacher.resample import Budget, Standing, in_need, main

SAMPLING = SamplingSettings(temperature=1.0, max_tokens=12, batch_size=4, seed=5, engine="transformers")


def row(problem: Problem, sample: int, reward: float | None, **values: Any) -> Explanation:
    score = None if reward is None else Score(reward=reward, rss=reward, ss_mean=0, ss_min=0)
    whole = {"explanation": "so", "closed": True, "finished": True, "license": "MIT"} | values
    return Explanation(
        problem_id=problem.id,
        sample=sample,
        question=problem.question,
        solution=problem.solution,
        answer=problem.answer,
        score=score,
        **whole,
    )


def written(path: Path, rows: Sequence[Explanation]) -> str:
    path.write_text("".join(each.model_dump_json() + "\n" for each in rows))
    return str(path)


def settings(teacher: Path, rows: str, out: Path, **changes: Any) -> ResampleConfig:
    values = {"rows": rows, "teacher": str(teacher), "out": str(out), "threshold": -1, "budget_tokens": 1000}
    base = {"samples": 2, "device": "cpu", "threads": 1, "sampling": SAMPLING}
    return ResampleConfig.model_validate({**values, **base, **changes})


def scored(problems: Sequence[Problem]) -> list[Explanation]:
    """The first is good enough by its second sample; the third is worst; the fourth has no score, the fifth no row."""
    good, bad, worst, unscored, failed = problems[:5]
    return [
        row(good, 0, -9),
        row(good, 1, -0.5),
        row(bad, 0, -2),
        row(bad, 1, -3),
        row(bad, 2, -4),
        row(worst, 0, -5),
        row(unscored, 0, None, unscored="too long"),
        row(failed, 0, None, error="refused", explanation=""),
    ]


def test_the_worst_problems_get_more_rows_first_numbered_on_from_the_old_ones(
    tmp_path: Path, tiny_model_folder: Path, tiny_problems: list[Problem], capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = written(tmp_path / "scored.jsonl", scored(tiny_problems)), tmp_path / "more.jsonl"
    main(settings(tiny_model_folder, source, out))
    made = read_explanations(str(out), RLT)
    _, bad, worst, unscored, _ = tiny_problems[:5]
    order = [(unscored, 1), (worst, 1), (bad, 3), (unscored, 2), (worst, 2), (bad, 4)]
    assert [each.id for each in made] == [f"{problem.id}-{number}" for problem, number in order]
    assert all((each.license, each.teacher) == ("MIT", str(tiny_model_folder)) for each in made)
    assert [each.answer for each in made[:3]] == [unscored.answer, worst.answer, bad.answer]
    left = 1000 - sum(len(each.token_ids or ()) for each in made)
    told = f"3 of 5 problems are below; 6 of 6 samples within the budget, {left} tokens of it left"
    assert told in capsys.readouterr().out


def test_further_rows_are_those_that_more_samples_at_first_would_have_been(
    tmp_path: Path, tiny_model_folder: Path, tiny_problems: list[Problem]
) -> None:
    problems = tmp_path / "problems.jsonl"
    problems.write_text("".join(each.model_dump_json() + "\n" for each in tiny_problems[:2]))
    asked = {"problems": str(problems), "teacher": str(tiny_model_folder), "sampling": SAMPLING, "device": "cpu"}
    for samples in (1, 3):
        out = str(tmp_path / f"{samples}.jsonl")
        explain(ExplainConfig.model_validate({**asked, "out": out, "samples": samples, "threads": 1}))
    main(settings(tiny_model_folder, str(tmp_path / "1.jsonl"), tmp_path / "more.jsonl"))
    first, three, more = (read_explanations(str(tmp_path / f"{name}.jsonl"), RLT) for name in ("1", "3", "more"))
    assert sorted([*first, *more], key=lambda each: each.id) == sorted(three, key=lambda each: each.id)
    assert len({each.token_ids for each in three}) == 6


def test_a_killed_run_ends_with_the_same_rows_and_the_budget_is_not_passed(
    tmp_path: Path, tiny_model_folder: Path, tiny_problems: list[Problem], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row(problem, 0, -2) for problem in tiny_problems[:8]]
    source, out = written(tmp_path / "scored.jsonl", rows), tmp_path / "more.jsonl"
    config = settings(tiny_model_folder, source, out, budget_tokens=130)
    main(config)
    whole = out.read_bytes()
    spent = sum(len(each.token_ids or ()) for each in read_explanations(str(out), RLT))
    assert 130 - 12 < spent <= 130  # not one more of at most 12 tokens would surely have fitted
    main(config)
    assert "complete already" in capsys.readouterr().out
    out.unlink()
    torn = b"".join(whole.splitlines(keepends=True)[:6]) + whole.splitlines()[6][:50]
    (tmp_path / "more.jsonl.partial").write_bytes(torn)
    main(config)
    assert out.read_bytes() == whole
    with pytest.raises(OutputError, match="budget_tokens was 130, now 140"):
        main(settings(tiny_model_folder, source, out, budget_tokens=140))
    written(tmp_path / "scored.jsonl", [row(problem, 0, -2) for problem in tiny_problems[8:20]])
    with pytest.raises(OutputError, match="where the problems now ask for"):
        main(config)


def test_rows_of_an_earlier_round_count_as_more(
    tmp_path: Path, tiny_model_folder: Path, tiny_problems: list[Problem], capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = tiny_problems[:2]
    first = written(tmp_path / "scored.jsonl", [row(one, 0, -2), row(other, 0, -3)])
    more = written(tmp_path / "more.jsonl", [row(one, 1, -0.5), row(other, 1, -2)])
    out = tmp_path / "again.jsonl"
    main(settings(tiny_model_folder, first, out, more=(more,), samples=1))
    assert [each.id for each in read_explanations(str(out), RLT)] == [f"{other.id}-2"]
    main(settings(tiny_model_folder, first, tmp_path / "none.jsonl", more=(more,), threshold=-9))
    assert "0 of 2 problems are below; there is nothing to sample" in capsys.readouterr().out
    assert not (tmp_path / "none.jsonl").exists()


def test_where_lower_is_better_the_highest_is_the_worst() -> None:
    standings = [
        Standing(Problem(question=f"{number}?", solution="s"), best=best, explained=True)
        for number, best in enumerate([0.1, 0.9, 0.5, None])
    ]
    assert [each.problem.question for each in in_need(standings, 0.3, "rkl")] == ["3?", "1?", "2?"]
    assert [each.problem.question for each in in_need(standings, 0.3, "reward")] == ["3?", "0?"]


def test_the_budget_begins_only_what_surely_fits() -> None:
    problem = Problem(question="q", solution="s")
    tasks = [Task(problem, number, number, [0] * 10, error) for number, error in enumerate([None, "refused", None])]
    budget = Budget(30, 20, context=None)
    assert [task.number for task in budget.affordable(tasks)] == [0, 1]  # 20 of 30; the third might take 20 more
    budget.spend([row(problem, 0, None, token_ids=(1,) * 9)])
    assert budget.left == 21
    assert [task.number for task in budget.affordable(tasks[2:])] == [2]
    # Of a context of 15 a prompt of 10 leaves 5 tokens: four of them fit into 21.
    assert len(Budget(21, 20, context=15).affordable([tasks[0]] * 9)) == 4


def test_rows_whose_problem_is_another_are_refused(tmp_path: Path, tiny_model_folder: Path) -> None:
    edited = row(Problem(question="q", solution="s"), 0, -2).model_copy(update={"question": "Q"})
    source = written(tmp_path / "scored.jsonl", [edited])
    with pytest.raises(ProblemError, match="is not of the problem whose question and solution it holds"):
        main(settings(tiny_model_folder, source, tmp_path / "more.jsonl"))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"budget_tokens": 11}, "holds no explanation of sampling.max_tokens"),
        ({"sampling": {"temperature": 0, "max_tokens": 12}}, "would write the same explanation again"),
    ],
)
def test_a_budget_for_nothing_and_greedy_sampling_are_refused(
    changes: dict[str, Any], complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=complaint):
        settings(tmp_path, "rows.jsonl", tmp_path / "more.jsonl", **changes)
