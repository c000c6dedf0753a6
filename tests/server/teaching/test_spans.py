"""Tokens stand where they stand: joined they are the text, whatever characters or tokens it is made of."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.normalizers import NFC
from transformers import PreTrainedTokenizerBase

from server.teaching.spans import pieces, starts
from student.chat import encode
from student.models import load_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tiny_model_folder: Path) -> PreTrainedTokenizerBase:
    return load_tokenizer(str(tiny_model_folder))


def decoded(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def test_each_token_gets_its_own_characters(tokenizer: PreTrainedTokenizerBase) -> None:
    ids = encode(tokenizer, "She has 3 apples.")
    assert pieces(tokenizer, ids, "She has 3 apples.") == [decoded(tokenizer, [token]) for token in ids]


def test_of_tokens_that_share_a_character_the_last_one_gets_it(tokenizer: PreTrainedTokenizerBase) -> None:
    ids = encode(tokenizer, "é😀!")
    assert len(ids) == 7, "two bytes, four bytes and one: this vocabulary knows neither character"
    assert pieces(tokenizer, ids, "é😀!") == ["", "é", "", "", "", "😀", "!"]
    assert starts(pieces(tokenizer, ids, "é😀!")) == [0, 0, 1, 1, 1, 1, 2]


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=30))
def test_pieces_of_any_text_joined_are_the_text(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    ids = encode(tokenizer, text)
    assert "".join(pieces(tokenizer, ids, text)) == text


@settings(max_examples=200, deadline=None)
@given(ids=st.lists(st.integers(0, 399), max_size=30))
def test_pieces_of_any_tokens_joined_are_what_they_spell(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> None:
    found = pieces(tokenizer, ids, decoded(tokenizer, ids))
    assert "".join(found) == decoded(tokenizer, ids)
    assert len(found) == len(ids)


def test_a_text_that_its_tokenizer_changes_is_told_as_it_was_written(tiny_model_folder: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model_folder))
    tokenizer.backend_tokenizer.normalizer = NFC()  # as Qwen2's
    text = "re\N{COMBINING ACUTE ACCENT}sume\N{COMBINING ACUTE ACCENT} it"
    ids = encode(tokenizer, text)
    assert decoded(tokenizer, ids) == "résumé it"
    found = pieces(tokenizer, ids, text)
    assert "".join(found) == text
    assert [piece for piece in found if "e" in piece] == ["e\N{COMBINING ACUTE ACCENT}"] * 2
