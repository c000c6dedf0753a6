"""A kind of job that counts: each row says which item it is and who wrote it. Run as a program it is a worker.

    python counting_kind.py FOLDER NAME UNITS [SETTING=VALUE ...]

The spec of its jobs: `units`, `items` (of each unit), `seconds` (each takes), and how it misbehaves: `raises` and
`kills` (numbers of units), `failing` (items that fail in the first round), `reject` and `unavailable_until` (a file).
"""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from server.configs import JobSettings
from server.errors import EngineUnavailable
from server.jobs.jobs import JobRejected, Prepared, UnitOutcome, job_folder
from server.jobs.runtime import Runtime
from server.state.database import Database
from server.state.storage import Storage
from server.state.tables import Job, Unit


class CountingKind:
    """Rows of numbers, in real shards."""

    name = "dataset"

    def __init__(self, storage: Storage, worker: str) -> None:
        self._storage = storage
        self._worker = worker

    async def prepare(self, job: Job) -> Prepared:
        if job.spec.get("reject"):
            raise JobRejected("line 3 is no problem", {"bad": 3})
        if "unavailable_until" in job.spec and not Path(job.spec["unavailable_until"]).exists():
            raise EngineUnavailable("not yet")
        return Prepared(job.spec["units"], job.spec["units"] * job.spec["items"], {"intake": "read"})

    async def run_unit(self, job: Job, number: int, previous: Unit | None, shard_path: str) -> UnitOutcome:
        if number in job.spec.get("raises", ()):
            raise RuntimeError(f"unit {number} never works")
        if number in job.spec.get("kills", ()):
            os.kill(os.getpid(), signal.SIGKILL)
        kept = {} if previous is None or previous.shard is None else await self._rows(previous.shard)
        rows = []
        for item in range(job.spec["items"]):
            if item in kept and not kept[item]["failed"]:
                rows.append(kept[item])
                continue
            await asyncio.sleep(job.spec["seconds"])
            failed = job.round == 1 and item in job.spec.get("failing", ())
            rows.append({"unit": number, "item": item, "worker": self._worker, "failed": failed, "round": job.round})
        table = pa.Table.from_pylist(rows)
        await self._storage.write_whole(shard_path, lambda file: pq.write_table(table, file))
        bad = sum(row["failed"] for row in rows)
        return UnitOutcome(len(rows), bad, 0, 10 * len(rows), {"odd": bad} if bad else {})

    async def _rows(self, shard: str) -> dict[int, dict[str, Any]]:
        file = await self._storage.seekable(shard)
        return {row["item"]: row for row in pq.read_table(file).to_pylist()}

    def unit_rows(self, job: Job, number: int) -> int:
        return int(job.spec["items"])

    async def finish(self, job: Job, cancelled: bool) -> dict[str, Any]:
        def write(file: BinaryIO) -> None:
            file.write(b"cancelled" if cancelled else b"completed")

        await self._storage.write_whole(f"{job_folder(job.id)}/finished-{job.round}", write)
        return job.result | {"cancelled": cancelled}


async def run(folder: Path, url: str | None, settings: JobSettings) -> None:
    """A worker, until SIGTERM."""
    database, storage = await Database.open(url, folder), await Storage.open(None, folder)
    kind = CountingKind(storage, settings.name or "")
    runtime = Runtime(database, {kind.name: kind}, settings, storage=storage, engine_wait_seconds=5)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await runtime.start()
    print("ready", flush=True)
    await stopped.wait()
    await runtime.stop()
    await database.close()


if __name__ == "__main__":
    folder, name, units, *rest = sys.argv[1:]
    others = dict(setting.split("=") for setting in rest)
    settings = JobSettings(name=name, units=int(units), **others)  # type: ignore[arg-type]
    asyncio.run(run(Path(folder), os.environ.get("RLT_DATABASE_URL"), settings))
