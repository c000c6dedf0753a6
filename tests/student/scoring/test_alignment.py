"""Spans of two tokenisations are those of the text, as decoding every beginning of each shows, and no coarser."""

import random
import unicodedata
from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import ByT5Tokenizer, PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode

from student.chat import encode
from student.rewards import ESTIMATORS, positive_kl, sampled_kl
from student.scoring.alignment import Span, common_spans, kl_of_spans, plain_ids, same_tokens, token_ends
from tests.other_tokens import bpe_tokenizer, byte_tokenizer, lower_casing_tokenizer, sentencepiece_tokenizer

TOKENIZERS = {"bpe": bpe_tokenizer, "bytes": byte_tokenizer, "sentencepiece": sentencepiece_tokenizer}
PAIRS = [(one, other) for one in TOKENIZERS for other in TOKENIZERS]
each_pair = pytest.mark.parametrize(("one", "other"), PAIRS)

words = st.text(alphabet=st.sampled_from("She has 34 apples, so + =.\n\\boxed{}"), max_size=30)
signs = st.text(alphabet=st.sampled_from("é漢字🙂🙃👩‍👧 \u00a0ﬁ\r\n\t"), max_size=6)
# "\u2581" is SentencePiece's own space, and "\ufffd" what a decoder writes for a part of a character
others = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\u2581\ufffd"), max_size=6)
texts = (
    st.lists(st.one_of(words, signs, others), max_size=6).map("".join).map(lambda t: unicodedata.normalize("NFC", t))
)


def decoded(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))


def whole_beginnings(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], text: str) -> set[str]:
    """What the leading tokens spell, wherever they end behind a character of the text."""
    found = {decoded(tokenizer, ids[:stop]) for stop in range(1, len(ids) + 1)}
    return {beginning for beginning in found if beginning and text.startswith(beginning)}


def assert_partition(spans: Sequence[Span], teacher_tokens: int, student_tokens: int) -> None:
    borders = [Span(range(0), range(0)), *spans]
    assert all(a.teacher.stop == b.teacher.start and a.student.stop == b.student.start for a, b in pairwise(borders))
    assert all(span.teacher and span.student for span in spans)
    assert (borders[-1].teacher.stop, borders[-1].student.stop) == (teacher_tokens, student_tokens)


@each_pair
@given(text=texts)
@settings(max_examples=60, deadline=None)
def test_spans_are_the_smallest_that_spell_the_same_text_on_both_sides(one: str, other: str, text: str) -> None:
    teacher, student = TOKENIZERS[one](), TOKENIZERS[other]()
    theirs, ours = plain_ids(teacher, text), plain_ids(student, text)
    spans = common_spans(token_ends(teacher, theirs, text), token_ends(student, ours, text))
    if not text:
        assert spans == []
        return
    assert_partition(spans, len(theirs), len(ours))
    possible = whole_beginnings(teacher, theirs, text) & whole_beginnings(student, ours, text)
    cuts = {decoded(teacher, theirs[: span.teacher.stop]) for span in spans}
    assert {cut for cut in cuts if text.startswith(cut)} == possible
    for span in spans:
        spelled = decoded(teacher, theirs[: span.teacher.stop]), decoded(student, ours[: span.student.stop])
        assert spelled[0] == spelled[1] or not any(map(text.startswith, spelled))


@given(text=texts)
@settings(max_examples=100, deadline=None)
def test_against_bytes_every_token_of_a_byte_level_vocabulary_is_a_span(text: str) -> None:
    bpe, raw = bpe_tokenizer(), byte_tokenizer()
    theirs, ours = encode(bpe, text), encode(raw, text)
    assert token_ends(raw, ours, text) == list(range(1, len(text.encode()) + 1))
    spans = common_spans(token_ends(bpe, theirs, text), token_ends(raw, ours, text))
    assert [len(span.teacher) for span in spans] == [1] * len(theirs)
    for span in spans:  # the same bytes, those of a part of a character too
        assert decoded(bpe, theirs[: span.teacher.stop]) == decoded(raw, ours[: span.student.stop])


@pytest.mark.parametrize("name", TOKENIZERS)
@given(text=texts, seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_where_tokenizers_agree_every_span_is_a_token_and_its_kl_is_the_token_s_to_the_bit(
    name: str, text: str, seed: int
) -> None:
    tokenizer = TOKENIZERS[name]()
    ids = plain_ids(tokenizer, text)
    ends = token_ends(tokenizer, ids, text)
    spans = common_spans(ends, ends)
    draw = torch.Generator().manual_seed(seed)
    teacher_E, student_E = (-5 * torch.rand(len(ids), generator=draw) for _ in range(2))
    if name != "sentencepiece":  # whose first token may be the space that is none of the text's
        assert [(list(span.teacher), list(span.student)) for span in spans] == [([i], [i]) for i in range(len(ids))]
        for estimate in ESTIMATORS.values():
            kl_E = kl_of_spans(teacher_E, student_E, spans, estimate)
            assert torch.equal(kl_E, estimate(teacher_E, student_E))


def test_a_character_that_is_split_in_two_places_is_cut_where_both_split_it() -> None:
    bpe, raw = bpe_tokenizer(), byte_tokenizer()
    text = "🙂x"  # trained on 🙂🙃, which differ in their last byte
    theirs, ours = encode(bpe, text), encode(raw, text)
    assert len(theirs) == 3
    assert common_spans(token_ends(bpe, theirs, text), token_ends(raw, ours, text)) == [
        Span(range(1), range(3)),
        Span(range(1, 2), range(3, 4)),
        Span(range(2, 3), range(4, 5)),
    ]


@pytest.mark.parametrize("name", TOKENIZERS)
@given(seed=st.integers(0, 10_000), length=st.integers(1, 40))
@settings(max_examples=150, deadline=None)
def test_whatever_ids_a_teacher_samples_lie_where_their_text_has_them(name: str, seed: int, length: int) -> None:
    """Control tokens, halves of characters, ids that the embedding has and the tokenizer has not."""
    tokenizer, draw = TOKENIZERS[name](), random.Random(seed)
    ids = [draw.randrange(len(tokenizer) + 2) for _ in range(length)]
    text = decoded(tokenizer, ids)
    ends = token_ends(tokenizer, ids, text)
    assert len(ends) == len(ids)
    assert ends == sorted(ends)
    assert ends[-1] == len(text.encode())
    if name == "sentencepiece":
        return  # decodes what follows a broken run otherwise than it does alone
    for stop in range(1, length):
        before, after = decoded(tokenizer, ids[:stop]), decoded(tokenizer, ids[stop:])
        if before + after == text:  # a border between two characters
            assert ends[stop - 1] == len(before.encode())
        else:  # inside of one
            assert len(before.encode()) - 3 < ends[stop - 1] <= len(before.encode()) + 3


@pytest.mark.parametrize(
    ("name", "values", "text", "ends"),
    [
        ("bytes", [0xE2, 0x82, 0x78], "\ufffdx", [3, 3, 4]),  # two bytes of a broken character, one U+FFFD
        ("bytes", [0x61, 0xFF, 0xFF, 0xC3, 0xA9], "a\ufffd\ufffdé", [1, 4, 7, 8, 9]),
        ("sentencepiece", [0xE2, 0x82], "\ufffd\ufffd", [3, 6]),  # SentencePiece writes one for each byte
        ("sentencepiece", [0xE6, 0xBC, 0xA2], "漢", [1, 2, 3]),
    ],
)
def test_bytes_that_are_no_character_stand_where_u_fffd_does(
    name: str, values: list[int], text: str, ends: list[int]
) -> None:
    tokenizer = TOKENIZERS[name]()
    table = bytes_to_unicode()
    written = [table[value] if name == "bytes" else f"<0x{value:02X}>" for value in values]
    ids = tokenizer.convert_tokens_to_ids(written)
    assert decoded(tokenizer, ids) == text
    assert token_ends(tokenizer, ids, text) == ends


def test_the_space_that_sentencepiece_adds_is_none_of_the_text_s() -> None:
    tokenizer = sentencepiece_tokenizer()
    for text in ("She", " She", "  She", "漢 ", "\n\nShe"):
        ids = plain_ids(tokenizer, text)
        beginnings = [decoded(tokenizer, ids[:stop]) for stop in range(1, len(ids) + 1)]
        expected = [len(beginning.encode()) for beginning in beginnings if text.startswith(beginning)]
        assert sorted(set(token_ends(tokenizer, ids, text)) & set(expected)) == sorted(set(expected))
        assert token_ends(tokenizer, ids, text)[-1] == len(text.encode())


def test_a_tokenizer_that_changes_the_text_says_which_characters_its_tokens_were() -> None:
    tokenizer = lower_casing_tokenizer()
    text = "Ann HAS e\u0301 4"
    ids = plain_ids(tokenizer, text)
    assert decoded(tokenizer, ids) == "ann has é 4"
    pieces = [tokenizer.convert_ids_to_tokens(token) for token in ids]
    ends = token_ends(tokenizer, ids, text)
    by_piece = dict(zip(pieces, ends, strict=True))
    assert by_piece["Ġhas"] == len("Ann HAS")
    assert by_piece["Ã"] == by_piece["©"] == len("Ann HAS e\u0301".encode())  # two bytes of one character
    assert ends[-1] == len(text.encode())
    bpe = bpe_tokenizer()  # composes the accent too
    spans = common_spans(token_ends(bpe, encode(bpe, text), text), ends)
    assert_partition(spans, len(encode(bpe, text)), len(ids))
    assert len(spans) > 3


def test_where_nothing_can_be_told_the_text_is_one_span_and_the_mean_stays_what_it_is() -> None:
    silent, bpe, text = ByT5Tokenizer(), bpe_tokenizer(), "She has 字 apples"
    theirs, ours = encode(bpe, text), encode(silent, text)
    assert token_ends(silent, ours, text) == [len(text.encode())] * len(ours)
    [span] = common_spans(token_ends(bpe, theirs, text), token_ends(silent, ours, text))
    teacher_E, student_R = torch.linspace(-3, -1, len(theirs)), torch.linspace(-4, -1, len(ours))
    kl_E = kl_of_spans(teacher_E, student_R, [span], sampled_kl)
    assert kl_E.mean().item() == pytest.approx((teacher_E.sum() - student_R.sum()).item() / len(theirs), rel=1e-6)


def test_the_kl_of_a_span_is_its_sums_and_is_shared_by_its_tokens_of_the_teacher() -> None:
    spans = common_spans([3, 5, 6, 9], [2, 3, 4, 6, 9])
    teacher_E = torch.tensor([-1.0, -2.0, -4.0, -0.5])
    student_R = torch.tensor([-1.0, -2.0, -3.0, -6.0, -0.25])
    # -1 + 3 = 2 | -6 + 9 = 3, by two tokens 1.5 | -0.5 + 0.25 = -0.25
    assert kl_of_spans(teacher_E, student_R, spans, sampled_kl).tolist() == [2.0, 1.5, 1.5, -0.25]
    # k3 of the span's ratio: 3 - 1 + exp(-3), by two tokens
    k3_E = kl_of_spans(teacher_E, student_R, spans, positive_kl)
    assert k3_E[1].item() == pytest.approx((2 + 0.049787068) / 2, rel=1e-6)
    assert (k3_E >= 0).all()


@pytest.mark.parametrize(
    ("sampled", "read", "known"), [(4, 5, 4), (2, 5, 1), (4, 3, 1), (3, 4, 3), (0, 5, 0), (4, 0, 0)]
)
def test_a_span_that_is_not_known_whole_is_left_out(sampled: int, read: int, known: int) -> None:
    spans = common_spans([3, 5, 6, 9], [2, 3, 4, 6, 9])
    kl_E = kl_of_spans(torch.arange(4.0)[:sampled], torch.arange(5.0)[:read], spans, sampled_kl)
    assert len(kl_E) == known


@given(st.lists(st.integers(0, 30), max_size=12), st.lists(st.integers(0, 30), max_size=12), st.integers(1, 9))
@settings(deadline=None)
def test_spans_of_any_two_tokenisations_are_those_of_a_search(one: list[int], other: list[int], more: int) -> None:
    size = max([*one, *other, 0]) + more
    theirs, ours = [*sorted(one), size], [*sorted(other), size]
    spans = common_spans(theirs, ours)
    assert_partition(spans, len(theirs), len(ours))
    for span in spans:
        begin = theirs[span.teacher.start - 1] if span.teacher.start else 0
        inside = set(theirs[span.teacher.start : span.teacher.stop]) & set(ours[span.student.start : span.student.stop])
        assert inside - {begin} == {theirs[span.teacher.stop - 1]} == {ours[span.student.stop - 1]}


def test_a_control_token_that_another_model_spelled_is_read_as_text() -> None:
    bpe = bpe_tokenizer()
    text = f"so {bpe.eos_token} 4"
    ids = plain_ids(bpe, text)
    assert not set(ids) & set(bpe.all_special_ids)
    assert decoded(bpe, ids) == text
    assert bpe.eos_token_id in encode(bpe, text)  # and otherwise it acts, as before


def test_tokenizers_with_the_same_ids_are_the_same_whoever_loaded_them() -> None:
    assert same_tokens(bpe_tokenizer(), bpe_tokenizer.__wrapped__())
    assert not same_tokens(bpe_tokenizer(), byte_tokenizer())
