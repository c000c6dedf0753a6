"""What a job will take: totals against numbers worked by hand, intervals that hold as often as they say."""

from pathlib import Path

import numpy as np
import pytest

from student.errors import ConfigError
from student.estimates import (
    Batch,
    Estimate,
    Quantity,
    batch_sizes,
    compared,
    draw,
    job_work,
    pilot_size,
    read_estimate,
    reading_time,
    total,
    writing_time,
)


def test_a_total_is_the_mean_times_all_with_the_t_interval_of_a_finite_population() -> None:
    # 4, 5, 5, 6 of 16: mean 5, s^2 = 2/3; half = t[3] 3.182446 * 16 * sqrt(2/3 / 4 * 3/4) = 3.182446 * 5.656854
    found = total([4, 5, 5, 6], 16)
    assert found.value == 80
    assert found.low == pytest.approx(80 - 3.1824463 * 5.6568542)
    assert found.high == pytest.approx(80 + 3.1824463 * 5.6568542)


def test_a_pilot_of_everything_is_exact_and_one_without_a_spread_has_no_interval() -> None:
    assert total([3, 5, 9], 3) == Quantity(value=17, low=17, high=17)
    assert total([3], 1) == Quantity(value=3, low=3, high=3)
    assert total([3], 10) == Quantity(value=30)
    assert total([3, 3, 3], 10) == Quantity(value=30)
    assert Quantity(value=30).holds(30) is None


def test_the_least_is_what_the_pilot_has_seen_already() -> None:
    assert total([0, 0, 0, 100], 10).low == 100


def test_the_interval_of_a_total_holds_nineteen_times_in_twenty() -> None:
    generator = np.random.default_rng(3)
    lengths = np.minimum(400, generator.gamma(3, 40, 1000).round())  # a skewed population with a cut end
    held = 0
    for seed in range(400):
        held += bool(total(lengths[draw(1000, 60, seed)].tolist(), 1000).holds(float(lengths.sum())))
    assert 0.92 <= held / 400 <= 0.98  # 0.95 +- 3 standard errors of 400 trials


def longest_of(generator: np.random.Generator, lengths: list[int], size: int) -> float:
    return float(np.mean([max(generator.choice(lengths, size)) for _ in range(4000)]))


def test_the_steps_of_a_job_are_the_longest_texts_of_its_batches() -> None:
    lengths = [3, 8, 8, 20, 40]
    steps, tokens = job_work(np.array(lengths), 130, 64)
    drawn = np.random.default_rng(0)
    expected = 2 * longest_of(drawn, lengths, 64) + longest_of(drawn, lengths, 2)
    assert steps == pytest.approx(expected, rel=0.01)
    assert tokens == pytest.approx(130 * 15.8)


def made(lengths: np.ndarray[tuple[int], np.dtype[np.int64]], sizes: list[int], noise: float, seed: int) -> list[Batch]:
    """Batches that take 20 ms a step and 1 ms a token, give or take."""
    generator, batches, place = np.random.default_rng(seed), [], 0
    for size in sizes:
        part = lengths[place : place + size]
        seconds = (0.02 * part.max() + 0.001 * part.sum()) * (1 + noise * generator.standard_normal())
        batches.append(Batch(float(seconds), tuple(map(int, part))))
        place += size
    return batches


def test_time_is_found_from_batches_that_are_smaller_than_the_jobs() -> None:
    # All texts have 50 tokens: a batch of 64 takes 50 * 0.02 + 3200 * 0.001 = 4.2 s; 640 rows are ten of them.
    lengths = np.full(16, 50)
    found = writing_time(made(lengths, batch_sizes(16, 64), 0, 0), [[50]] * 16, 640, 64)
    assert found.value == pytest.approx(42)
    assert found.low == pytest.approx(42, rel=1e-6)
    assert found.high == pytest.approx(42, rel=1e-6)


def test_the_interval_of_the_time_holds_about_nineteen_times_in_twenty() -> None:
    held = 0
    for seed in range(150):
        population = np.minimum(400, np.random.default_rng(seed).gamma(3, 40, 2000).round() + 1).astype(np.int64)
        pilot = population[draw(2000, 40, seed)]
        actual = sum(batch.seconds for batch in made(population, [32] * 62 + [16], 0.05, seed + 1000))
        found = writing_time(made(pilot, batch_sizes(40, 32), 0.05, seed), [[int(n)] for n in pilot], 2000, 32)
        held += bool(found.holds(actual))
    assert 0.88 <= held / 150 <= 1


def test_reading_takes_its_time_by_rows_and_tokens() -> None:
    batches = [
        Batch(rows * 0.5 + rows * length * 0.01, (length,) * rows) for rows, length in ((4, 10), (2, 30), (1, 5))
    ]
    found = reading_time(batches, [[10, 20], [30, 20]], 100)
    assert found.value == pytest.approx(50 * (4 * 0.5 + 80 * 0.01))  # 200 rows of 20 tokens


def test_batches_too_few_for_a_fit_give_no_interval_and_nothing_sampled_takes_no_time() -> None:
    alone = writing_time([Batch(2.0, (10, 10))], [[10, 10]], 5, 2)
    assert (alone.value, alone.low, alone.high) == (pytest.approx(10), None, None)
    assert writing_time([Batch(0.1, (0,))], [[0]], 5, 2) == Quantity(value=0)


@pytest.mark.parametrize(("rows", "longest"), [(1, 64), (8, 64), (200, 64), (1000, 3), (77, 10)])
def test_a_pilots_batches_hold_all_rows_and_are_of_several_sizes(rows: int, longest: int) -> None:
    sizes = batch_sizes(rows, longest)
    assert sum(sizes) == rows
    assert max(sizes) <= longest or rows == 1000
    assert len(sizes) >= min(rows, 4)


def test_the_pilot_is_a_part_of_the_problems_that_the_seed_chooses() -> None:
    chosen = draw(1000, pilot_size(1000, 0.02, 8, 200), seed=5)
    assert len(set(chosen)) == 20
    assert set(chosen) <= set(range(1000))
    assert chosen == draw(1000, 20, seed=5) != draw(1000, 20, seed=6)


def test_an_estimate_is_read_as_it_was_written_and_anything_else_is_refused(tmp_path: Path) -> None:
    told = Estimate(
        problems=2, pilot_problems=1, rows=2, tokens=total([3], 2), seconds=total([1], 2), bytes=total([9], 2)
    )
    path = tmp_path / "estimate.json"
    path.write_text(told.model_dump_json())
    assert read_estimate(path) == told
    path.write_text('{"problems": 3}')
    with pytest.raises(ConfigError, match="is no estimate"):
        read_estimate(path)
    with pytest.raises(ConfigError, match="no such file; make it by `rlt estimate --out"):
        read_estimate(tmp_path / "none.json")


def test_nothing_is_said_of_an_interval_before_the_end() -> None:
    estimate = Quantity(value=10, low=8, high=12)
    assert compared(3, estimate, ended=False).within is None
    assert [compared(actual, estimate).within for actual in (7, 8, 12, 13)] == [False, True, True, False]
