"""Uploaded files: whole or not at all, by id only, paged without gaps, gone when they expire."""

import asyncio
import hashlib
import time
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

import pytest

from server.errors import Invalid, NotFound, TooLarge
from server.state import files as files_module
from server.state.database import Database
from server.state.files import PREFIX, Files, path_of
from server.state.ids import new_id
from server.state.storage import PARTIAL, Storage
from server.state.tables import File

MIB = 2**20


@asynccontextmanager
async def opened(data: Path, url: str | None = None) -> AsyncIterator[tuple[Files, Storage]]:
    database = await Database.open(url, data)
    storage = await Storage.open(None, data)
    try:
        yield Files(database, storage), storage
    finally:
        await storage.close()
        await database.close()


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def saved(files: Files, name: str = "a.jsonl", purpose: str = "batch", expires_at: int | None = None) -> File:
    return await files.save(name, purpose, pieces(b"one\n", b"two\n"), limit_bytes=8, expires_at=expires_at)


async def content(files: Files, file_id: str) -> bytes:
    return b"".join([piece async for piece in files.stream(file_id, chunk=3)])


def test_an_upload_comes_back_as_it_was_sent(database_url: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path, database_url) as (files, _):
            made = await saved(files)
            assert (made.filename, made.purpose, made.bytes) == ("a.jsonl", "batch", 8)
            assert made.sha256 == hashlib.sha256(b"one\ntwo\n").hexdigest()
            assert (await files.get(made.id)).sha256 == made.sha256
            assert await content(files, made.id) == b"one\ntwo\n"
            with await files.seekable(made.id) as file:
                file.seek(4)
                assert file.read() == b"two\n"
            assert await files.total_bytes() == 8

    asyncio.run(run())


def test_an_upload_that_is_too_long_is_refused_as_soon_as_it_is_and_leaves_nothing(tmp_path: Path) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b"x" * 1000

    async def run() -> None:
        async with opened(tmp_path) as (files, storage):
            with pytest.raises(TooLarge, match="longer than 2500 bytes") as caught:
                await files.save("a", "batch", endless(), limit_bytes=2500)
            assert (caught.value.param, sent) == ("file", 3)
            assert (await files.page(), await storage.list("files")) == (([], False), [])
            assert list((tmp_path / "storage" / PARTIAL).iterdir()) == []

    asyncio.run(run())


def test_an_upload_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"half"
        raise ConnectionResetError

    async def run() -> None:
        async with opened(tmp_path) as (files, storage):
            with pytest.raises(ConnectionResetError):
                await files.save("a", "batch", broken(), limit_bytes=100)
            assert (await files.page(), await storage.list("files")) == (([], False), [])

    asyncio.run(run())


def test_bytes_whose_row_cannot_be_written_are_removed(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path) as (files, storage):
            with pytest.raises(Exception, match="NOT NULL"):
                await files.save("a", None, pieces(b"1"), limit_bytes=9)  # type: ignore[arg-type]
            assert await storage.list("files") == []

    asyncio.run(run())


def test_an_upload_passes_through_in_constant_memory(tmp_path: Path) -> None:
    async def large() -> AsyncIterator[bytes]:
        for number in range(64):
            yield bytes([number]) * MIB

    async def run() -> int:
        async with opened(tmp_path) as (files, _):
            tracemalloc.start()
            try:
                assert (await files.save("a", "batch", large(), limit_bytes=64 * MIB)).bytes == 64 * MIB
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

    assert asyncio.run(run()) < 8 * MIB


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "C:\\x", "..", "a b.jsonl", "Übung 三.jsonl", "a" * 500]
)
def test_a_name_is_kept_as_given_and_never_a_path(name: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path / "data") as (files, storage):
            made = await saved(files, name)
            assert (await files.get(made.id)).filename == name
            assert await storage.list("files") == [path_of(made.id)]
        assert {path.name for path in tmp_path.iterdir()} == {"data"}

    asyncio.run(run())


@pytest.mark.parametrize("name", ["", "a\nb", "a\0b", "a\x1b[2J", "a" * 501, "\ud800", "a\u202eb"])
def test_a_name_that_cannot_be_shown_is_refused(name: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path) as (files, storage):
            with pytest.raises(Invalid, match=r"filename .*must be 1 to 500 printable characters") as caught:
                await saved(files, name)
            assert caught.value.param == "file"
            assert str(caught.value).isprintable()
            assert await storage.list("files") == []

    asyncio.run(run())


@pytest.mark.parametrize("file_id", ["", "file-", "../rlt.sqlite", "file-0\0", "\ud800", "x" * 10_000])
def test_an_id_that_was_never_given_finds_nothing(file_id: str, database_url: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path, database_url) as (files, _):
            for attempt in (files.get, files.delete, files.seekable, lambda each: anext(files.stream(each))):
                with pytest.raises(NotFound, match="there is none, or no longer"):
                    await attempt(file_id)
            with pytest.raises(Invalid, match="is no id; give the last_id of the page before"):
                await files.page(after=file_id)

    asyncio.run(run())


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_hold_every_file_once_in_order_whatever_is_deleted_meanwhile(
    order: str, database_url: str, tmp_path: Path
) -> None:
    async def run() -> None:
        async with opened(tmp_path, database_url) as (files, _):
            made = [
                (await saved(files, f"{number}", "batch" if number % 3 else "user_data")).id for number in range(11)
            ]
            wanted = [name for number, name in enumerate(made) if number % 3]
            if order == "desc":
                wanted.reverse()
            seen: list[str] = []
            more = True
            while more:
                page, more = await files.page(after=seen[-1] if seen else None, limit=2, order=order, purpose="batch")  # type: ignore[arg-type]
                assert 0 < len(page) <= 2
                seen += [file.id for file in page]
                await files.delete(seen[-1])  # the cursor of the next page
            assert seen == wanted
            assert len((await files.page())[0]) == 11 - 4

    asyncio.run(run())


def test_a_deleted_file_is_gone_with_its_bytes(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path) as (files, storage):
            kept, removed = await saved(files), await saved(files)
            await files.delete(removed.id)
            assert await storage.list("files") == [path_of(kept.id)]
            with pytest.raises(NotFound):
                await files.delete(removed.id)

    asyncio.run(run())


def test_an_expired_file_is_not_found_and_its_bytes_go_with_the_next_sweep(database_url: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path, database_url) as (files, storage):
            kept = await saved(files, expires_at=int(time.time()) + 3600)
            expired = await saved(files, expires_at=int(time.time()) - 1)
            with pytest.raises(NotFound, match="or no longer"):
                await files.get(expired.id)
            assert [file.id for file in (await files.page())[0]] == [kept.id]
            assert await files.remove_expired() == 1
            assert await files.remove_expired() == 0
            assert await storage.list("files") == [path_of(kept.id)]

    asyncio.run(run())


def test_a_running_service_sweeps_again_and_again_and_stops_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files_module, "SWEEP_SECONDS", 0.01)

    async def run() -> None:
        async with opened(tmp_path) as (files, storage):
            async with files.swept():
                for _ in range(2):
                    await saved(files, expires_at=int(time.time()) - 1)
                    while await storage.list("files"):
                        await asyncio.sleep(0.01)
            assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())


def test_a_file_whose_bytes_are_lost_is_said_to_be(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path) as (files, storage):
            made = await saved(files)
            await storage.delete(path_of(made.id))
            for attempt in (files.seekable(made.id), anext(files.stream(made.id))):
                with pytest.raises(NotFound, match="its bytes are gone from the storage; upload it again"):
                    await attempt

    asyncio.run(run())


def test_a_file_of_our_own_that_is_made_again_after_a_crash_stays_one(database_url: str, tmp_path: Path) -> None:
    def produce(file: BinaryIO) -> None:
        file.write(b"made")

    async def run() -> None:
        async with opened(tmp_path, database_url) as (files, storage):
            noted = new_id(PREFIX)
            for _ in range(2):
                made = await files.make("out.jsonl", "batch_output", produce, file_id=noted)
            assert (made.id, made.bytes, made.sha256) == (noted, 4, hashlib.sha256(b"made").hexdigest())
            assert [file.id for file in (await files.page())[0]] == [noted]
            assert await storage.list("files") == [path_of(noted)]
            assert await content(files, noted) == b"made"

    asyncio.run(run())
