"""`rlt worker`: works on a service's datasets and batches, in a process of its own, on this or another machine.

    SIGTERM or Ctrl-C     what it holds is handed to the others at once, the engine that it started is ended
    once more             at once
    something hangs       the process ends all the same, CLOSING_SECONDS later (ending.py)

It has no port: what there is to do stands in the database, and what it made goes to the storage.
"""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from server.configs import WorkerConfig
from server.ending import CLOSING_SECONDS, end_within
from server.errors import ServerError
from server.service import Parts, open_parts
from server.state.temporary import hold_temporary_files_in
from server.web.logs import set_up_logs

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def main(config: WorkerConfig) -> None:
    """Carries out `rlt worker`; returns after SIGTERM or Ctrl-C. Raises RltError where something must be mended."""
    if config.units == 0:
        raise ServerError("units: 0 leaves all work to other processes, and a worker does nothing else; give 1 or more")
    if config.engine == "none":
        raise ServerError(
            "engine 'none': datasets are explained by a teacher; leave --engine out, or give --engine-urls"
        )
    set_up_logs(config)
    hold_temporary_files_in(Path(config.data))
    asyncio.run(_work(config))


async def _work(config: WorkerConfig) -> None:
    with _ended_by_signals() as asked:
        try:
            async with open_parts(config) as parts:
                for line in ready_lines(parts):
                    print(line, flush=True)
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            if not asked:
                raise
    print("stopped", flush=True)


def ready_lines(parts: Parts) -> Iterator[str]:
    """What works here, with what, and for whom, for people."""
    if parts.teachers is not None:
        engine, model = parts.teachers.engine, parts.teachers.known(None)
        yield f"teacher   {model.name} ({model.folder}, weights {model.digest}) on {engine.name} {engine.version}"
    scores = "none: rows are not scored" if parts.student is None else f"{parts.student.name} ({parts.student.digest})"
    yield f"student   {scores}"
    yield f"working   as {parts.runtime.name!r}, {parts.config.units} units at a time"
    yield f"for       database {parts.database.shown}, storage {parts.storage.shown}"


@contextmanager
def _ended_by_signals() -> Iterator[list[signal.Signals]]:
    """Cancels this task at the first signal, which is then in the list; the second one has its usual effect."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    asked: list[signal.Signals] = []

    def end(number: signal.Signals) -> None:
        asked.append(number)
        end_within(CLOSING_SECONDS)
        remove()
        task.cancel()

    def remove() -> None:
        for number in SIGNALS:
            loop.remove_signal_handler(number)

    for number in SIGNALS:
        loop.add_signal_handler(number, end, number)
    try:
        yield asked
    finally:
        remove()
