"""Where tokens stand in a text: pieces that joined are the text again, to the character.

A token may hold a part of a character, so where several share one the last of them gets it and the others are empty.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise

from transformers import PreTrainedTokenizerBase

_INCOMPLETE = "\ufffd"


def pieces(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int], text: str) -> list[str]:
    """What each of the tokens, which spell `text` or were made of it alone, stands for in it."""
    if _decoded(tokenizer, token_ids) == text:
        return _decoded_pieces(tokenizer, token_ids)
    # The tokenizer changed the text before it cut it (NFC, lower case): only it knows where the tokens came from.
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    assert len(offsets) == len(token_ids), "tokens that do not spell the text were made of it"
    borders = accumulate([0, *(start for start, _ in offsets[1:]), len(text)], max)
    return [text[start:stop] for start, stop in pairwise(borders)]


def _decoded_pieces(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int]) -> list[str]:
    """Decodes a few tokens at a time, each with those before it that a tokenizer may look back at.

    A token alone may lose its leading space, and half a character decodes to U+FFFD.
    """
    found: list[str] = []
    begin, ready = 0, 0
    for end in range(1, len(token_ids) + 1):
        before, now = (_decoded(tokenizer, token_ids[begin:stop]) for stop in (ready, end))
        if now.endswith(_INCOMPLETE) and end < len(token_ids):
            found.append("")
            continue
        found.append(now[len(before) :])
        begin, ready = ready, end
    return found


def _decoded(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(token_ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


def starts(texts: Sequence[str]) -> list[int]:
    """Where each of the pieces begins, in characters.

    >>> starts(["a ", "", "bc"])
    [0, 2, 2]
    """
    position, found = 0, []
    for text in texts:
        found.append(position)
        position += len(text)
    return found
