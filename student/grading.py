r"""Is a text the right answer? By one of four methods:

    math        math-verify: LaTeX, fractions, sets, units
    exact       the same text, space aside
    choice      the letter of an option, however it is wrapped
    countdown   any expression of the same numbers with the same value (expressions.py)

math-verify parses and simplifies whatever a model wrote, so one sample can cost hours (`9^{9^{9^9}}`), and the
library's own deadline is a signal that works in the main thread alone. It therefore runs in one side process
(grading_process.py) that the kernel ends at its deadline: grading works in any thread and always comes back. Left out:
any judgement of the steps; only the answer is compared.
"""

import re
from collections.abc import Callable
from typing import Literal, Protocol

from student.expressions import solves
from student.grading_process import Grader
from student.tags import Tags

Method = Literal["math", "exact", "choice", "countdown"]

TEXT_LIMIT = 10_000
"""Characters of a text that math-verify reads, from its end: the answer comes last, and its patterns are not linear."""

_BOX = re.compile(r"\\(?:boxed|fbox)(?:\s*\{|\s+(?P<bare>[^\s${}\\]+))")
_TEXT = re.compile(r"\\(?:text|mathrm|textbf|mathbf)\s*\{([^{}]*)\}")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_SAID_LETTER = re.compile(
    r"(?:answer|option|choice|choose)(?:\s+is)?\s*:?\s*[*$({\[]*(?-i:([A-J]))(?![\w'])", re.IGNORECASE
)
_LONE_LETTER = re.compile(r"(?<![\w'])([A-J])(?=[).,:;\]}*]|\s*$)")
_GRADER = Grader()


def grade(text: str, answer: str, method: Method = "math") -> bool:
    r"""True where `text` (a solution section, or all of a student's text) states `answer`.

    A text that cannot be parsed, or not within the deadline, is wrong, never an error. Several boxed answers count as
    the set of them, so that hedging does not pay.

    >>> grade("4 2", "42", "exact"), grade("It is 42.", "42", "exact")
    (True, False)
    >>> grade(r"So we get \boxed{\frac{1}{2}}.", "0.5")
    True
    """
    if not answer.strip():
        return False
    if _squeezed(text) == _squeezed(answer):
        return True
    if len(answer) > TEXT_LIMIT:
        return False
    return _JUDGES[method](text[-TEXT_LIMIT:], answer)


def chosen_letter(text: str) -> str | None:
    r"""The option that a text chooses: in its last box, else as its last "answer is B", else the last letter by itself.

    >>> chosen_letter("The answer is (C)."), chosen_letter(r"A or B, so \boxed{\text{B}}"), chosen_letter("A fine day")
    ('C', 'B', None)
    """
    boxed = last_boxed(text)
    looked_at = text if boxed is None else _TEXT.sub(r"\1", boxed)
    letters = _SAID_LETTER.findall(looked_at) or _LONE_LETTER.findall(looked_at)
    return letters[-1] if letters else None


def _same_choice(text: str, answer: str) -> bool:
    chosen = chosen_letter(text)
    return chosen is not None and chosen == chosen_letter(answer)


def _same_value(text: str, answer: str) -> bool:
    return _squeezed(_TEXT.sub(r"\1", text)) == _squeezed(_TEXT.sub(r"\1", answer)) or _GRADER.agrees(text, answer)


_JUDGES: dict[Method, Callable[[str, str], bool]] = {
    "math": _same_value,
    "exact": lambda text, answer: False,
    "choice": _same_choice,
    "countdown": solves,
}
"""What each method says of texts that are not the same."""


class Solved(Protocol):
    """A problem, or an explanation of one."""

    @property
    def answer(self) -> str | None: ...

    @property
    def solution(self) -> str: ...


def gold_answer(problem: Solved) -> str:
    """What a student must state: the problem's answer, else the one in its solution, else the whole solution."""
    return problem.answer or stated_answer(problem.solution) or problem.solution


def stated_answer(solution: str) -> str | None:
    r"""The answer that a solution states by convention: its last `\boxed{}`, else what follows its last `####`.

    >>> stated_answer(r"so $x = \boxed{\frac{1}{2}}$."), stated_answer("2 + 2 = 4\n#### 4"), stated_answer("4")
    ('\\frac{1}{2}', '4', None)
    """
    return last_boxed(solution) or solution.rpartition("####")[2].strip() * ("####" in solution) or None


def last_boxed(text: str) -> str | None:
    r"""What stands in the last `\boxed{...}` of `text`, its braces balanced; None where it is empty or never closes."""
    boxes = list(_BOX.finditer(text))
    if not boxes:
        return None
    bare: str | None = boxes[-1]["bare"]
    if bare is not None:
        return bare.rstrip(".,;") or None
    return _balanced(text, boxes[-1].end())


def _balanced(text: str, start: int) -> str | None:
    depth = 1
    for brace in _BRACE.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return text[start : brace.start()].strip() or None
    return None


def solution_section(text: str, tags: Tags) -> str | None:
    """The solution that a student wrote, without its tags; None where the section is missing or never closes.

    It is looked for after the closed thought, where there is one. With tags that do not mark the solution (`think`) it
    is all that follows the thought. What comes after the first end tag is ignored.
    """
    _, closed_thought, after = text.partition(tags.thought_close.strip())
    if not tags.answer_open.strip():
        return after.strip() if closed_thought else None
    return between(after if closed_thought else text, tags.answer_open, tags.answer_close)


def between(text: str, opening: str, closing: str) -> str | None:
    """What stands between the first `opening` tag and the first `closing` tag after it, without the space around it.

    >>> between("<a> x </a> y </a>", "<a>", "</a>"), between("<a> x", "<a>", "</a>")
    ('x', None)
    """
    _, opened, rest = text.partition(opening.strip())
    section, closed, _ = rest.partition(closing.strip())
    return section.strip() if opened and closed else None


def _squeezed(text: str) -> str:
    return "".join(text.split())
