"""Phases run once, in order, and what they cost is on record whatever happens."""

import json
import time
from pathlib import Path

import pytest

from teacher.demo.phases import FILE, LOG, Clock, Ledger, Phase, run_phases


def burn(seconds: float) -> None:
    stop = time.process_time() + seconds
    while time.process_time() < stop:
        pass


def test_a_phase_that_is_done_is_passed_over_and_its_cost_stays(tmp_path: Path) -> None:
    ran: list[str] = []
    phases = [Phase(name, 1, lambda name=name: ran.append(name)) for name in ("one", "two")]  # type: ignore[misc]
    run_phases(tmp_path, Ledger(tmp_path), phases, "seed 0")
    before = (tmp_path / FILE).read_text()
    run_phases(tmp_path, Ledger(tmp_path), phases, "seed 0")
    assert ran == ["one", "two"]
    assert (tmp_path / FILE).read_text() == before


def test_a_phase_that_fails_is_charged_and_goes_on_the_next_time(tmp_path: Path) -> None:
    attempts: list[int] = []

    def fails_once() -> None:
        burn(0.05)
        attempts.append(1)
        if len(attempts) == 1:
            raise RuntimeError("the first time")

    phases = [Phase("fails once", 1, fails_once)]
    with pytest.raises(RuntimeError):
        run_phases(tmp_path, Ledger(tmp_path), phases, "seed 0")
    ledger = Ledger(tmp_path)
    assert not ledger.is_done("fails once")
    assert ledger.costs["fails once"].cpu_seconds >= 0.05
    run_phases(tmp_path, ledger, phases, "seed 0")
    assert ledger.is_done("fails once")
    assert ledger.costs["fails once"].cpu_seconds >= 0.1


def test_a_note_in_the_middle_of_a_phase_survives_a_kill(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    with ledger.measured("long"):
        burn(0.03)
        ledger.note()
        on_disk = json.loads((tmp_path / FILE).read_text())["long"]
        assert on_disk["cpu_seconds"] >= 0.03
        assert not on_disk["done"]
        burn(0.03)
    assert 0.06 <= ledger.costs["long"].cpu_seconds < 0.5


def test_sleeping_costs_time_and_no_cpu(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    with ledger.measured("idle"):
        time.sleep(0.2)
    assert ledger.costs["idle"].wall_seconds >= 0.2
    assert ledger.costs["idle"].cpu_seconds < 0.1


def test_a_charge_is_entered_once(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.charge("start-up", 8.0, 9.0)
    Ledger(tmp_path).charge("start-up", 1.0, 1.0)
    assert Ledger(tmp_path).costs["start-up"].cpu_seconds == 8.0


def test_what_phases_print_goes_to_the_log_and_the_terminal_has_one_line_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_phases(tmp_path, Ledger(tmp_path), [Phase("speaks", 90, lambda: print("closing line"))], "seed 4")
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "seed 4 · 1/1 speaks · about 1:30 left\n"
    assert "closing line" in (tmp_path / LOG).read_text()


def test_the_time_left_is_what_was_expected_at_first_and_shrinks_with_what_is_done() -> None:
    clock = Clock(120)
    assert clock.left() == "about 2:00 left"
    clock.spend(60)
    # 60 s were expected and none passed: the pace is (0 + 20) / (60 + 20), a quarter, of the 60 s left.
    assert clock.left() == "about 0:15 left"
