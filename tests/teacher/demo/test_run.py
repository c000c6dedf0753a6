"""`rlt demo` in miniature, through the very verbs: killed, gone on with, repeated, full, and several seeds at once."""

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

from student.config import merged
from student.errors import OutputError
from student.explanations import read_explanations
from student.tags import RLT
from teacher.configs import DemoConfig
from teacher.demo.chain import STUDENTS, TEACHERS, Chain
from teacher.demo.phases import FILE, Ledger, run_phases
from teacher.demo.results import ABLATIONS, reward_by_style
from teacher.demo.run import main
from teacher.demo.settings import read_recipe
from teacher.demo.world import STYLES
from teacher.errors import TeacherError

pytestmark = pytest.mark.slow

FEW: dict[str, Any] = {
    "warmup-skill": {"limit": 16},
    "warmup": {"limit": 32},
    "train": {
        "limit": 12,
        "grpo": {"steps": 3, "prompts_per_step": 4, "group_size": 4, "rows_per_device": 16, "save_steps": 1},
    },
    "explain": {"limit": 32},
    "evaluate": {"limit": 40, "sampling": {"batch_size": 40}},
}
"""What is laid over the toy recipe: every step is there, and none takes long."""


def toml(value: Any) -> str:
    """A value as TOML; the values of a recipe are written as JSON writes them, but for tables."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {toml(each)}" for name, each in value.items()) + " }"
    return json.dumps(value)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tables = merged(tomllib.loads(Path("teacher/recipes/toy.toml").read_text(encoding="utf-8")), FEW)
    path = tmp_path_factory.mktemp("recipe") / "few.toml"
    lines = [
        f"[{name}]\n" + "\n".join(f"{key} = {toml(value)}" for key, value in t.items()) for name, t in tables.items()
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def entries(folder: Path) -> dict[str, Any]:
    path = folder / FILE
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def done(folder: Path) -> dict[str, Any]:
    return {name: entry for name, entry in entries(folder).items() if entry["done"]}


@pytest.fixture(scope="module")
def killed_while(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[DemoConfig, dict[str, Any]]:
    """A demo that was killed -9 in the middle of RL, and the phases that it had done by then."""
    out = tmp_path_factory.mktemp("killed")
    command = [sys.executable, "-m", "student.cli", "demo", "--recipe", str(recipe), "--out", str(out)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while "train rlt_teacher" not in entries(out / "seed-0"):
            assert process.poll() is None
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    return DemoConfig(out=str(out), recipe=str(recipe)), done(out / "seed-0")


@pytest.fixture(scope="module")
def finished(killed_while: tuple[DemoConfig, dict[str, Any]]) -> Path:
    """The folder of that demo after it was started again."""
    config, _ = killed_while
    main(config)
    return Path(config.out)


def test_a_killed_demo_goes_on_and_repeats_nothing(
    finished: Path, killed_while: tuple[DemoConfig, dict[str, Any]]
) -> None:
    _, before = killed_while
    after = done(finished / "seed-0")
    assert {"start-up", "problems", "warm up on all styles"} <= before.keys()
    assert len(before) < len(after)
    assert {name: after[name] for name in before} == before


def test_the_report_counts_what_was_spent_before_the_kill_too(finished: Path) -> None:
    seed = json.loads((finished / "report.json").read_text(encoding="utf-8"))["seeds"][0]
    spent = entries(finished / "seed-0").values()
    assert seed["cpu_seconds"] == pytest.approx(sum(entry["cpu_seconds"] for entry in spent))
    assert seed["wall_seconds"] == pytest.approx(sum(entry["wall_seconds"] for entry in spent))


def test_the_report_holds_every_student_style_and_step(finished: Path) -> None:
    report = json.loads((finished / "report.json").read_text(encoding="utf-8"))
    seed = report["seeds"][0]
    assert set(seed["accuracy"]) == set(STUDENTS)
    assert set(seed["transfer"]) == set(TEACHERS)
    assert all(0 <= share <= 1 for share in (*seed["accuracy"].values(), *seed["transfer"].values()))
    assert report["held_out"] == 40
    assert [step["step"] for step in seed["steps"]] == [1, 2, 3]
    for shares in (seed["styles_before"], seed["styles_after"], *(step["styles"] for step in seed["steps"])):
        assert list(shares) == list(STYLES)
        assert sum(shares.values()) == pytest.approx(1)


def test_the_page_shows_three_problems_before_and_after(finished: Path) -> None:
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert page.count('class="problem"') == 3
    assert page.count("before RL ·") == page.count("after RL ·") == 3


def test_a_demo_started_again_when_it_is_done_only_writes_the_report_again(
    finished: Path, killed_while: tuple[DemoConfig, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    written_anew = {"log.txt", "recipe.json"}
    files = [path for path in (finished / "seed-0").rglob("*") if path.name not in written_anew]
    before = {path: path.stat().st_mtime_ns for path in files if path.is_file()}
    page = (finished / "report.html").read_bytes()
    capsys.readouterr()
    main(killed_while[0])
    printed = capsys.readouterr()
    assert printed.err == ""
    assert printed.out.rstrip().endswith(f"The report: {finished / 'report.html'}")
    assert (finished / "report.html").read_bytes() == page
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_seed_is_not_gone_on_with_under_another_recipe(finished: Path) -> None:
    with pytest.raises(OutputError, match=r"distill\.sft\.learning_rate|base\.limit|limit was") as error:
        main(DemoConfig(out=str(finished)))
    assert "\n" not in str(error.value)


def test_a_full_demo_adds_every_ablation_to_what_is_there(
    finished: Path, killed_while: tuple[DemoConfig, dict[str, Any]]
) -> None:
    before = done(finished / "seed-0")
    main(killed_while[0].model_copy(update={"full": True}))
    report = json.loads((finished / "report.json").read_text(encoding="utf-8"))
    assert set(report["ablations"]) == set(ABLATIONS)
    assert [name for name, found in report["ablations"].items() if found["leak_share"] is None] == ["outcome_rl"]
    assert [point["rank"] for point in report["reward_ranks"]] == [4, 3, 2, 1]
    assert {name: done(finished / "seed-0")[name] for name in before} == before


def test_seeds_run_in_parallel_and_one_that_fails_is_named(recipe: Path, tmp_path: Path) -> None:
    config = DemoConfig(out=str(tmp_path), recipe=str(recipe), seeds=2, jobs=2)
    (tmp_path / "seed-1").mkdir()
    (tmp_path / "seed-1" / "recipe.json").write_text('{"another": "recipe"}')
    with pytest.raises(TeacherError, match="seed 1 ended with status 1"):
        main(config)
    (tmp_path / "seed-1" / "recipe.json").unlink()
    main(config)
    seeds = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["seeds"]
    assert [seed["seed"] for seed in seeds] == [0, 1]
    assert all(seed["phases"]["start-up"] > 1 for seed in seeds)
    assert seeds[0]["accuracy"] != seeds[1]["accuracy"] or seeds[0]["steps"] != seeds[1]["steps"]


def test_a_trained_base_ranks_styles_by_use_under_the_full_reward_and_leaks_first_under_rss_alone(
    tmp_path: Path,
) -> None:
    chain = Chain(read_recipe("toy").placed(tmp_path, 0), 0)
    phases = [*chain.base_phases(), chain.explain("base_teacher", limit=512)]
    phases.append(chain.score("base_teacher", chain.model("base")))
    run_phases(tmp_path, Ledger(tmp_path), phases, "seed 0")
    worth = reward_by_style(read_explanations(chain.scores("base_teacher"), RLT))
    by_reward = sorted(("complete", "leak", "chatter", "wrong"), key=lambda style: -worth[style].reward)
    assert by_reward == ["complete", "leak", "chatter", "wrong"]
    assert max(worth, key=lambda style: worth[style].rss) == "leak"
    assert worth["complete"].share > 0.08
