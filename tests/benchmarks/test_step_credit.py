"""Planted steps are what they are called, at the place that is told, and every line has its credit."""

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.step_credit import PLANTS, READINGS, Draft, Planted, measured_part
from teacher.demo.initial import make_initial
from teacher.demo.world import ADDS, complete, draw_problems, read_chain

PROBLEMS = draw_problems(ADDS, 40, "held_out", seed=3)


def results(lines: list[str], start: int) -> list[bool]:
    """Whether each line's value follows from the one before it; a line without one changes nothing."""
    found, reached = [], start
    for line in lines:
        operand, _, value = line.partition(" = ")
        if value:
            found.append((reached + int(operand)) % 10 == int(value))
            reached = int(value)
        else:
            found.append(True)
    return found


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_a_plant_is_the_first_thing_that_differs_from_the_complete_explanation(
    plant: Callable[[Draft], Planted],
) -> None:
    for problem in PROBLEMS:
        chain = read_chain(problem.question)
        right = complete(chain).replace(" +", "\n+").split("\n")
        lines, place = plant(Draft.of(problem))
        assert (lines[:place], lines[place] == right[place]) == (right[:place], False)
        sound = results(lines, chain.start)
        behind = lines[place + 1 :]
        if plant.__name__ == "value":
            assert behind == right[place + 1 :]
            assert not sound[place]
        elif plant.__name__ == "carried":
            assert [line.split()[0] for line in lines] == [line.split()[0] for line in right]
            assert [at for at, good in enumerate(sound) if not good] == [place]
        elif plant.__name__ == "misread":
            assert behind == right[place + 1 :]
            assert sound[place]
            assert lines[place].split()[0] != right[place].split()[0]
        else:
            assert behind == right[place:]
            assert sound[place]


@pytest.mark.parametrize("reading", READINGS)
def test_every_line_has_its_credit(reading: str, tmp_path: Path) -> None:
    make_initial(tmp_path / "initial", seed=0)
    part = measured_part(str(tmp_path / "initial"), READINGS[reading], PLANTS[0], rows=3, seed=0)
    problems = draw_problems(ADDS, 3, "held_out", seed=1000)
    assert [len(credits) for _, credits in part] == [len(read_chain(each.question).operands) for each in problems]
    assert [place for place, _ in part] == [PLANTS[0](Draft.of(problem))[1] for problem in problems]
    assert all(any(credits) for _, credits in part)
