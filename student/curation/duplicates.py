"""Near-duplicates by MinHash: candidates from equal bands of signatures, each verified by the true overlap.

    text -> words -> shingles of 3 words, hashed -> the 1,024 smallest hashes: the sketch, kept on disk
    sketch -> signature (datasketch, 200 permutations) -> 50 bands of 4, 32 bits each

    J = |A ∩ B| / |A ∪ B|        estimated on sketches where a text has more shingles than one holds
    similarity = (2 J / (1 + J))^(1/3)

The similarity is the share of words that are the same if the others were exchanged here and there: one word breaks
three shingles, so a share w of words leaves w^3 of the shingles (the Mash distance of Ondov et al. 2016, equation 3,
to first order). Two texts with a share w meet in at least one band with probability 1 - (1 - J^4)^50: 0.997 at w = 0.9,
0.87 at 0.85.

Rows come best first into the search, so a copy is always told to be one of a better row. Kept rows are copies of none
that is kept, and every dropped row is a copy of one that is. Memory: 20 bytes a text, and one band at a time. Left out:
datasketch's own index, which takes 16 kB a text and so 16 GB for a million.
"""

import tempfile
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
from datasketch import MinHash
from numpy.typing import NDArray

from student.curation.settings import Compared, Duplicates
from student.curation.words import WordHashes, ngrams, normalised, words
from student.explanations import Explanation, Verdict

SHINGLE_WORDS = 3
SKETCH = 1024
"""Smallest hashes of a text that are kept; beyond so many distinct shingles the overlap is an estimate (± 0.016)."""
BANDS, BAND_ROWS = 50, 4
CHUNK = 256
"""Hashes that are permuted at once: in the processor's cache, three times as fast as 2,000."""
PAIRS = 2**22
"""Candidate pairs that are held before repeated ones are taken out."""

Sketch = NDArray[np.uint32]
_PERMUTED = MinHash(num_perm=BANDS * BAND_ROWS, seed=1, hashfunc=int, scheme="affine32")


@dataclass(frozen=True)
class Copy:
    """A text that repeats the better one numbered `of`."""

    of: int
    similarity: float
    """1 where it is the same but for case, space and punctuation."""


def compared_text(row: Explanation, compare: Compared) -> str:
    """What is compared of a row."""
    texts = {"explanation": row.explanation, "question": row.question, "both": f"{row.question}\n{row.explanation}"}
    return texts.get(compare, "")


def duplicates_verdict(original: str | None, similarity: float = 1.0) -> Verdict:
    """The verdict on a row that is a copy of the row `original`, or of none.

    >>> duplicates_verdict("p-0", 0.934).detail
    'a copy of p-0 (93 % of the words)'
    """
    if original is None:
        return Verdict(filter="duplicates", kept=True)
    how = "the same text" if similarity >= 1 else f"{min(99, int(100 * similarity))} % of the words"
    return Verdict(filter="duplicates", kept=False, detail=f"a copy of {original} ({how})")


class DuplicateSearch:
    """Takes texts one after another, then says which are copies; its files are in `folder`, without names."""

    def __init__(self, settings: Duplicates, folder: Path | None = None) -> None:
        self._similarity = settings.similarity
        self._words = WordHashes()
        self._sketches = _Ragged(folder)
        self._bands = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 closed with the search
        self._digests = array("Q")

    def close(self) -> None:
        """Forgets all."""
        self._sketches.close()
        self._bands.close()

    def add(self, text: str) -> int | None:
        """The text's number; None for one without words, which is compared with nothing."""
        found = words(text)
        if not found:
            return None
        sketch = _sketch(self._words, found)
        self._sketches.append(sketch)
        self._bands.write(_band_hashes(sketch).tobytes())
        digest = blake2b(normalised(text).encode("utf-8", "surrogatepass"), digest_size=8).digest()
        self._digests.append(int.from_bytes(digest, "little"))
        return len(self._digests) - 1

    def copies(self, order: NDArray[np.int64]) -> dict[int, Copy]:
        """The copies among the texts numbered so, the best first: each with a better one that is none."""
        found, distinct = self._same(order)
        near = self._near(distinct) if self._similarity < 1 else {}
        # A text that is the same as a near copy is a copy of that one's original.
        for number, copy in found.items():
            found[number] = near.get(copy.of, copy)
        return found | near

    def _same(self, order: NDArray[np.int64]) -> tuple[dict[int, Copy], NDArray[np.int64]]:
        """Texts that are the same word by word as a better one; and the others, in order."""
        digests = np.array(self._digests, np.uint64)[order]
        _, first, inverse = np.unique(digests, return_index=True, return_inverse=True)
        best = first[inverse]
        repeated = np.flatnonzero(best != np.arange(len(order)))
        found = {int(order[place]): Copy(int(order[best[place]]), 1.0) for place in repeated}
        return found, order[np.sort(first)]

    def _near(self, order: NDArray[np.int64]) -> dict[int, Copy]:
        """Texts that are near a better one that is kept, greedily from the best."""
        found: dict[int, Copy] = {}
        for member, betters in self._candidates(order):
            # What a candidate is a copy of is a candidate too.
            originals = dict.fromkeys(found[better].of if better in found else better for better in betters)
            nearest = max((self._compare(member, original) for original in originals), key=lambda copy: copy.similarity)
            if nearest.similarity >= self._similarity:
                # Only the same text is told to be 1: words leave out the signs of mathematics.
                found[member] = Copy(nearest.of, min(nearest.similarity, 0.99))
        return found

    def _compare(self, member: int, original: int) -> Copy:
        return Copy(original, similarity(self._sketches[member], self._sketches[original]))

    def _candidates(self, order: NDArray[np.int64]) -> Iterator[tuple[int, list[int]]]:
        """Each text that shares a band with better ones, in order, with those."""
        pairs = np.empty(0, np.int64)
        for column in self._columns(order):
            pairs = np.concatenate([pairs, _band_pairs(column)])
            pairs = np.unique(pairs) if len(pairs) > PAIRS else pairs
        members, betters = np.divmod(np.unique(pairs), len(order))
        starts = np.flatnonzero(np.diff(members, prepend=-1))
        for group in np.split(np.arange(len(members)), starts[1:]) if len(members) else ():
            yield int(order[members[group[0]]]), order[betters[group]].tolist()

    def _columns(self, order: NDArray[np.int64]) -> Iterator[NDArray[np.uint32]]:
        """The hashes of one band after another."""
        if not len(order):
            return
        self._bands.flush()
        table = np.memmap(self._bands, np.uint32, mode="r", shape=(len(self._digests), BANDS))
        for band in range(BANDS):
            yield table[:, band][order]


def similarity(one: Sketch, other: Sketch) -> float:
    """The share of words that two texts have in common, from their sketches; 0 to 1.

    >>> a, b = (_sketch(WordHashes(), words("a b c d e f g h i j " + end)) for end in ("k", "l"))
    >>> round(similarity(a, b), 2), similarity(a, a)  # 8 of 9 shingles, 10 of 11 words
    (0.96, 1.0)
    """
    union = np.union1d(one, other)
    if max(len(one), len(other)) == SKETCH:  # only up to the greatest hash of a full sketch both are known
        union = union[:SKETCH]
    shared = np.intersect1d(one, other, assume_unique=True)
    jaccard = np.count_nonzero(shared <= union[-1]) / len(union)
    return float((2 * jaccard / (1 + jaccard)) ** (1 / SHINGLE_WORDS))


def _sketch(known: WordHashes, found: list[str]) -> Sketch:
    """The smallest hashes of the text's shingles, ascending; a text of fewer words is one shingle."""
    shingles = ngrams(known.of(found), min(SHINGLE_WORDS, len(found)))
    return np.unique((shingles >> np.uint64(32)).astype(np.uint32))[:SKETCH]


def _band_hashes(sketch: Sketch) -> NDArray[np.uint32]:
    """32 bits for each band of the signature, shape (BANDS,)."""
    signature = MinHash(
        num_perm=BANDS * BAND_ROWS, permutations=_PERMUTED.permutations, hashfunc=int, scheme="affine32"
    )
    for start in range(0, len(sketch), CHUNK):
        signature.update_batch(sketch[start : start + CHUNK].tolist())
    values: NDArray[np.uint32] = signature.hashvalues
    [hashes] = ngrams(values.astype(np.uint64).reshape(BANDS, BAND_ROWS).T, BAND_ROWS)
    banded: NDArray[np.uint32] = (hashes >> np.uint64(32)).astype(np.uint32)
    return banded


def _band_pairs(column: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Pairs of places with one hash, as place · N + better place: each with the best of them, and with its forerunner.

    Not all pairs: of a million texts with a boilerplate in common there would be half a billion.
    """
    order = np.argsort(column, kind="stable")
    ordered = column[order]
    new = np.diff(ordered, prepend=ordered[:1] + np.uint32(1)) != 0
    new[0] = True
    best = order[np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))]
    members = np.flatnonzero(~new)
    size = len(column)
    with_best = order[members] * size + best[members]
    with_forerunner = order[members] * size + order[members - 1]
    return np.unique(np.concatenate([with_best, with_forerunner]).astype(np.int64))


class _Ragged:
    """Arrays of 32-bit numbers of any length in one file without a name; where each ends is in memory."""

    def __init__(self, folder: Path | None) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 closed by close
        self._ends = array("Q", [0])

    def append(self, values: Sketch) -> None:
        """One more."""
        self._file.write(values.tobytes())
        self._ends.append(self._ends[-1] + len(values))

    def __getitem__(self, index: int) -> Sketch:
        start, stop = self._ends[index], self._ends[index + 1]
        self._file.seek(4 * start)
        return np.frombuffer(self._file.read(4 * (stop - start)), np.uint32)

    def close(self) -> None:
        """Forgets all."""
        self._file.close()
