r"""The side process in which math-verify compares a text with an answer, and the handle that the rest of us hold.

One line of JSON in, one character out. Each comparison has CPU_SECONDS of processor time (not wall time: a busy machine
must not change a grade) and MEMORY_BYTES; beyond them the kernel ends the process, in the middle of C code if need be,
and the next comparison starts another. Chosen over threads, which nothing can stop, and over a fork, which is not safe
under CUDA. Its end of the pipe closes when we end, however we end, and then so does it.
"""

import atexit
import json
import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from student.errors import ScoringError

CPU_SECONDS = 3.0
MEMORY_BYTES = 4 * 2**30

_DELIMITED = re.compile(r"\$|\\\(|\\\[|\\boxed")
_ORNAMENT = re.compile(r"(?<!\\)\\[,!$]|(?<![\w)])\*\*|\*\*(?![\w(])|[€£]")
_PERCENT = re.compile(r"\\?%")
_COMMAND = re.compile(r"\\text\{[^{}]*\}|\\[a-zA-Z]+")
_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:[ ,]\d{3})+|\d+)?(?:\.\d+)?\s*%?")


class Grader:
    """Compares texts with answers in a side process, started at the first comparison and shared by all threads."""

    def __init__(self) -> None:
        self._forget()
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def agrees(self, text: str, answer: str) -> bool:
        """True where math-verify finds `text` equal to `answer`; False too where it runs out of time or memory."""
        with self._lock:
            return self._ask(json.dumps([text, answer])) == "1"

    def _ask(self, line: str) -> str:
        process = self._process or self._start()
        reply = _exchange(process, line)
        if not reply:
            self._stop()
        return reply

    def _start(self) -> subprocess.Popen[str]:
        root = str(Path(__file__).parent.parent)
        path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH")) if part)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        atexit.register(self._stop)
        if not _exchange(self._process, json.dumps(["1", "1"])):
            self._stop()
            raise ScoringError("math-verify does not start (see above); reinstall rlt, or choose `exact` grading")
        return self._process

    def _stop(self) -> None:
        atexit.unregister(self._stop)
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            with suppress(BrokenPipeError):
                process.communicate()


def _exchange(process: subprocess.Popen[str], line: str) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(line + "\n")
        process.stdin.flush()
    except BrokenPipeError:
        return ""
    return process.stdout.readline().strip()


def as_math(text: str, *, prose: bool) -> str:
    r"""`text` in the form that math-verify reads: a formula stands between dollars, a plain number does not.

    Without the dollars it would take a number out of the formula ("2" out of `2\pi`); with them it would multiply the
    letters of a sentence. So with `prose`, a text that holds words is left as it is.

    >>> as_math(r"2\pi", prose=True), as_math("1,234", prose=True), as_math("It is 5", prose=True)
    ('$2\\pi$', '1,234', 'It is 5')
    """
    text = _ORNAMENT.sub("", text).strip()
    wordy = prose and re.search(r"[^\W\d_]{2,}", _COMMAND.sub("", text))
    if wordy or _DELIMITED.search(text) or _NUMBER.fullmatch(text):
        return text
    return f"${text}$"


def _compare(text: str, answer: str) -> bool:
    """Whether they are equal; a percent sign that only one of them has may be left out, as a unit may."""
    try:
        if _equal(text, answer):
            return True
        signs = [bool(_PERCENT.search(one)) for one in (text, answer)]
        return signs[0] != signs[1] and _equal(_PERCENT.sub("", text), _PERCENT.sub("", answer))
    # The boundary of one comparison: whatever a model's text makes the parsers raise, the text is not the answer.
    except Exception:  # noqa: BLE001
        return False


def _equal(text: str, answer: str) -> bool:
    from math_verify import parse, verify

    gold = parse(as_math(answer, prose=False), parsing_timeout=None)
    given = parse(as_math(text, prose=True), parsing_timeout=None)
    return bool(verify(gold, given, timeout_seconds=None))


def _limit_memory() -> None:
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


def _silence() -> None:
    """Points stdout and stderr at nothing: sympy warns about what it parses, and print() must not look like a reply."""
    with Path(os.devnull).open("w", encoding="utf-8") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)


def main() -> None:
    """Answers comparisons from stdin until it closes."""
    import math_verify  # noqa: F401  (before stderr is silenced, so that a broken installation shows)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    _silence()
    _limit_memory()
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        reply = "1" if _compare(*json.loads(line)) else "0"
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(reply, file=replies, flush=True)


if __name__ == "__main__":
    main()
