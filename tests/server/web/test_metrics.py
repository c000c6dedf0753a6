"""What the figures say of jobs, units, rows and workers, out of the database."""

import asyncio
import time
from pathlib import Path

from server.state.database import Database
from server.state.tables import Job, Unit, Worker
from server.web.gate import Gate
from server.web.metrics import Metrics


def job(name: str, status: str) -> Job:
    return Job(id=name, kind="dataset", status=status, spec={}, result={}, round=1, created_at=1)


def unit(name: str, number: int, status: str, rows: int, failed: int, dropped: int) -> Unit:
    return Unit(
        job_id=name,
        number=number,
        round=1,
        status=status,
        fence=1,
        owner="w",
        rows=rows,
        failed=failed,
        dropped=dropped,
        tokens=10 * rows,
        errors={},
    )


def worker(name: str, seconds_ago: int) -> Worker:
    now = int(time.time())
    return Worker(id=name, host="h", pid=1, started_at=now, heartbeat_at=now - seconds_ago)


def test_unfinished_jobs_are_summed_up_and_finished_ones_only_counted(tmp_path: Path) -> None:
    async def text() -> str:
        database = await Database.open(None, tmp_path)
        async with database.session() as session:
            session.add_all([job("ds_1", "running"), job("ds_2", "completed"), job("ds_3", "running")])
            await session.flush()
            session.add_all([
                unit("ds_1", 0, "done", rows=10, failed=1, dropped=2),
                unit("ds_1", 1, "running", rows=0, failed=0, dropped=0),
                unit("ds_3", 0, "done", rows=5, failed=0, dropped=0),
                unit("ds_2", 0, "done", rows=1000, failed=0, dropped=0),
                worker("alive", 3),
                worker("gone", 300),
            ])  # fmt: skip
        found = await Metrics(Gate(1, 1)).text(database, takeover_seconds=30)
        await database.close()
        return found.decode()

    lines = asyncio.run(text()).splitlines()
    assert 'rlt_jobs{kind="dataset",status="running"} 2.0' in lines
    assert 'rlt_jobs{kind="dataset",status="completed"} 1.0' in lines
    assert 'rlt_units{status="done"} 2.0' in lines
    assert 'rlt_units{status="running"} 1.0' in lines
    assert 'rlt_rows{outcome="ok"} 12.0' in lines  # 10 - 1 - 2 of ds_1 and 5 of ds_3
    assert 'rlt_rows{outcome="failed"} 1.0' in lines
    assert 'rlt_rows{outcome="dropped"} 2.0' in lines
    assert "rlt_job_tokens 150.0" in lines
    assert 'rlt_workers{alive="yes"} 1.0' in lines
    assert 'rlt_workers{alive="no"} 1.0' in lines
