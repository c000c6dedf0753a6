"""Of several processes one writes and speaks; verbs that are for one refuse to be started as several."""

import json
from pathlib import Path

import pytest

from student import processes
from student.cli import main
from student.config import Config, remember
from student.errors import OutputError
from student.run_folder import begin, finish


class Settings(Config):
    steps: int = 1
    """How many."""


@pytest.fixture
def second(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is the second of four, the first on its machine."""
    for name, value in {"RANK": "1", "LOCAL_RANK": "0", "WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("second")
def test_the_launcher_tells_each_process_its_place() -> None:
    assert (processes.index(), processes.index_on_machine(), processes.count()) == (1, 0, 4)
    assert not processes.is_first()


def test_without_a_launcher_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert (processes.index(), processes.index_on_machine(), processes.count()) == (0, 0, 1)
    assert processes.is_first()


@pytest.mark.usefixtures("second")
def test_another_than_the_first_writes_nothing_and_says_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(tmp_path, Settings())
    finish(tmp_path, {"steps": 1})
    processes.tell("a remark")
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr() == ("", "")


def test_it_refuses_other_settings_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(tmp_path, Settings(steps=1))
    monkeypatch.setenv("RANK", "1")
    begin(tmp_path, Settings(steps=2))  # nothing is saved: the first is about to replace these settings
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(OutputError, match="steps was 1, now 2"):
        begin(tmp_path, Settings(steps=2))
    with pytest.raises(OutputError, match="steps was 1, now 2"):
        remember(Settings(steps=2), tmp_path / "settings.json")
    assert json.loads((tmp_path / "settings.json").read_text()) == {"steps": 1}


@pytest.mark.usefixtures("second")
def test_a_verb_for_one_process_is_refused_as_several(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["problems", "--problems", "none.jsonl"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("rlt problems (process 1 of 4): started as 4 processes, and it is for one; start it without")


@pytest.mark.usefixtures("second")
def test_training_may_be_started_as_several(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["distill", "--explanations", "none.jsonl", "--student", "none", "--out", "none"]) == 1
    assert "none.jsonl" in capsys.readouterr().err
