"""The database on SQLite and PostgreSQL: migrations, sessions, and what a person is told where it cannot be reached."""

import asyncio
import random
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, create_engine, delete, func, inspect, make_url, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from server.errors import DatabaseUnavailable, ServerError
from server.state import database as database_module
from server.state.database import Database, alembic_config, parsed_url
from server.state.tables import Base, Job, Unit, Worker

ROOT = Path(__file__).parents[3]


@asynccontextmanager
async def opened(url: str | None, data: Path = Path("unused")) -> AsyncIterator[Database]:
    database = await Database.open(url, data)
    try:
        yield database
    finally:
        await database.close()


def worker(name: str) -> Worker:
    return Worker(id=name, host="here", pid=1, units=1, started_at=0, heartbeat_at=0)


async def count(database: Database) -> int:
    async with database.reading() as session:
        return int(await session.scalar(select(func.count()).select_from(Worker)) or 0)


async def add_and_fail(database: Database) -> None:
    async with database.session() as session:
        session.add(worker("undone"))
        await session.flush()
        raise ZeroDivisionError


async def write_while_reading(database: Database) -> None:
    async with database.reading() as session:
        session.add(worker("a"))
        await session.commit()


def sync_engine_of(url: str) -> Engine:
    return create_engine(make_url(url).set(drivername="sqlite" if url.startswith("sqlite") else "postgresql+psycopg"))


def test_migrations_make_the_tables_of_the_code(database_url: str) -> None:
    async def run() -> None:
        async with opened(database_url) as database:
            await database.health()

    asyncio.run(run())
    engine = sync_engine_of(database_url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
        assert set(inspect(connection).get_table_names()) == {*Base.metadata.tables, "alembic_version"}
    engine.dispose()


def test_a_column_that_no_migration_makes_is_noticed(database_url: str) -> None:
    asyncio.run(Database.open(database_url, Path("unused")))
    engine = sync_engine_of(database_url)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE workers DROP COLUMN pid"))
        assert "pid" in str(compare_metadata(MigrationContext.configure(connection), Base.metadata))
    engine.dispose()


def test_migrations_can_be_undone_and_done_again(database_url: str) -> None:
    asyncio.run(Database.open(database_url, Path("unused")))
    engine = sync_engine_of(database_url)
    config = alembic_config()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    assert inspect(engine).get_table_names() == ["alembic_version"]
    engine.dispose()

    async def run() -> int:
        async with opened(database_url) as database:
            return await count(database)

    assert asyncio.run(run()) == 0


def test_processes_that_open_a_new_database_at_once_all_find_it_whole(database_url: str) -> None:
    code = (
        "import asyncio, sys; from pathlib import Path; from server.state.database import Database\n"
        "async def run():\n"
        "    database = await Database.open(sys.argv[1], Path('unused'))\n"
        "    await database.health(); await database.close()\n"
        "print('ready', flush=True); sys.stdin.readline(); asyncio.run(run())"
    )
    command_line = [sys.executable, "-c", code, database_url]
    processes = [
        subprocess.Popen(command_line, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.communicate()[1] or process.returncode for process in processes] == [0, 0, 0]


def test_two_in_one_process_open_a_new_database_at_once(database_url: str) -> None:
    async def run() -> list[int]:
        databases = await asyncio.gather(*(Database.open(database_url, Path("unused")) for _ in range(3)))
        rows = [await count(database) for database in databases]
        for database in databases:
            await database.close()
        return rows

    assert asyncio.run(run()) == [0, 0, 0]


def test_a_session_commits_as_it_ends_and_rolls_back_where_it_raises(database_url: str) -> None:
    async def run() -> None:
        async with opened(database_url) as database:
            async with database.session() as session:
                session.add(worker("kept"))
            with pytest.raises(ZeroDivisionError):
                await add_and_fail(database)
            assert await count(database) == 1

    asyncio.run(run())


def test_what_is_committed_is_there_after_opening_again(database_url: str) -> None:
    async def run() -> None:
        async with opened(database_url) as database, database.session() as session:
            session.add(worker("a"))
        async with opened(database_url) as database:
            assert await count(database) == 1

    asyncio.run(run())


def test_units_go_with_their_job_and_cannot_be_without_one(database_url: str) -> None:
    unit = {"number": 0, "round": 1, "status": "done", "fence": 1, "owner": "a"}

    async def run() -> None:
        async with opened(database_url) as database:
            async with database.session() as session:
                session.add(Job(id="ds_1", kind="dataset", status="running", spec={}, created_at=0))
                session.add(Unit(job_id="ds_1", **unit))
            with pytest.raises(IntegrityError):
                async with database.session() as session:
                    session.add(Unit(job_id="ds_2", **unit))
            async with database.session() as session:
                await session.execute(delete(Job))
            async with database.reading() as session:
                assert (await session.scalars(select(Unit))).all() == []

    asyncio.run(run())


def test_a_reader_waits_for_no_writer_and_sees_one_state(database_url: str) -> None:
    async def run() -> None:
        async with opened(database_url) as database, database.reading() as reader:
            before = await reader.scalar(select(func.count()).select_from(Worker))
            async with database.session() as session:
                session.add(worker("a"))
                await session.flush()
                assert await count(database) == 0  # the writer is not done yet
            assert await count(database) == 1
            assert await reader.scalar(select(func.count()).select_from(Worker)) == before == 0

    asyncio.run(run())


def test_nothing_can_be_written_while_reading(database_url: str) -> None:
    async def run() -> None:
        async with opened(database_url) as database:
            for _ in range(3):
                with pytest.raises((DatabaseUnavailable, DBAPIError), match=r"read-?only"):
                    await write_while_reading(database)
            async with database.session() as session:  # on the same connection, which writes again
                session.add(worker("a"))
            assert await count(database) == 1

    asyncio.run(run())


def test_writers_of_one_sqlite_file_lose_no_update_to_each_other(tmp_path: Path) -> None:
    async def add_one(database: Database) -> None:
        async with database.session() as session:
            found = await session.get_one(Worker, "a")
            await asyncio.sleep(0)  # others run between reading and writing
            found.units += 1

    async def run() -> None:
        # Two of them, as two processes would: their locks do not know of each other.
        async with opened(None, tmp_path) as one, opened(None, tmp_path) as other:
            async with one.session() as session:
                session.add(worker("a"))
            await asyncio.gather(*(add_one(database) for database in (one, other) for _ in range(30)))
            async with one.reading() as session:
                assert (await session.get_one(Worker, "a")).units == 61

    asyncio.run(run())


def test_cancelled_sessions_leave_neither_a_lock_nor_half_a_change(database_url: str) -> None:
    async def add_pair(database: Database, number: int) -> None:
        async with database.session() as session:
            session.add(worker(f"a{number}"))
            await session.flush()
            session.add(worker(f"b{number}"))

    async def run() -> None:
        chance = random.Random(0)
        async with opened(database_url) as database:
            for attempt in range(60):
                tasks = [asyncio.create_task(add_pair(database, 4 * attempt + task)) for task in range(4)]
                await asyncio.sleep(chance.random() * 0.01)
                for task in tasks[: chance.randrange(5)]:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            async with database.reading() as session:
                names = set(await session.scalars(select(Worker.id)))
            pairs = {name[1:] for name in names}
            assert names == {f"{letter}{pair}" for letter in "ab" for pair in pairs}
            assert 0 < len(pairs) < 240
            # More than the pool holds, so a connection that was not given back would be missed.
            await asyncio.gather(*(add_pair(database, 1000 + number) for number in range(30)))

    asyncio.run(run())


def test_a_session_that_is_cancelled_in_a_statement_holds_no_lock(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite would keep it for the row that was found meanwhile and that nobody reads."""
    up = "WITH RECURSIVE up(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM up WHERE x < 1000000)"

    async def add_and_count(database: Database) -> None:
        async with database.session() as session:
            session.add(worker("undone"))
            await session.flush()
            await session.execute(text(f"{up} SELECT count(*) FROM up"))

    async def run() -> None:
        async with opened(database_url) as database:
            task = asyncio.create_task(add_and_count(database))
            await asyncio.sleep(0.1)
            task.cancel()
            errors = await asyncio.gather(task, return_exceptions=True)
            assert isinstance(errors[0], asyncio.CancelledError), "the statement was over before it was cancelled"
            async with database.session() as session:
                session.add(worker("a"))
            assert await count(database) == 1

    monkeypatch.setattr(database_module, "BUSY_SECONDS", 2)
    asyncio.run(run())


def test_a_session_inside_another_is_refused_on_sqlite_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with opened(None, tmp_path) as database:
            monkeypatch.setattr(database_module, "BUSY_SECONDS", 0.1)
            async with database.session():
                with pytest.raises(DatabaseUnavailable, match=r"rlt\.sqlite: busy for 0\.1 s"):
                    async with database.session():
                        pass
            async with database.session() as session:
                session.add(worker("a"))

    asyncio.run(run())


def test_a_connection_that_the_server_cut_is_replaced(postgres_database_url: str) -> None:
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'rlt'"

    async def run() -> None:
        async with opened(postgres_database_url) as database:
            assert await count(database) == 0
            with psycopg.connect(postgres_database_url, autocommit=True) as server:
                assert server.execute(cut).rowcount > 0
            assert await count(database) == 0

    asyncio.run(run())


def test_who_freezes_in_a_transaction_does_not_hold_its_rows_for_ever(postgres_database_url: str) -> None:
    async def run() -> None:
        async with opened(postgres_database_url) as database:
            for _ in range(2):  # also when the pool gives the connection out again
                async with database.session() as session:
                    assert await session.scalar(text("SHOW idle_in_transaction_session_timeout")) == "30s"
                    await session.rollback()

    asyncio.run(run())


def test_a_database_that_is_gone_is_told_apart_from_a_mistake_of_ours(
    postgres_url: str, postgres_database_url: str
) -> None:
    name = make_url(postgres_database_url).database

    async def run() -> None:
        async with opened(postgres_database_url) as database:
            with psycopg.connect(postgres_url, autocommit=True) as server:
                server.execute(f"DROP DATABASE {name} WITH (FORCE)")
                server.execute(f"CREATE DATABASE {name}")  # without our tables
                with pytest.raises(DatabaseUnavailable, match="alembic_version"):
                    await database.health()
                server.execute(f"DROP DATABASE {name} WITH (FORCE)")
                for attempt in (database.health, lambda: count(database)):
                    with pytest.raises(DatabaseUnavailable, match=f'database "{name}" does not exist'):
                        await attempt()
                server.execute(f"CREATE DATABASE {name}")

    asyncio.run(run())


def test_a_wrong_password_is_said_and_shown_nowhere(postgres_url: str) -> None:
    url = make_url(postgres_url).set(password="hunter2").render_as_string(hide_password=False)
    with pytest.raises(DatabaseUnavailable, match="password authentication failed for user") as caught:
        asyncio.run(Database.open(url, Path("unused")))
    assert "hunter2" not in str(caught.value)
    assert "RLT_DATABASE_URL" in str(caught.value)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgres://rlt:hunter2@127.0.0.1:1/rlt", "Connection refused; check RLT_DATABASE_URL"),
        ("mysql://rlt:hunter2@localhost/rlt", "'mysql' is not supported; give postgresql:// or sqlite:///FILE"),
        ("sqlite://", "'sqlite' is not supported; give postgresql:// or sqlite:///FILE"),
        ("rlt:hunter2@localhost", "not a URL; give postgresql://USER:PASSWORD@HOST:5432/NAME"),
        ("postgresql://rlt@localhost:hunter2/rlt", "not a URL"),
    ],
)
def test_an_address_that_leads_nowhere_is_refused_with_the_remedy(url: str, told: str) -> None:
    with pytest.raises(ServerError) as caught:
        asyncio.run(Database.open(url, Path("unused")))
    assert told in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["postgres://u:p@h:5/db", "postgresql://u:p@h:5/db", "postgresql+psycopg://u:p@h:5/db"])
def test_the_usual_spellings_of_postgresql_are_one(url: str) -> None:
    assert parsed_url(url, Path("unused")).render_as_string(hide_password=False) == "postgresql+psycopg://u:p@h:5/db"


def test_a_database_of_a_newer_version_is_left_alone(database_url: str) -> None:
    asyncio.run(Database.open(database_url, Path("unused")))
    engine = sync_engine_of(database_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ServerError, match=r"made by a newer version of rlt .*9999.*update rlt"):
        asyncio.run(Database.open(database_url, Path("unused")))
    engine.dispose()


def test_a_database_of_something_else_is_refused_and_left_as_it_was(database_url: str) -> None:
    engine = sync_engine_of(database_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE jobs (title TEXT)"))
    with pytest.raises(ServerError, match="already exists; give a database that is rlt's alone"):
        asyncio.run(Database.open(database_url, Path("unused")))
    assert inspect(engine).get_table_names() == ["jobs"]  # a migration that fails half-way is undone
    engine.dispose()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rlt.sqlite").write_bytes(b"not a database, but long enough to be taken for one" * 40)
    with pytest.raises(ServerError, match=r"rlt\.sqlite: file is not a database"):
        asyncio.run(Database.open(None, tmp_path))


def test_a_sqlite_commit_is_on_the_disk_and_its_log_lets_readers_in(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(None, tmp_path) as database, database.session() as session:
            settings = {name: await session.scalar(text(f"PRAGMA {name}")) for name in ("journal_mode", "synchronous")}
            assert settings == {"journal_mode": "wal", "synchronous": 2}

    asyncio.run(run())
    with sqlite3.connect(tmp_path / "rlt.sqlite") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_dbos_gets_a_file_of_its_own_beside_ours_and_a_schema_in_postgresql(
    tmp_path: Path, postgres_database_url: str
) -> None:
    async def dbos_url(url: str | None) -> str:
        async with opened(url, tmp_path) as database:
            return database.dbos_url

    assert asyncio.run(dbos_url(None)) == f"sqlite:///{tmp_path}/dbos.sqlite"
    assert make_url(asyncio.run(dbos_url(postgres_database_url))) == make_url(postgres_database_url)
