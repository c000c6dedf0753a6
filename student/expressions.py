"""What an arithmetic expression comes to, in exact fractions, and whether it solves a countdown problem.

What is right is told by the problem's own solution alone: an expression of the same numbers, each as often, with the
same value. Nothing is executed: an expression is parsed and only whole numbers under + - * / are worked out.
"""

import ast
import operator
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

TEXT_LIMIT = 500
"""Characters of an expression that is read; the longest of ours has some forty."""
_OPERATIONS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_SIGNS = {"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", r"\times": "*", r"\cdot": "*", r"\div": "/"}
_EXPRESSION = re.compile(r"[\d\s()+*/-]+")


@dataclass(frozen=True)
class Worked:
    """An expression worked out."""

    value: Fraction
    numbers: Counter[int]
    """Each number that stands in it, as often as it does."""


def worked(expression: str) -> Worked | None:
    """What an expression comes to; None where it is none, or divides by zero.

    >>> worked("(7 - 3) / 7")
    Worked(value=Fraction(4, 7), numbers=Counter({7: 2, 3: 1}))
    >>> worked("7 ** 3"), worked("7 / (3 - 3)"), worked("seven")
    (None, None, None)
    """
    if len(expression) > TEXT_LIMIT or not _EXPRESSION.fullmatch(expression):
        return None
    try:
        tree = ast.parse(expression.strip(), mode="eval").body
        return Worked(_value(tree), Counter(_numbers(tree)))
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError):
        return None


def _value(node: ast.expr) -> Fraction:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return Fraction(node.value)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        return _OPERATIONS[type(node.op)](_value(node.left), _value(node.right))
    raise ValueError("neither a whole number nor one of the four operations")


def _numbers(tree: ast.expr) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant):
            yield int(str(node.value))


def solves(text: str, solution: str) -> bool:
    """Whether `text` states an expression of the solution's numbers, each once, that has the solution's value.

    Its last line that holds one counts, without what stands behind an equals sign.

    >>> solves("So it is: 3 * 7 + 25 = 46", "25 + 7 * 3"), solves("46", "25 + 7 * 3"), solves("25+25-4", "25 + 7 * 3")
    (True, False, False)
    """
    asked, given = worked(solution), _stated(text)
    return asked is not None and given is not None and given == asked


def _stated(text: str) -> Worked | None:
    for sign, plain in _SIGNS.items():
        text = text.replace(sign, plain)
    for line in reversed(text[-10 * TEXT_LIMIT :].splitlines()):
        pieces = (piece.strip().rstrip(".") for piece in re.split(r"[:=$]", line))
        found = [made for piece in pieces if (made := worked(piece)) is not None]
        if found:
            return max(found, key=lambda each: each.numbers.total())
    return None
