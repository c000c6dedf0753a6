"""Texts as words that do not depend on case, punctuation or the spacing of LaTeX, and as numbers for their n-grams.

Used where two texts are to be found the same although they are written differently. Left out: stemming, and
synonyms: a paraphrase is another text.
"""

import re
import unicodedata
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

_LAYOUT = re.compile(
    r"\\(?:left|right|big|Big|bigg|Bigg|displaystyle|textstyle|limits|quad|qquad|hspace|text|textbf|textit|textrm|"
    r"mathrm|mathbf|mathit|operatorname)(?![A-Za-z])|\\[,;:! ]|~"
)
_FRACTION = re.compile(r"\\[dtc]frac(?![A-Za-z])")
_THOUSANDS = re.compile(r"(?<=\d)(?:,|\{,\}|\\,)(?=\d{3}(?!\d))")
_SCRIPTS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
_IGNORED = re.compile(r"""(?:(?!(?<=\d)(?:[.,:]\d|!))[\s.,;:!?'"`´…¿¡«»„“”‘’、。])+""")
"""Space and punctuation, but none that belongs to a number."""
_WORD = re.compile(rf"[{_SCRIPTS}]|\d+(?:\.\d+)?|(?:(?![\d_{_SCRIPTS}])\w)+")
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
VOCABULARY = 2**20
"""Words whose hashes are remembered; beyond that the memory is emptied."""


def words(text: str) -> list[str]:
    r"""The words and numbers of a text in order; a formula or sentence that is only written otherwise gives the same.

    >>> words(r"Aya goes for a $9$-kilometer-long walk, at $s+\frac{1}{2}$ km/h.") == words(
    ...     r"aya goes for a 9 kilometer long walk at $s + \dfrac{1}{2}$ km / h")
    True
    >>> words(r"$1{,}000\,\text{m}$"), words("数は 1,000.5")
    (['1000', 'm'], ['数', 'は', '1000.5'])
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    text = _THOUSANDS.sub("", text)
    if "\\" in text:
        text = _FRACTION.sub(r"\\frac", _LAYOUT.sub(" ", text))
    return _WORD.findall(text.casefold())


def normalised(text: str) -> str:
    """A text without what does not change what it says; signs of mathematics stay.

    >>> normalised("So,  2 + 3.5 = 5.5.\\nDone!")
    'so 2 + 3.5 = 5.5 done'
    """
    return _IGNORED.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()


class WordHashes(dict[str, int]):
    """64 bits a word, the same in every process; those met before are remembered."""

    def __missing__(self, word: str) -> int:
        if len(self) >= VOCABULARY:
            self.clear()
        number = int.from_bytes(blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
        self[word] = number
        return number

    def of(self, listed: list[str]) -> Hashes:
        """The hashes of these words."""
        return np.fromiter((self[word] for word in listed), np.uint64, len(listed))


def ngrams(hashes: Hashes, size: int) -> Hashes:
    """64 bits for each run of `size` words along the first axis, in order; none where there are fewer words.

        h[i] = mix(sum over j < size of w[i + j] · f^(size - 1 - j))  modulo 2^64, f odd

    >>> a, b = (ngrams(WordHashes().of(text.split()), 2) for text in ("one and one", "and one"))
    >>> len(a), bool(a[1] == b[0]), bool(a[0] == b[0])
    (2, True, False)
    """
    count = len(hashes) - size + 1
    if count <= 0:
        return hashes[:0]
    total = hashes[:count].copy()
    for offset in range(1, size):
        total *= _FACTOR
        total += hashes[offset : offset + count]
    return _mixed(total)


def _mixed(values: Hashes) -> Hashes:
    """Each value with its bits spread (the finalizer of splitmix64), so that the top half is a good hash too."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
