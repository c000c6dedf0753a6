r"""The reward of a response to a problem that rlt exported: 1.0 where it states the ground truth, else 0.0.

verl calls `compute_score` (`reward.custom_reward_function.path=compute_score.py`). What is graded is the last
`\boxed{...}`, else what follows the last `####`, of the part after the thought; a thought that never closes, or no
stated answer, is worth nothing. Equal is the same text, spaces aside, or the same value for math-verify. No deadline
runs here, since a reward manager calls from threads: an answer of more than 300 characters, or with a tower of powers,
is compared as text alone.
"""

import re
from typing import Any

LONGEST_ANSWER = 300
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_TOWER = re.compile(r"\^.{0,40}\^|\d{4,}\s*!|\^\s*\{?\s*\d{4,}", re.DOTALL)
THOUGHTS = (("<think>", "</think>"), ("<|begin_of_thought|>", "<|end_of_thought|>"))


def compute_score(
    data_source: str, solution_str: str, ground_truth: str, extra_info: dict[str, Any] | None = None, **_: Any
) -> float:
    r"""1.0 or 0.0.

    >>> compute_score("rlt", r"<think>Is it \boxed{3}?</think> It is \boxed{4.0}.", "4")
    1.0
    >>> compute_score("rlt", r"<think>It is \boxed{4}", "4"), compute_score("rlt", "#### 4", "4")
    (0.0, 1.0)
    """
    answer = stated_answer(after_thought(solution_str))
    return float(answer is not None and same(answer, str(ground_truth)))


def after_thought(text: str) -> str:
    """What follows the thought; nothing where it never closes."""
    for opening, closing in THOUGHTS:
        _, closed, after = text.rpartition(closing)
        if closed:
            return after
        if opening in text:
            return ""
    return text


def stated_answer(text: str) -> str | None:
    r"""What stands in the last box, else after the last ####.

    >>> stated_answer(r"\boxed{\frac{1}{2}}."), stated_answer("so 5\n#### 5\n"), stated_answer("5")
    ('\\frac{1}{2}', '5', None)
    """
    boxes = list(_BOX.finditer(text))
    if boxes:
        return _balanced(text, boxes[-1].end())
    _, marked, after = text.rpartition("####")
    return after.strip().partition("\n")[0].strip() or None if marked else None


def _balanced(text: str, start: int) -> str | None:
    depth = 1
    for place in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[start:place].strip()
    return None


def same(answer: str, truth: str) -> bool:
    """Whether two answers are the same text or the same value."""
    if "".join(answer.split()) == "".join(truth.split()):
        return True
    if max(len(answer), len(truth)) > LONGEST_ANSWER or _TOWER.search(answer):
        return False
    from math_verify import parse, verify

    try:
        gold, given = (parse(f"\\boxed{{{text}}}", parsing_timeout=None) for text in (truth, answer))
        return bool(verify(gold, given, timeout_seconds=None))
    except Exception:  # noqa: BLE001  (whatever a model's text makes the parsers raise, it is not the answer)
        return False
