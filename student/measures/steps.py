r"""An explanation in steps, and what each of them is worth: how much likelier the solution becomes when it is appended.

    credit_k = mean over solution tokens s of ( log p(s | question, t_1 ... t_k) - log p(s | question, t_1 ... t_k-1) )

Nats a token at temperature 1, as the gain (gain.py), of which the credits are the parts: before the first step the
student has read no explanation, after the last one all of it, and the sum of the credits is the gain.

Where a text has blank lines its steps end there. One without any is cut by the next of these that cuts it at all:

    blank lines     lines     sentences     equations ("+1 = 4 +5 = 9" is two steps)

White space after a line belongs to the step before it, that after a sentence or an equation to the step behind, as most
tokenizers cut it. A token belongs to the step in which its first word is. Left out: whether a step is right, which no
likelihood says; and what a step is worth to those behind it.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from student.measures.gain import solution_gain
from student.measures.results import Step
from student.scoring.alignment import token_ends

_LINES = r"\n(?:[ \t\r]*\n)"
_BORDERS = (
    re.compile(_LINES + "+"),
    re.compile(_LINES + "*"),
    re.compile(r"[.!?][\"'\u2019\u201d)\]*]*(?=\s+[^\sa-z])|[\u3002\uff01\uff1f]+"),
    re.compile(r"=\s*[^\s\w=]*\d[^\s=]*(?=\s+\S)(?!\s*[-+*/\u00d7\u00f7^=<>]\s)"),
)
"""Behind what a step ends, coarsest first."""


def steps(text: str, most: int | None = None) -> list[str]:
    r"""The steps of a text, which joined are the text; at most `most`: neighbours are joined where there are more.

    White space before the first word or behind the last one makes no step.

    >>> steps("One.\n\nTwo,\nstill two.\n \n\nThree.\n\n")
    ['One.\n\n', 'Two,\nstill two.\n \n\n', 'Three.\n\n']
    >>> steps("48 / 2 = 24.\n48 + 24 = 72."), steps("She has 3. She buys 2.5 more."), steps("+1 = 4 +5 = 9 +8 = 7", 2)
    (['48 / 2 = 24.\n', '48 + 24 = 72.'], ['She has 3.', ' She buys 2.5 more.'], ['+1 = 4 +5 = 9', ' +8 = 7'])
    >>> steps("\n\nOne."), steps("")
    (['\n\nOne.'], [])
    """
    if not text:
        return []
    cuts = (list(_cut(text, border)) for border in _BORDERS)
    found = next((pieces for pieces in cuts if len(pieces) > 1), [text])
    joined = 1 if most is None else -(-len(found) // most)
    return ["".join(found[start : start + joined]) for start in range(0, len(found), joined)]


def _cut(text: str, border: re.Pattern[str]) -> Iterator[str]:
    start, last_word = 0, len(text.rstrip())
    for gap in border.finditer(text):
        if gap.end() < last_word and not text[start : gap.end()].isspace():
            yield text[start : gap.end()]
            start = gap.end()
    yield text[start:]


def tokens_before(
    tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int], text: str, pieces: Sequence[str]
) -> list[int]:
    """How many of the tokens, which spell the text, stand before the first of its pieces, the second, ... and the end.

    A token that reaches over a border is the piece's that its first word is in: white space before a word may be a part
    of the word's token. The first number is 0, the last one that of all tokens.
    """
    ends = token_ends(tokenizer, token_ids, text)
    begins = [0, *ends[:-1]]
    counts, border = [0], 0
    for piece in pieces[:-1]:
        word_end, border = border + len(piece.rstrip().encode()), border + len(piece.encode())
        counts.append(max(bisect_left(begins, word_end), bisect_right(ends, border)))
    return [*counts, len(token_ids)] if pieces else [len(token_ids)]


def credited(pieces: Sequence[str], logps_S: Sequence[Tensor]) -> tuple[Step, ...]:
    """The steps with their credits; `logps_S` holds log p of each solution token before the first and after each.

    >>> import torch
    >>> credited(["So 2.", " So 3."], [torch.tensor([logp]) for logp in (-4.0, -1.0, -2.0)])
    (Step(start=0, stop=5, credit=3.0), Step(start=5, stop=11, credit=-1.0))
    """
    assert len(logps_S) == len(pieces) + 1, "read before the first step, and after each"
    stops = list(accumulate(map(len, pieces)))
    return tuple(
        Step(start=stop - len(piece), stop=stop, credit=solution_gain(after_S, before_S))
        for piece, stop, (before_S, after_S) in zip(pieces, stops, pairwise(logps_S), strict=True)
    )


def lowest_credit(found: Sequence[Step]) -> float | None:
    """The measure `step_credit`: what the least helpful step is worth; None where there is no step."""
    return min((step.credit for step in found), default=None)
