"""Sketches: quantiles and histograms as exact as they say, whatever the values and their order."""

import numpy as np
import pytest

from student.cards.sketch import LEAST, MOST, Sketch

RANDOM = np.random.default_rng(0)


def sketch_of(values: np.ndarray) -> Sketch:
    sketch = Sketch()
    sketch.add(values)
    return sketch


@pytest.mark.parametrize(
    "values",
    [RANDOM.normal(-1.5, 0.7, 5000), RANDOM.exponential(300, 5000), RANDOM.standard_cauchy(5000), np.full(7, 0.25)],
    ids=["normal", "exponential", "cauchy", "constant"],
)
def test_a_quantile_is_off_by_a_thousandth_of_itself_at_most(values: np.ndarray) -> None:
    sketch = sketch_of(values)
    for share in (0.0, 0.005, 0.05, 0.5, 0.95, 1.0):
        exact = np.quantile(values, share, method="inverted_cdf")
        assert sketch.quantile(share) == pytest.approx(exact, rel=1.001e-3, abs=LEAST)
    assert sketch.mean == pytest.approx(values.mean(), rel=1e-9)


def test_the_order_and_the_batches_do_not_matter() -> None:
    values = RANDOM.normal(0, 1, 999)
    whole, parts = sketch_of(values), sketch_of(values[::-1][:500]) + sketch_of(values[::-1][500:])
    edges = np.linspace(-2, 2, 21)
    assert whole.histogram(edges).tolist() == parts.histogram(edges).tolist()
    assert (whole.count, whole.quantile(0.3)) == (parts.count, parts.quantile(0.3))
    assert whole.mean == pytest.approx(parts.mean)


def test_zero_is_exact_and_what_is_no_number_is_passed_over() -> None:
    sketch = sketch_of(np.array([0.0, 0.0, 1e-9, np.nan, np.inf, -np.inf]))
    assert (sketch.count, sketch.quantile(0), sketch.quantile(1)) == (3, 0.0, 0.0)


def test_values_beyond_the_range_count_at_its_end() -> None:
    sketch = sketch_of(np.array([-1e300, 1e300]))
    assert sketch.quantile(1) == pytest.approx(MOST, rel=2e-3)
    assert sketch.quantile(0) == pytest.approx(-MOST, rel=2e-3)


def test_a_histogram_counts_every_value_once() -> None:
    # In thirds of [0, 3): 0.1 and 0.2; 1.5; 2.9 and what lies above. -5 counts in the first.
    sketch = sketch_of(np.array([0.1, 0.2, 1.5, 2.9, 70, -5]))
    assert sketch.histogram(np.array([0.0, 1.0, 2.0, 3.0])).tolist() == [3, 1, 2]
