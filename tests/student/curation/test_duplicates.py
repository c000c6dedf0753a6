"""Copies: the same text, texts with a word in ten exchanged, and texts that are others."""

import random
from itertools import product

import numpy as np
import pytest

from student.curation.duplicates import SKETCH, DuplicateSearch, similarity
from student.curation.settings import Duplicates
from student.curation.words import WordHashes, ngrams, normalised, words

VOCABULARY = ["".join(letters) for letters in product("abcdefghijklmno", repeat=3)]


def text(numbers: random.Random, length: int) -> list[str]:
    return numbers.choices(VOCABULARY, k=length)


def exchanged(numbers: random.Random, listed: list[str], share: float) -> list[str]:
    places = set(numbers.sample(range(len(listed)), round(share * len(listed))))
    return [numbers.choice(VOCABULARY) if place in places else word for place, word in enumerate(listed)]


def copies(texts: list[str], **asked: float) -> dict[int, tuple[int, float]]:
    search = DuplicateSearch(Duplicates.model_validate(asked))
    found = [search.add(each) for each in texts]
    numbers = np.array([number for number in found if number is not None])
    made = {text: (copy.of, copy.similarity) for text, copy in search.copies(numbers).items()}
    search.close()
    return made


@pytest.mark.parametrize(
    ("one", "other"), [("3.5", "3 5"), ("a ≤ b", "a ≥ b"), ("2(3+4)", "2 3+4"), ("5!", "5"), ("1,000", "1 000")]
)
def test_mathematics_is_no_punctuation(one: str, other: str) -> None:
    assert normalised(one) != normalised(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"$\left( x_1 \right)$", "(X_{1})"),
        (r"\dfrac{1}{2}\,\text{km}", r"\frac12 km".replace("12", "{1}{2}")),
        ("$1{,}000$ and 2,500", "1000 and 2500"),
        ("ﬁve  ½", "FIVE 1⁄2"),
    ],
)
def test_the_same_words_are_found_however_they_are_written(one: str, other: str) -> None:
    assert words(one) == words(other)


def test_the_similarity_is_the_share_of_words_that_are_the_same() -> None:
    numbers = random.Random(0)
    for share in (0.05, 0.1, 0.2):
        one = text(numbers, 800)
        sketches = [
            np.unique((ngrams(WordHashes().of(each), 3) >> np.uint64(32)).astype(np.uint32))
            for each in (one, exchanged(numbers, one, share))
        ]
        assert similarity(*sketches) == pytest.approx(1 - share, abs=0.03)


def test_the_overlap_of_long_texts_is_estimated_from_their_smallest_hashes() -> None:
    # 20,000 numbers each, 15,000 in common: J = 15 / 25, so (2 · 0.6 / 1.6)^(1/3) = 0.9086.
    hashes = np.random.default_rng(0).choice(2**32, 25_000, replace=False).astype(np.uint32)
    one, other = (np.sort(each)[:SKETCH] for each in (hashes[:20_000], hashes[5_000:]))
    assert similarity(one, other) == pytest.approx(0.9086, abs=0.02)


def test_copies_are_those_of_better_texts_that_are_kept() -> None:
    numbers = random.Random(1)
    one = text(numbers, 200)
    near = exchanged(numbers, one, 0.04)
    found = copies([" ".join(each) for each in (one, text(numbers, 200), near, one, near)])
    assert {copy: of for copy, (of, _) in found.items()} == {2: 0, 3: 0, 4: 0}
    assert found[3][1] == 1
    assert 0.93 < found[2][1] < 0.99
    assert found[4] == found[2]


def test_a_text_that_is_near_a_copy_alone_is_kept() -> None:
    numbers = random.Random(2)
    first = text(numbers, 300)
    second = exchanged(numbers, first, 0.12)
    third = exchanged(numbers, second, 0.12)
    found = copies([" ".join(each) for each in (first, second, third)])
    assert list(found) == [1]  # the third shares some 77 % of its words with the first


def test_a_large_cluster_and_boilerplate_are_no_trouble() -> None:
    numbers = random.Random(3)
    shared = " ".join(text(numbers, 40))
    original = " ".join(text(numbers, 100))
    texts = [original] * 300 + [f"{shared} {' '.join(text(numbers, 100))}" for _ in range(300)]
    assert copies(texts) == dict.fromkeys(range(1, 300), (0, 1.0))


def test_texts_without_words_are_compared_with_nothing_and_short_ones_as_a_whole() -> None:
    assert copies(["...", "", "so", "So!", "so so"]) == {1: (0, 1.0)}


def test_planted_copies_are_found_at_every_kind_of_edit() -> None:
    numbers = random.Random(4)
    for share, least in ((0.05, 0.99), (0.1, 0.95)):
        originals = [text(numbers, numbers.randint(80, 300)) for _ in range(300)]
        texts = [*originals, *(exchanged(numbers, each, share) for each in originals)]
        found = copies([" ".join(each) for each in texts])
        assert sum(found.get(300 + place, (None,))[0] == place for place in range(300)) >= least * 300
        assert all(copy >= 300 for copy in found)


def test_texts_with_a_quarter_of_the_words_exchanged_are_others() -> None:
    numbers = random.Random(5)
    originals = [text(numbers, 150) for _ in range(200)]
    texts = [*originals, *(exchanged(numbers, each, 0.25) for each in originals)]
    assert not copies([" ".join(each) for each in texts])
