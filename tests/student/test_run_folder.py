"""A run's folder is bound to its settings once something is saved in it, and not before."""

import json
from pathlib import Path

import pytest

from student.config import Config
from student.errors import OutputError
from student.run_folder import begin, finish, is_finished


class Settings(Config):
    steps: int = 1
    """How many."""


def test_a_run_that_saved_nothing_binds_nobody(tmp_path: Path) -> None:
    begin(tmp_path, Settings(steps=1))
    begin(tmp_path, Settings(steps=2))
    assert json.loads((tmp_path / "settings.json").read_text()) == {"steps": 2}


@pytest.mark.parametrize("saved", ["checkpoint-3/trainer_state.json", "config.json"])
def test_a_run_that_saved_something_refuses_other_settings(tmp_path: Path, saved: str) -> None:
    begin(tmp_path, Settings(steps=1))
    (tmp_path / saved).parent.mkdir(exist_ok=True)
    (tmp_path / saved).write_text('{"global_step": 3}')
    begin(tmp_path, Settings(steps=1))
    with pytest.raises(OutputError, match="steps was 1, now 2"):
        begin(tmp_path, Settings(steps=2))


def test_a_finished_run_is_known_by_its_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begin(tmp_path, Settings())
    assert not is_finished(tmp_path, Settings())
    finish(tmp_path, {"steps": 1})
    assert is_finished(tmp_path, Settings())
    assert "nothing to do" in capsys.readouterr().out
    with pytest.raises(OutputError, match="steps was 1, now 2"):
        is_finished(tmp_path, Settings(steps=2))
