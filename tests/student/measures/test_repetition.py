"""Repetition counts word 4-grams that were there before, and nothing else."""

import pytest

from student.measures.repetition import repetition


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("", 0),
        ("three words only", 0),
        ("one two three four", 0),
        ("one two three four five six", 0),
        ("a b c d a b c d", 1 / 5),  # abcd bcda cdab dabc abcd: the last was there
        ("A b\nc D  a B c d", 1 / 5),  # case and white space are no difference
        ("so " * 103, 99 / 100),  # 100 4-grams, one of them new
        ("a b c d, a b c d.", 0),  # a comma makes another word
    ],
)
def test_repetition_is_the_share_of_4_grams_seen_before(text: str, share: float) -> None:
    assert repetition(text) == pytest.approx(share, abs=1e-12)
