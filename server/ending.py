"""The last resort of a process that was asked to end: it ends, even where something in it hangs.

DBOS asks a database that it has lost again and again, in threads that nobody can break off and that Python would wait
for. Nothing is lost by ending without them: what this process held stays written down as held, and is taken over; an
engine that it started ends with it (engine/vllm_lifeline.py).
"""

import logging
import os
import threading
from typing import Final

CLOSING_SECONDS: Final = 25
"""How long giving work back and closing everything may take: some seconds, while database and engine answer."""

log = logging.getLogger(__name__)


def end_within(seconds: float) -> None:
    """Ends this process with status 1 in so many seconds, if it is still there then. Returns at once."""
    last = threading.Timer(seconds, _end, [seconds])
    last.daemon = True
    last.start()


def _end(seconds: float) -> None:
    log.error("not closed after %g s (does the database answer?); ended all the same, its work stays owed", seconds)
    logging.shutdown()
    os._exit(1)
