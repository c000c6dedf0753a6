"""Explanations that say what an earlier one says: the same words, whatever their case, space and punctuation.

The first kept row of the file stays, its copies are dropped and name it; the problem does not matter, since the same
words for two problems explain neither. Signs of mathematics, brackets and the point in 3.5 are no punctuation: two
explanations that differ by a sign are two. Left out: texts that repeat another up to a few words.
"""

import re
import unicodedata
from collections.abc import Sequence
from hashlib import blake2b

from student.curation.filters import judged
from student.explanations import Explanation, Verdict

IGNORED = re.compile(r"""(?:(?!(?<=\d)(?:[.,:]\d|!))[\s.,;:!?'"`´…¿¡«»„“”‘’、。])+""")
"""What is taken for space between words: space and punctuation, but none that belongs to a number."""


def normalised(text: str) -> str:
    """A text without what does not change what it says.

    >>> normalised("So,  2 + 3.5 = 5.5.\\nDone!")
    'so 2 + 3.5 = 5.5 done'
    """
    return IGNORED.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()


def without_copies(rows: Sequence[Explanation]) -> list[Explanation]:
    """The rows in their order, each that was still kept with the verdict `duplicates`."""
    seen: dict[bytes, str] = {}
    return [_judged(row, seen) if row.kept else row for row in rows]


def _judged(row: Explanation, seen: dict[bytes, str]) -> Explanation:
    digest = blake2b(normalised(row.explanation).encode("utf-8", "surrogatepass"), digest_size=16).digest()
    first = seen.setdefault(digest, row.id)
    if first == row.id:
        return judged(row, Verdict(filter="duplicates", kept=True))
    return judged(row, Verdict(filter="duplicates", kept=False, detail=f"the same words as {first}"))
