"""How much of a text says again what it said: the share of its word 4-grams that occurred in it before.

    repetition = 1 - (different 4-grams) / (4-grams)

Words are what white space parts, in lower case; four of them in a row are seldom the same by chance, while a loop of a
model that cannot stop repeats them by the hundred. A text that says one sentence twice is near 0.5, n times near
1 - 1/n. Left out: repetition in other words.
"""

WORDS = 4


def repetition(text: str) -> float:
    """The share, 0 to 1; 0 for a text of fewer than five words.

    >>> repetition("we add two and we add two and we stop")
    0.2857142857142857
    """
    words = text.lower().split()
    grams = [tuple(words[start : start + WORDS]) for start in range(len(words) - WORDS + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
