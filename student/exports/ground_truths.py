r"""What an RL trainer's scorer compares a response with: the answer of each problem, known to be parsed.

    answer    the column `answer`, else what the solution states (last \boxed{}, else what follows ####)
    parsed    math-verify finds the answer in \boxed{answer} again; TRL, open-r1, NeMo-RL and verifiers ask it, and a
              truth that it cannot read gives no reward at all there (GC-19)

A plain number needs no asking. Left out: answers that are proofs or sentences; RL needs something to compare.
"""

import re
from functools import lru_cache

import pyarrow as pa

from student.exports.arrow_text import column
from student.grading import grade, stated_answer

NO_ANSWER = "no answer (in a column, in a box, or after ####)"
UNPARSED = "an answer that math-verify does not recognise in a box"
_NUMBER = re.compile(r"-?\d{1,12}(\.\d{1,6})?")


def answers_of(lessons: pa.Table) -> list[str | None]:
    """The answer of each lesson; None where there is none."""
    given, solutions = column(lessons, "answer").to_pylist(), column(lessons, "solution").to_pylist()
    return [
        (answer or "").strip() or stated_answer(solution) for answer, solution in zip(given, solutions, strict=True)
    ]


@lru_cache(maxsize=2**16)
def is_parsed(answer: str) -> bool:
    r"""Whether a scorer that asks math-verify finds `answer` in a box.

    >>> is_parsed("72"), is_parsed(r"\frac{1}{2}"), is_parsed("{")
    (True, True, False)
    """
    return bool(_NUMBER.fullmatch(answer)) or grade(f"\\boxed{{{answer}}}", answer)


def why_not(answer: str | None) -> str | None:
    """Why an answer is no ground truth; None where it is one."""
    if not answer:
        return NO_ANSWER
    return None if is_parsed(answer) else UNPARSED
