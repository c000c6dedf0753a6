"""What Prometheus reads at /metrics: requests, what is made now and was made, jobs, and whether the engine answers.

Text of nobody's is in it, only numbers; still, once there are keys it takes one with the scope `admin`, since it shows
how much everybody uses the service. What the database knows is read at most every few seconds.
"""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from sqlalchemy import func, select

from server.state.database import Database
from server.state.tables import TERMINAL, Job, Unit, Worker
from server.web.gate import Gate

SECONDS = (0.005, 0.02, 0.1, 0.5, 2, 10, 60, 300)
"""Bounds of the histogram of requests: from a list of models to a long explanation."""
READ_SECONDS = 5.0
"""How old the figures from the database may be: reading them sums over the units of all unfinished jobs."""


class Metrics:
    """The counters of one service; each has its own registry, so that several can live in one process."""

    def __init__(self, gate: Gate) -> None:
        self.registry = registry = CollectorRegistry()
        self._requests = Histogram(
            "rlt_request_seconds",
            "Requests by route, until the last byte",
            ["method", "route", "status"],
            buckets=SECONDS,
            registry=registry,
        )
        self.explanations = Counter("rlt_explanations", "Explanations that were made", registry=registry)
        self.tokens = Counter("rlt_generated_tokens", "Tokens of those explanations", registry=registry)
        self.scores = Counter("rlt_scores", "Explanations that were scored", registry=registry)
        self.left = Counter("rlt_callers_gone", "Requests whose caller left before the answer", registry=registry)
        self.faults = Counter("rlt_unexpected_errors", "Requests that failed by a fault of ours", registry=registry)
        running = Gauge("rlt_running", "Explanations and scores that are being made", registry=registry)
        running.set_function(lambda: gate.running)
        waiting = Gauge("rlt_waiting", "Requests that wait for a place", registry=registry)
        waiting.set_function(lambda: gate.waiting)
        self.engine_up = Gauge("rlt_engine_up", "1 where the engine answers", registry=registry)
        self._jobs = Gauge("rlt_jobs", "Datasets and batches by status", ["kind", "status"], registry=registry)
        self._units = Gauge("rlt_units", "Units of unfinished jobs by status", ["status"], registry=registry)
        self._rows = Gauge("rlt_rows", "Rows of unfinished jobs by outcome", ["outcome"], registry=registry)
        self._job_tokens = Gauge("rlt_job_tokens", "Tokens sampled for unfinished jobs", registry=registry)
        self._workers = Gauge("rlt_workers", "Workers by whether they are alive", ["alive"], registry=registry)
        self._read_at = -READ_SECONDS

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Counts a request that was answered."""
        self._requests.labels(method, route, status).observe(seconds)

    async def text(self, database: Database, takeover_seconds: float) -> bytes:
        """Everything, as Prometheus reads it."""
        if time.monotonic() - self._read_at >= READ_SECONDS:
            self._read_at = time.monotonic()
            await self._read(database, takeover_seconds)
        return generate_latest(self.registry)

    async def _read(self, database: Database, takeover_seconds: float) -> None:
        unfinished = select(Job.id).where(Job.status.not_in(TERMINAL))
        sums = (func.count(), *(func.sum(part) for part in (Unit.rows, Unit.failed, Unit.dropped, Unit.tokens)))
        units = select(Unit.status, *sums).where(Unit.job_id.in_(unfinished)).group_by(Unit.status)
        async with database.reading() as session:
            jobs = (
                await session.execute(select(Job.kind, Job.status, func.count()).group_by(Job.kind, Job.status))
            ).all()
            totals = (await session.execute(units)).all()
            beats = (await session.scalars(select(Worker.heartbeat_at))).all()
        self._jobs.clear()
        for kind, status, count in jobs:
            self._jobs.labels(kind, status).set(count)
        self._units.clear()
        for status, count, *_ in totals:
            self._units.labels(status).set(count)
        rows, failed, dropped, tokens = (sum(int(row[place] or 0) for row in totals) for place in (2, 3, 4, 5))
        for outcome, count in {"ok": rows - failed - dropped, "failed": failed, "dropped": dropped}.items():
            self._rows.labels(outcome).set(count)
        self._job_tokens.set(tokens)
        alive = sum(time.time() - beat < takeover_seconds for beat in beats)
        self._workers.labels("yes").set(alive)
        self._workers.labels("no").set(len(beats) - alive)
