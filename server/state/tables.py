"""The database: keys, files, jobs and their units, workers, and which weights are served. Rows of datasets never.

Explanations live in Parquet shards (shards.py), whose paths stand here. Times are UTC, as Unix seconds; the columns
that other code may rely on are said in the attributes' strings. Changes go through migrations/, which a test holds
against this file.
"""

from typing import Any, Literal

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

JobKind = Literal["dataset", "batch"]
JobStatus = Literal["validating", "running", "finalizing", "completed", "failed", "cancelling", "cancelled", "expired"]
UnitStatus = Literal["running", "done", "failed"]
TERMINAL: tuple[JobStatus, ...] = ("completed", "failed", "cancelled", "expired")


class Base(DeclarativeBase):
    """What all tables share: ids are text, and 64-bit numbers where they can grow."""

    type_annotation_map = {str: String(64), int: BigInteger(), dict[str, Any]: JSON(), list[Any]: JSON()}  # noqa: RUF012


class ApiKey(Base):
    """An API key; the key itself is not here, only its HMAC."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    """`key_…`, which names it in lists and logs."""
    name: Mapped[str] = mapped_column(String(200))
    digest: Mapped[str] = mapped_column(unique=True)
    """HMAC-SHA256 of the key under the service's secret, hex."""
    scopes: Mapped[list[Any]]
    created_at: Mapped[int]
    revoked_at: Mapped[int | None]


class File(Base):
    """An uploaded file, or one that a batch left."""

    __tablename__ = "files"

    id: Mapped[str] = mapped_column(primary_key=True)
    """`file-…`; the bytes are in storage under `files/{id}`."""
    filename: Mapped[str] = mapped_column(String(500))
    purpose: Mapped[str]
    bytes: Mapped[int]
    sha256: Mapped[str]
    created_at: Mapped[int]
    expires_at: Mapped[int | None]


class Job(Base):
    """A dataset or a batch: what was asked for, how it stands, what its units summed up to."""

    __tablename__ = "jobs"
    __table_args__ = (Index("jobs_by_kind", "kind", "created_at", "id"), Index("jobs_by_status", "status"))

    id: Mapped[str] = mapped_column(primary_key=True)
    """`ds_…` or `batch_…`."""
    kind: Mapped[str]
    status: Mapped[str]
    spec: Mapped[dict[str, Any]]
    """The request as it was resolved (datasets.DatasetSpec, batches.BatchSpec)."""
    result: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """What only its kind knows: of a dataset how the source was read, of a batch its files."""
    error: Mapped[str | None] = mapped_column(Text)
    """Why it failed."""
    round: Mapped[int] = mapped_column(default=1)
    """1, and one more for every retry of its failed rows."""
    units: Mapped[int | None]
    """How many there are; None until its input was read."""
    items: Mapped[int | None]
    """Problems or lines, whole job."""
    created_at: Mapped[int]
    started_at: Mapped[int | None]
    finished_at: Mapped[int | None]
    cancelling_at: Mapped[int | None]
    expires_at: Mapped[int | None]


class Unit(Base):
    """Some tens of problems or lines of a job. There is a row once somebody has begun it."""

    __tablename__ = "units"
    __table_args__ = (Index("units_by_status", "job_id", "status"),)

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    round: Mapped[int]
    """The job's round in which it was worked on last."""
    status: Mapped[str]
    fence: Mapped[int]
    """Grows with every claim; only who holds the newest may commit, so a worker that wakes late writes nothing."""
    owner: Mapped[str] = mapped_column(String(200))
    claims: Mapped[int] = mapped_column(default=0)
    """Claims of this round that nobody gave back; a unit that takes down whoever works on it is failed by them."""
    failures: Mapped[int] = mapped_column(default=0)
    """Attempts of this round that raised; at three the unit is failed."""
    error: Mapped[str | None] = mapped_column(Text)
    shard: Mapped[str | None] = mapped_column(String(500))
    """Its rows, a path in storage; committed together with the counts below."""
    rows: Mapped[int] = mapped_column(default=0)
    failed: Mapped[int] = mapped_column(default=0)
    dropped: Mapped[int] = mapped_column(default=0)
    tokens: Mapped[int] = mapped_column(default=0)
    """Sampled tokens."""
    errors: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Failed rows by kind."""
    finished_at: Mapped[int | None]


class Worker(Base):
    """A process that works on units, and when it was last alive."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(String(200), primary_key=True)
    """Its name, stable over restarts: DBOS's executor id."""
    host: Mapped[str] = mapped_column(String(200))
    pid: Mapped[int]
    units: Mapped[int] = mapped_column(default=0)
    """Units that it works on at a time."""
    started_at: Mapped[int]
    heartbeat_at: Mapped[int]


class Weights(Base):
    """The weights behind a model name. `epoch` is odd while they are being exchanged.

    Whoever reads the same even epoch before and after generating knows that one set of weights wrote it all.
    """

    __tablename__ = "weights"

    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    adapter: Mapped[bool]
    folder: Mapped[str] = mapped_column(String(1000))
    digest: Mapped[str]
    epoch: Mapped[int] = mapped_column(default=0)


class Idempotency(Base):
    """An Idempotency-Key that was seen, and what came of it."""

    __tablename__ = "idempotency"

    key: Mapped[str] = mapped_column(String(300), primary_key=True)
    """Route, caller and key."""
    fingerprint: Mapped[str]
    """SHA-256 of the body."""
    resource: Mapped[str]
    """The id of what was made."""
    created_at: Mapped[int]
