"""The database: SQLite in the data folder, or PostgreSQL where RLT_DATABASE_URL names one; brought up to date at start.

SQLite runs with a write-ahead log, so readers never wait. Its writers do, for each other: a session that may write
takes the write lock as it begins (BEGIN IMMEDIATE), since one that reads first and writes later fails at once when
another wrote between. Within a process writers queue up on a lock of our own, as SQLite's own waiting (a sleep that
grows to 0.1 s) starves some of them. A commit is on the disk when it returns (synchronous = FULL).

SQLite is for one machine: its log does not work on a network drive. Workers on other machines need PostgreSQL.
"""

import asyncio
import fcntl
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import (
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.util.exc import CommandError
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from server.errors import DatabaseUnavailable, ServerError

URL_VARIABLE = "RLT_DATABASE_URL"
"""Environment variable that names the database; unset is SQLite in the data folder."""
FILE = "rlt.sqlite"
DBOS_FILE = "dbos.sqlite"
BUSY_SECONDS = 30
"""How long a writer of SQLite waits for the others."""
POSTGRES = {"connect_timeout": 10, "application_name": "rlt"}
"""How psycopg connects, where the URL's query does not say otherwise."""
IDLE_SECONDS = 30
"""After which PostgreSQL ends a session that does nothing in the middle of a transaction: its process is frozen, and
would hold a job's row against all others. On SQLite the others wait until it wakes or dies."""
HEALTH_SECONDS = 5
MIGRATION_LOCK = 7_264_701_955
"""The number of PostgreSQL's advisory lock under which one process at a time migrates; any number, but always this."""

_migrating = threading.Lock()


class Database:
    """Sessions on the one database of the service; made by `Database.open`."""

    def __init__(self, engine: AsyncEngine, shown: str) -> None:
        self._engine = engine
        self._shown = shown
        self._sqlite = engine.dialect.name == "sqlite"
        self._turn = asyncio.Lock()
        self._writers = async_sessionmaker(engine, expire_on_commit=False)
        reads = (
            {"rlt_reads": True} if self._sqlite else {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        )
        self._readers = async_sessionmaker(engine.execution_options(**reads), expire_on_commit=False)

    @classmethod
    async def open(cls, url: str | None, data: Path) -> "Database":
        """The database at `url` (SQLite in the folder `data` where it is None), its tables brought up to date.

        Any number of processes may open it at once; one of them migrates. Raises ServerError, which never shows a
        password, where it cannot be reached, does not let us in, or was made by a newer version.
        """
        address = parsed_url(url, data)
        await asyncio.to_thread(_bring_up_to_date, address)
        return cls(_engine(address), shown_url(address))

    @property
    def shown(self) -> str:
        """The address for people and logs, without its password."""
        return self._shown

    @property
    def engine(self) -> AsyncEngine:
        """SQLAlchemy's engine, for what a session cannot do."""
        return self._engine

    @property
    def dbos_url(self) -> str:
        """Where DBOS keeps its own tables: a second SQLite file beside ours, or its schema in the same PostgreSQL."""
        url = self._engine.url
        if self._sqlite:
            assert url.database is not None
            return f"sqlite:///{Path(url.database).with_name(DBOS_FILE)}"
        return url.set(drivername="postgresql").render_as_string(hide_password=False)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """A session that may write: commits as the block ends, rolls back where it raises or is cancelled.

        Keep the block short, and open no second one inside it: on SQLite it would wait for the first, for 30 seconds.
        Then DatabaseUnavailable is raised, as it is wherever the database does not answer.
        """
        async with self._my_turn(), self._failures_named(), self._writers.begin() as session:
            yield session

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """A session that only reads, the state in which it began, and waits for no writer. Writing in it fails."""
        async with self._failures_named(), self._readers() as session:
            yield session

    @asynccontextmanager
    async def _my_turn(self) -> AsyncIterator[None]:
        if not self._sqlite:
            yield
            return
        try:
            async with asyncio.timeout(BUSY_SECONDS):  # wait_for would keep the lock where it is cancelled just then
                await self._turn.acquire()
        except TimeoutError as error:
            raise DatabaseUnavailable(f"{self._shown}: busy for {BUSY_SECONDS} s; try again") from error
        try:
            yield
        finally:
            self._turn.release()

    @asynccontextmanager
    async def _failures_named(self) -> AsyncIterator[None]:
        try:
            yield
        except (OperationalError, InterfaceError, PoolTimeout) as error:
            raise DatabaseUnavailable(f"{self._shown}: {_first_line(error)}; the same may work later") from error

    async def health(self) -> None:
        """Returns where the database answers within 5 seconds; raises DatabaseUnavailable with the reason where not."""
        try:
            async with asyncio.timeout(HEALTH_SECONDS), self.reading() as session:
                await session.execute(text("SELECT version_num FROM alembic_version"))
        except TimeoutError as error:
            raise DatabaseUnavailable(f"{self._shown}: no answer within {HEALTH_SECONDS} s") from error
        except SQLAlchemyError as error:
            raise DatabaseUnavailable(f"{self._shown}: {_first_line(error)}") from error

    async def close(self) -> None:
        """Gives the connections back."""
        await self._engine.dispose()


def parsed_url(url: str | None, data: Path) -> URL:
    """The address with the driver that we use; raises ServerError for other databases.

    >>> parsed_url("postgres://rlt:secret@db/rlt", Path("data")).drivername
    'postgresql+psycopg'
    >>> parsed_url(None, Path("/data")).database
    '/data/rlt.sqlite'
    """
    if not url:
        return URL.create("sqlite+aiosqlite", database=str((data / FILE).absolute()))
    try:
        address = make_url(url)
    except (ArgumentError, ValueError):
        # Nothing of the error is shown, nor kept for a traceback: it may hold the password.
        raise ServerError(f"{URL_VARIABLE}: not a URL; give postgresql://USER:PASSWORD@HOST:5432/NAME") from None
    backend = address.drivername.partition("+")[0]
    if backend in ("postgresql", "postgres"):
        return address.set(drivername="postgresql+psycopg")
    if backend == "sqlite" and address.database not in (None, "", ":memory:"):
        return address.set(drivername="sqlite+aiosqlite", database=str(Path(address.database or "").absolute()))
    raise ServerError(f"{URL_VARIABLE}: {address.drivername!r} is not supported; give postgresql:// or sqlite:///FILE")


def shown_url(address: URL) -> str:
    """The address for people: no password, which may stand in the query too.

    >>> shown_url(parsed_url("postgres://rlt:secret@db/rlt?sslpassword=other", Path("data")))
    'postgresql://rlt:***@db/rlt'
    """
    if address.get_backend_name() == "sqlite":
        return str(address.database)
    return address.set(drivername="postgresql", query={}).render_as_string(hide_password=True)


def _engine(address: URL) -> AsyncEngine:
    if address.get_backend_name() == "sqlite":
        arguments = {"timeout": BUSY_SECONDS, "factory": SqliteConnection}
        engine = create_async_engine(address, connect_args=arguments, hide_parameters=True)
        _listen(engine.sync_engine)
        return engine
    engine = create_async_engine(
        address, pool_size=5, max_overflow=10, pool_pre_ping=True, connect_args=POSTGRES, hide_parameters=True
    )
    event.listen(engine.sync_engine, "connect", _limit_idling)
    return engine


class SqliteConnection(sqlite3.Connection):
    """A connection whose end is the end of its transaction.

    SQLAlchemy closes the connection of a session that is cancelled in the middle of a statement. SQLite keeps it, and
    the write lock with it, while a row that the statement found is still to be read by somebody.
    """

    def close(self) -> None:
        """Rolls back first; raises what sqlite3 does."""
        if self.in_transaction:
            self.rollback()
        super().close()


def _listen(engine: Engine) -> None:
    event.listen(engine, "connect", _prepare_connection)
    event.listen(engine, "begin", _begin)


def _limit_idling(connection: Any, _record: object) -> None:
    """By a statement, not as the connection is made: poolers in between refuse options that they do not know."""
    cursor = connection.cursor()
    cursor.execute(f"SET idle_in_transaction_session_timeout = '{IDLE_SECONDS}s'")
    cursor.close()
    connection.commit()


def _prepare_connection(connection: Any, _record: object) -> None:
    """Lets us, not Python's sqlite3, say when a transaction begins; the rest SQLite forgets between connections."""
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("foreign_keys = ON", "synchronous = FULL"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    reads = bool(connection.get_execution_options().get("rlt_reads"))
    connection.exec_driver_sql(f"PRAGMA query_only = {'ON' if reads else 'OFF'}")
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _bring_up_to_date(address: URL) -> None:
    """Applies the migrations that are missing, all or none of them, one process at a time."""
    arguments: dict[str, Any] = POSTGRES
    guard: AbstractContextManager[None] = nullcontext()
    if address.get_backend_name() == "sqlite":
        address, arguments = address.set(drivername="sqlite"), {"timeout": BUSY_SECONDS}
        guard = _sqlite_prepared(Path(address.database or ""))
    # Alembic keeps what it works on in globals, so one thread at a time too.
    with _migrating, guard:
        engine = create_engine(address, connect_args=arguments, hide_parameters=True)
        if engine.dialect.name == "sqlite":
            _listen(engine)
        try:
            with engine.begin() as connection:
                _migrate(connection)
        except (SQLAlchemyError, CommandError) as error:
            raise _cannot_open(shown_url(address), error) from error
        finally:
            engine.dispose()


@contextmanager
def _sqlite_prepared(file: Path) -> Iterator[None]:
    """Holds a lock beside the file while it is made and migrated: WAL cannot be switched on by two at once."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_name(file.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            connection = sqlite3.connect(file, timeout=BUSY_SECONDS)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.close()
        except sqlite3.Error as error:
            raise ServerError(
                f"{file}: {error}; give a database of `rlt serve` on a disk of this machine, or a new name"
            ) from error
        yield


def alembic_config() -> AlembicConfig:
    """Alembic's settings; it finds its migrations in this package, and its connection in `attributes`."""
    config = AlembicConfig()
    config.set_main_option("script_location", "server.state:migrations")
    return config


def _migrate(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": MIGRATION_LOCK})
    config = alembic_config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _cannot_open(shown: str, error: Exception) -> ServerError:
    """What a person can do about it; the driver's message names host and user, never the password."""
    if isinstance(error, CommandError):
        return ServerError(f"{shown}: was made by a newer version of rlt ({error}); update rlt")
    line = _first_line(error)
    lost = isinstance(error, OperationalError | InterfaceError)
    if not lost or "already exists" in line:  # which SQLite calls operational too
        return ServerError(f"{shown}: {line}; give a database that is rlt's alone and that it may change")
    return DatabaseUnavailable(f"{shown}: {line}; check {URL_VARIABLE} and that the database is running")


def _first_line(error: Exception) -> str:
    original = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return (str(original).strip() or type(original).__name__).splitlines()[0]
