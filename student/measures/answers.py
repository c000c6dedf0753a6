r"""Which answer to look for in a text, and whether it is told where it stands or is only there.

    told    "the answer is 42", "final result: **42**", "\boxed{42}", "#### 42", "42 is the solution", "it is 42.",
            "we get 42 clips.", "our target is 42", "42 in total", "In short, 42."

Left out: answers spelled as words ("forty-two"), and whether the answer is right where it stands.
"""

from collections.abc import Sequence

from student.grading import stated_answer
from student.measures.words import Words, any_of, words_of

LONGEST = 24
"""Words of an answer that is looked for as such; what is longer is a solution."""
REACH = 8
"""Words between "answer" and what it is."""
UNITS = 2
"""Words between a claimed answer and the end of its clause."""

_OPENING_MARKS = frozenset("*_`\"'$€£({[\\\u201c\u2018#") | {"\\text", "\\mathbf", "\\textbf", "\\mathrm"}
_CLOSING_MARKS = frozenset("*_`\"'$)]}%\\\u201d\u2019")
_BRACKETS = {")": "(", "]": "[", "}": "{"}
_ENDS = frozenset(".;:?!,")
_BOXES = frozenset(("\\boxed", "\\fbox"))
_SUBJECTS = any_of("answer answers ans solution spoiler reply choice option")
_FINALS = any_of("final end correct right")
_OUTCOMES = any_of("result value number total amount figure outcome conclusion sum count")
_AIMS = any_of("aim aiming looking seek seeking expect expecting want")
_GOALS = _AIMS | any_of("target goal destination after towards sought")
_ARRIVALS = any_of(
    "get gets getting obtain obtains give gives yield yields find finds reach reaches arrive arrives end ends"
    " land lands"
    " work works turn turns come comes lead leads boil boils amount amounts add adds equal equals make makes say"
)
_LINKS = any_of("is = : equals be was being are as of namely >")
_SPEAKERS = any_of("it it's that that's this i we you one must should will would")
_FILLERS = any_of(
    "a the to at with in on up down out all just exactly simply indeed about as us will of for clearly probably so"
    " therefore thus hence yes"
)
_ARTICLES = any_of("the final our correct right")
_PREPOSITIONS = any_of("a the to at with in on of as about")
_WHOLES = any_of("total all altogether overall")
_DOUBTS = any_of("not than if whether less more greater least most requires between what how which")


def answer_words(answer: str | None, solution: str) -> tuple[str, ...]:
    r"""The answer to look for, as words without the marks around it; none where it is too long for one.

    >>> answer_words(None, r"So it is $\boxed{1,200}$."), answer_words("$42$.", "")
    (('1200',), ('42',))
    """
    words = list(words_of(answer or stated_answer(solution) or solution).words[: 2 * LONGEST])
    while words and words[0] in _OPENING_MARKS:
        words.pop(0)
    while words and words[-1] in _CLOSING_MARKS | _ENDS and not _closes(words):
        words.pop()
    return tuple(words) if len(words) <= LONGEST else ()


def _closes(words: Sequence[str]) -> bool:
    """Whether the last word is a bracket that was opened among them, as that of "3 * (1/2)"."""
    return words[-1] in _BRACKETS and words.count(_BRACKETS[words[-1]]) >= words.count(words[-1])


def is_telling(answer: Sequence[str]) -> bool:
    """Whether the answer is one that does not come up by itself, as small and round numbers and single words do.

    >>> is_telling(["72"]), is_telling(["12"]), is_telling(["500"]), is_telling(["yes"])
    (True, False, False, False)
    """
    digits = answer[0].lstrip("+-")
    return len(answer) > 1 or (digits[:1].isdigit() and len(digits.rstrip("0")) > 1 and digits not in _COMMON)


_COMMON = any_of("11 12 13 14 15 16 18 24 25 28 31 32 36 48 52 75 99 365")


def is_told(trace: Words, sentence: range, start: int, stop: int) -> bool:
    """Whether the words from start to stop, an answer, are put forward in their sentence as what was looked for."""
    before = [trace.words[place] for place in range(max(sentence.start, start - 2 * REACH), start)]
    after = [word for word in trace.words[stop : min(sentence.stop, stop + 2 * REACH)] if word not in _CLOSING_MARKS]
    hashes = 0
    while before and before[-1] in _OPENING_MARKS:
        hashes += before.pop() == "#"
    if (before and before[-1] in _BOXES) or hashes >= 4:
        return True
    return _named_before(before[-REACH:]) or _named_after(after) or _claims(before[-REACH:], after)


def _named_before(before: Sequence[str]) -> bool:
    """ "the answer is", "final result:"; a number between would be another's answer."""
    for number, word in enumerate(reversed(before), 1):
        if word[0].isdigit() or word in {".", ";", "?"}:
            return False
        outcome = word in _OUTCOMES and not _FINALS.isdisjoint(before[-number - 2 : -number])
        if word in _SUBJECTS or outcome:
            between = before[len(before) - number + 1 :]
            if not between:
                return not _ARTICLES.isdisjoint(before[-number - 1 : -number])
            return not (_LINKS | _ARRIVALS).isdisjoint(between) and _DOUBTS.isdisjoint(between)
    return False


def _named_after(after: Sequence[str]) -> bool:
    """ "... is the answer", "... as our final answer", "... is correct", "... is what we get", "is the number"
    " we want"."""
    for place in range(min(REACH // 2, len(after))):
        if after[place] in {"is", "as", "was", "being"}:
            named = after[place + 1 : place + 4]
            wanted = not _OUTCOMES.isdisjoint(named[:2]) and not _SPEAKERS.isdisjoint(named[2:])
            return wanted or not (_SUBJECTS | {"correct", "right", "what"}).isdisjoint(named)
    return False


def _claims(before: Sequence[str], after: Sequence[str]) -> bool:
    """ "it is", "we end up at", "our target here is", "in total", or all that a sentence says."""
    rest = next((place for place, word in enumerate(after) if word in _ENDS), len(after))
    if not _WHOLES.isdisjoint(after[: min(rest, UNITS + 2)]) or after[:2] == ["comes", "out"]:
        return True
    if rest > UNITS:
        return False
    told = [word for word in before if word not in _FILLERS]
    if not before:
        return not after or after[0] in {":", "!"}
    if not told or (told[-1] in _ENDS and len(told) <= REACH // 2):
        return rest == 0 and before[-1] not in _PREPOSITIONS
    if told[-1] in _LINKS:
        return not (_SPEAKERS | _OUTCOMES | _GOALS | _ARRIVALS).isdisjoint(told)
    return told[-1] in _ARRIVALS | _AIMS or (told[-1] in _OUTCOMES and not _GOALS.isdisjoint(told))
