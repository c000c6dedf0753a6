"""Ids sort by the time they were made, are never twice the same and can stand in a path or an address."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from server.state.ids import ALPHABET, encoded, is_id, new_id


def test_ids_of_one_process_sort_by_the_order_in_which_they_were_made() -> None:
    made = [new_id("ds_") for _ in range(20_000)]
    assert made == sorted(made)


def test_ids_made_by_threads_at_once_differ_in_time_and_in_chance() -> None:
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: new_id(""), range(20_000)))
    assert len({name[:11] for name in made}) == len({name[11:] for name in made}) == len(made)


def test_an_id_is_short_enough_for_its_column_and_holds_only_letters_and_digits() -> None:
    assert re.fullmatch(r"batch_[0-9a-hjkmnp-tv-z]{37}", new_id("batch_"))
    assert len(new_id("batch_req_")) <= 64


@pytest.mark.parametrize("prefix", ["", "ds_", "file-", "batch_", "batch_req_"])
def test_an_id_is_told_from_other_texts(prefix: str) -> None:
    made = new_id(prefix)
    assert is_id(made)
    for other in (
        prefix,
        made.upper(),
        made[:-1],
        made + "\n",
        f"../{made}",
        made.replace(made[-1], "\0"),
        f"{made}/x",
    ):
        assert not is_id(other)


def test_the_encoding_keeps_every_bit_and_the_order() -> None:
    numbers = [0, 1, 31, 32, 2**55 - 1, 123_456_789]
    texts = [encoded(number, 11) for number in numbers]
    assert [
        sum(ALPHABET.index(digit) << 5 * place for place, digit in enumerate(text[::-1])) for text in texts
    ] == numbers
    assert sorted(texts) == [encoded(number, 11) for number in sorted(numbers)]
