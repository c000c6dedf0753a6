"""The transfer runs from nothing to its table, by the checker of countdown, and RL has seen arithmetic alone."""

import json
from pathlib import Path

import pytest

from benchmarks.transfer import complete_share, in_this_world, main
from student.explanations import from_trace
from student.problem_files import read_problems
from student.tags import RLT
from teacher.demo.chain import Chain
from teacher.demo.settings import read_recipe


@pytest.mark.slow
def test_the_transfer_runs_from_nothing_to_its_table(
    small_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--seeds", "1", "--out", str(tmp_path), "--recipe", str(small_recipe)])
    folder = tmp_path / "seed-0"
    found = json.loads((folder / "results.json").read_text())
    assert list(found) == ["base", "answers_only", "base_teacher", "rlt_teacher", "gold", "direct_rl"]
    assert (found["gold"]["complete"], found["answers_only"]["complete"]) == (1, None)
    assert (found["rlt_teacher"]["samples"], found["direct_rl"]["samples"]) == (28, 4)
    assert "| direct_rl | 4 | 0 |" in capsys.readouterr().out
    report = json.loads((folder / "evaluations" / "rlt_teacher" / "report.json").read_text())
    assert report["setup"]["grading"] == "countdown"
    recipe = in_this_world(read_recipe(str(small_recipe)).placed(folder, 0))
    asked = [problem.question for problem in read_problems(recipe.train, RLT)]
    assert len(asked) == 8
    assert not any(question.startswith("make") for question in asked)
    rows = [from_trace(problem) for problem in read_problems(recipe.explain, RLT)]
    rows[0] = rows[0].model_copy(update={"explanation": "well it is nothing"})
    chain = Chain(recipe, 0)
    Path(chain.explanations("one_is_off")).write_text("".join(f"{row.model_dump_json()}\n" for row in rows))
    assert complete_share(chain, "one_is_off") == 23 / 24
