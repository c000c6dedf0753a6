"""Two tokenisations of one text side by side: what a teacher and a student with another tokenizer made of its words.

    teacher    the | answ | er is | 漢        spans: the | answer is | 漢
    student    the | answer | is | e6 | bc | a2

A tokenisation is where each of its tokens ends in the text. Where both have an end there is a cut, and between two cuts
lies a span, the smallest text of which both have a log-probability: the sum of its tokens'.

    KL_k = sum over the teacher's tokens of span k of log pi_T - sum over the student's tokens of it of log pi_S
    KL_j = KL_k / n_k     at each of the n_k teacher's tokens of span k

So the mean over the teacher's tokens is all the nats of the text by the number of tokens that the teacher wrote,
wherever the cuts lie, and the maximum is in nats a token too. Where tokenizers agree every span is one token, and KL_j
is that of rewards.py to the bit. E tokens of the teacher, R tokens that the student read, K spans.

Ends are counted in UTF-8 bytes where tokens spell the text byte for byte, as those of byte-level and SentencePiece
vocabularies do: characters may be split among tokens, or be U+FFFD for bytes that are none. A tokenizer that changes a
text before it cuts it (NFC, lower case) says which characters it made a token of, and tokens that share one end behind
it. Of a tokenizer that can do neither the whole text is one span: the mean stays what it is, the maximum becomes it.

Left out: the exact KL, which needs one vocabulary; and other tokenisations of the text by the student than its own, so
that its number is a lower bound of the text's log-probability.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, pairwise

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode

_BYTE_OF = {character: byte for byte, character in bytes_to_unicode().items()}
"""How byte-level vocabularies write a byte (GPT-2's table)."""
_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")
"""How SentencePiece writes a byte of a character that it has no token for."""
_SPACE = "\u2581"
"""How SentencePiece writes a space."""
_REPLACEMENT = "\ufffd".encode()


@dataclass(frozen=True)
class Span:
    """The teacher's and the student's tokens, by place, that spell the same stretch of text; neither is empty."""

    teacher: range
    student: range


def same_tokens(one: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase) -> bool:
    """Whether two tokenizers give every token the same id, so that what one wrote the other can read as it is."""
    return one is other or one.get_vocab() == other.get_vocab()


def plain_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The tokens of a text that another model wrote; what spells a control token in it is read, and does not act."""
    ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return ids


def common_spans(teacher_ends: Sequence[int], student_ends: Sequence[int]) -> list[Span]:
    """The smallest common spans, in order, of two tokenisations given by where each token ends.

    A token without a text of its own belongs to the span that ends where it does, at the very start to the first. There
    is no span where a side has no tokens, or no text.

    >>> common_spans([3, 5, 6], [2, 3, 4, 6])  # abc|de|f and ab|c|d|ef
    [Span(teacher=range(0, 1), student=range(0, 2)), Span(teacher=range(1, 3), student=range(2, 4))]
    """
    cuts = sorted((set(teacher_ends) & set(student_ends)) - {0})
    borders = [(0, 0), *((bisect_right(teacher_ends, cut), bisect_right(student_ends, cut)) for cut in cuts)]
    return [Span(range(t, t_stop), range(s, s_stop)) for (t, s), (t_stop, s_stop) in pairwise(borders)]


def kl_of_spans(
    teacher_E: Tensor, student_R: Tensor, spans: Sequence[Span], estimate: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """KL at each of the teacher's tokens, nats, fp32: of its span, divided by the span's tokens of the teacher.

    `estimate` is one of rewards.ESTIMATORS, given the sums over each span. The log-probabilities may end early (a token
    that was not sampled, a student that could not read all); a span that is not known whole is left out, and those
    behind it are.

    >>> spans = common_spans([3, 5, 6], [2, 3, 4, 6])
    >>> kl_of_spans(torch.tensor([-1.0, -2.0, -4.0]), torch.tensor([-1.0, -2.0, -3.0, -5.0]), spans, torch.sub)
    tensor([2., 1., 1.])
    """
    known = [span for span in spans if span.teacher.stop <= len(teacher_E) and span.student.stop <= len(student_R)]
    theirs_K = torch.tensor([len(span.teacher) for span in known], dtype=torch.long)
    ours_K = torch.tensor([len(span.student) for span in known], dtype=torch.long)
    kl_K = estimate(_sums(teacher_E, theirs_K), _sums(student_R, ours_K)) / theirs_K
    return kl_K.repeat_interleave(theirs_K)


def _sums(logps: Tensor, lengths_K: Tensor) -> Tensor:
    """The sums of consecutive stretches of these lengths, added in fp64, shape (K,)."""
    stretch = torch.arange(len(lengths_K)).repeat_interleave(lengths_K)
    sums_K = torch.zeros(len(lengths_K), dtype=torch.float64)
    return sums_K.index_add_(0, stretch, logps[: len(stretch)].double()).float()


def token_ends(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int], text: str) -> list[int]:
    """Where each token ends in `text`, which the tokens spell or were made of; in UTF-8 bytes, never falling.

    The last one ends where the text does. Tokens that cannot be told apart all end there.
    """
    if not token_ids:
        return []
    tokens = [token or "" for token in tokenizer.convert_ids_to_tokens(list(token_ids))]
    ends = _byte_level_ends(tokens, text) or _sentencepiece_ends(tokens, text) or _made_ends(tokenizer, token_ids, text)
    return ends or [len(text.encode())] * len(tokens)


def _byte_level_ends(tokens: Sequence[str], text: str) -> list[int] | None:
    pieces = [_bytes(token) for token in tokens]
    spelled = b"".join(pieces)
    if spelled.decode(errors="replace") != text:
        return None
    return list(_replaced(accumulate(map(len, pieces)), spelled))


def _bytes(token: str) -> bytes:
    """An added token is written as it is, and not in the table's characters."""
    found = [_BYTE_OF.get(character) for character in token]
    return token.encode() if None in found else bytes(byte for byte in found if byte is not None)


def _replaced(ends: Iterator[int], spelled: bytes) -> Iterator[int]:
    """The ends once every stretch of bytes that is no UTF-8 has become U+FFFD; those inside of one move behind it."""
    broken = _broken(spelled)
    start, stop = next(broken, (len(spelled), 0))
    reached = moved = 0
    for end in ends:
        while start < end:
            reached, moved = stop, moved + len(_REPLACEMENT) - (stop - start)
            start, stop = next(broken, (len(spelled), 0))
        yield max(end, reached) + moved


def _broken(spelled: bytes) -> Iterator[tuple[int, int]]:
    """Where bytes are no UTF-8: each stretch that a decoder replaces by one U+FFFD."""
    begin = 0
    while True:
        try:
            spelled[begin:].decode()
            return
        except UnicodeDecodeError as error:
            yield begin + error.start, begin + error.end
            begin += error.end


def _sentencepiece_ends(tokens: Sequence[str], text: str) -> list[int] | None:
    """The space that SentencePiece puts before a text is none of the text's own."""
    pieces: list[bytes] = []
    for in_bytes, run in groupby(tokens, lambda token: _BYTE_TOKEN.fullmatch(token) is not None):
        same = list(run)
        pieces += _run_of_bytes(same) if in_bytes else [token.replace(_SPACE, " ").encode() for token in same]
    spelled, wanted = b"".join(pieces), text.encode()
    added = len(spelled) - len(wanted)
    if added not in (0, 1) or spelled != b" " * added + wanted:
        return None
    return [max(0, end - added) for end in accumulate(map(len, pieces))]


def _run_of_bytes(tokens: Sequence[str]) -> list[bytes]:
    """What a run of byte tokens spells: characters, or U+FFFD for each where it is no UTF-8."""
    pieces = [bytes.fromhex(token[3:5]) for token in tokens]
    try:
        b"".join(pieces).decode()
    except UnicodeDecodeError:
        return [_REPLACEMENT] * len(pieces)
    return pieces


def _made_ends(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int], text: str) -> list[int] | None:
    """As the tokenizer tells them where it makes these tokens of the text.

    Of what it drops, space goes with the token behind and anything else, such as an accent, with the one before.
    """
    if not tokenizer.is_fast:
        return None
    made = tokenizer(text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True)
    if made["input_ids"] != list(token_ids):
        return None
    starts = [start for start, _ in made["offset_mapping"]]
    stops = [stop for _, stop in made["offset_mapping"]]
    following = zip(stops, [*starts[1:], len(text)], strict=True)
    reach = {stop: stop + len(text[stop:start].rstrip()) for stop, start in following}
    bytes_before = [0, *accumulate(len(character.encode()) for character in text)]
    ends = [bytes_before[end] for end in accumulate((reach[stop] for stop in stops), max)]
    return [bytes_before[-1] if end == ends[-1] else end for end in ends]
