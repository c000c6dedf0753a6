"""API keys: shown once, found fast, revoked within seconds everywhere; `rlt keys` from the command line."""

import asyncio
import os
import re
import stat
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Barrier

import pytest
from sqlalchemy import event

from server.errors import NotFound, ServerError
from server.state import keys as keys_module
from server.state.database import Database
from server.state.ids import new_id
from server.state.keys import SECRET_FILE, Keys, read_secret
from student import cli


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RLT_KEY_SECRET", "RLT_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)


@asynccontextmanager
async def opened(data: Path, url: str | None = None) -> AsyncIterator[Keys]:
    database = await Database.open(url, data)
    try:
        yield await Keys.open(database, data)
    finally:
        await database.close()


def test_a_new_key_opens_what_its_scopes_say_and_nothing_else_does(database_url: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path, database_url) as keys:
            key, text = await keys.create("laptop", ["explain", "admin", "explain"])
            assert re.fullmatch(r"rlt_[\w-]{43}", text)
            assert (key.name, key.scopes, key.revoked_at) == ("laptop", ("explain", "admin"), None)
            assert await keys.find(text) == key
            other, _ = await keys.create("other", ["explain"])
            assert [known.id for known in await keys.all()] == [key.id, other.id]
            for wrong in ("", "rlt_", text[:-1], text + "a", text.swapcase(), text.encode().hex(), "é\ud800", key.id):
                assert await keys.find(wrong) is None

    asyncio.run(run())


def test_the_key_itself_is_nowhere_on_the_disk(tmp_path: Path) -> None:
    async def run() -> str:
        async with opened(tmp_path) as keys:
            return (await keys.create("laptop", ["explain"]))[1]

    text = asyncio.run(run())
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 2
    assert not [path for path in files if text.encode() in path.read_bytes()]


def test_a_key_made_by_another_process_works_at_once(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path) as service, opened(tmp_path) as shell:
            assert await service.find("rlt_wrong") is None
            key, text = await shell.create("laptop", ["explain"])
            assert await service.find(text) == key

    asyncio.run(run())


def test_a_revoked_key_is_refused_at_once_here_and_elsewhere_when_the_table_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with opened(tmp_path) as service, opened(tmp_path) as shell:
            key, text = await shell.create("laptop", ["explain"])
            assert await service.find(text) == await shell.find(text) == key
            revoked = await shell.revoke(key.id)
            assert revoked.revoked_at is not None
            assert await shell.find(text) is None
            monkeypatch.setattr(keys_module, "CACHE_SECONDS", 0)  # as if so much time had passed
            assert await service.find(text) is None
            assert (await shell.revoke(key.id)).revoked_at == revoked.revoked_at
            for wrong in ("key_0", "laptop", "\0", "\ud800", new_id("key_")):
                with pytest.raises(NotFound, match="there is none; `rlt keys list` shows the ids"):
                    await shell.revoke(wrong)

    assert keys_module.CACHE_SECONDS < 5
    asyncio.run(run())


def test_a_service_that_ever_had_a_key_does_not_open_to_everybody_again(tmp_path: Path) -> None:
    async def run() -> list[bool]:
        async with opened(tmp_path) as keys:
            answers = [await keys.any()]
            key, text = await keys.create("laptop", ["explain"])
            await keys.find(text)
            answers.append(await keys.any())
            await keys.revoke(key.id)
            return [*answers, await keys.any()]

    assert asyncio.run(run()) == [False, True, True]


def test_requests_cost_no_query_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys_module, "CACHE_SECONDS", 3600)
    queries = []

    async def run() -> None:
        database = await Database.open(None, tmp_path)
        keys = await Keys.open(database, tmp_path)
        event.listen(database.engine.sync_engine, "before_cursor_execute", lambda *query: queries.append(query[2]))
        _, text = await keys.create("laptop", ["explain"])
        assert await keys.find(text) is not None
        queries.clear()
        for _ in range(100):
            assert await keys.find(text) is not None
            assert await keys.any()
        assert queries == []
        assert await asyncio.gather(*(keys.find(f"rlt_{number}") for number in range(100))) == [None] * 100
        assert len([query for query in queries if "SELECT" in query]) <= 2
        await database.close()

    asyncio.run(run())


@pytest.mark.parametrize("name", ["", "a\nb", "a\x1b[31m", "n" * 201])
def test_a_name_that_would_garble_a_list_is_refused(name: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path) as keys:
            with pytest.raises(ServerError, match="a name is 1 to 200 characters, all printable"):
                await keys.create(name, ["explain"])

    asyncio.run(run())


def test_processes_that_start_at_once_agree_on_one_secret_that_only_its_owner_reads(tmp_path: Path) -> None:
    at_once = Barrier(8)

    def start(_: int) -> bytes:
        at_once.wait()
        return read_secret(tmp_path / "data")

    with ThreadPoolExecutor(8) as threads:
        secrets = set(threads.map(start, range(8)))
    assert len(secrets) == 1
    assert [path.name for path in (tmp_path / "data").iterdir()] == [SECRET_FILE]
    assert stat.S_IMODE((tmp_path / "data" / SECRET_FILE).stat().st_mode) == 0o600


def test_under_another_secret_no_key_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with opened(tmp_path) as keys:
            _, text = await keys.create("laptop", ["explain"])
        monkeypatch.setenv("RLT_KEY_SECRET", os.urandom(32).hex())
        async with opened(tmp_path) as keys:
            assert await keys.find(text) is None

    asyncio.run(run())


def test_a_secret_that_others_can_read_or_guess_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_secret(tmp_path)
    file = tmp_path / SECRET_FILE
    file.chmod(0o640)
    with pytest.raises(ServerError, match=r"key-secret: others can read it \(mode 640\); chmod 600"):
        read_secret(tmp_path)
    file.chmod(0o600)
    file.write_bytes(b"torn")
    with pytest.raises(ServerError, match="holds 4 bytes, so it was damaged"):
        read_secret(tmp_path)
    monkeypatch.setenv("RLT_KEY_SECRET", "hunter2")
    with pytest.raises(ServerError, match="RLT_KEY_SECRET: has 7 characters; give at least 32") as caught:
        read_secret(tmp_path)
    assert "hunter2" not in str(caught.value)


def rlt_keys(*arguments: str) -> int:
    return cli.main(["keys", *arguments])


def test_the_command_creates_lists_and_revokes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert rlt_keys("create", "--key", "laptop", "--scopes", "explain,admin") == 0
    created = capsys.readouterr()
    assert re.fullmatch(r"rlt_[\w-]{43}\n", created.out)
    assert "laptop: explain, admin. The key is shown this once:" in created.err
    key_id = created.err.split()[0]

    assert rlt_keys("list") == 0
    title, row = capsys.readouterr().out.splitlines()
    assert title.split() == ["id", "name", "scopes", "created", "revoked"]
    assert row.split()[:4] == [key_id, "laptop", "explain,", "admin"]
    assert row.index("laptop") == title.index("name")

    assert rlt_keys("revoke", "--key", key_id) == 0
    assert "revoked; a running service refuses it within 2 s" in capsys.readouterr().err
    assert rlt_keys("list") == 0
    revoked_on = title.index("revoked")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d", capsys.readouterr().out.splitlines()[1][revoked_on:])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["list"], "--data rlt-data: holds no database of a service; give the data folder of `rlt serve`"),
        (["revoke", "--key", "key_1"], "holds no database of a service"),
        (["create"], "key: is required to create; `rlt keys create --key NAME`"),
        (["create", "--key", "a", "--scopes", "root"], "--scopes.0: Input should be 'explain', 'datasets' or 'admin'"),
        (["create", "--key", "a", "--scopes", "[]"], "--scopes: Tuple should have at least 1 item"),
    ],
)
def test_the_command_says_in_one_line_what_is_wrong(
    arguments: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert rlt_keys(*arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert list(tmp_path.iterdir()) == []


def test_the_command_works_on_the_database_that_the_environment_names(
    postgres_database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RLT_DATABASE_URL", postgres_database_url)
    assert rlt_keys("list") == 0
    assert "no keys; `rlt keys create --key NAME` makes one" in capsys.readouterr().err
    assert rlt_keys("create", "--key", "laptop") == 0
    text = capsys.readouterr().out.strip()

    async def run() -> None:
        async with opened(tmp_path / "rlt-data", postgres_database_url) as keys:
            found = await keys.find(text)
            assert found is not None
            assert found.scopes == ("explain", "datasets")

    asyncio.run(run())
