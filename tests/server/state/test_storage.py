"""Storage in a local folder and in a real object store (moto's server): whole files or none, flat memory, own paths."""

import asyncio
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from threading import Event
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from server.errors import ServerError, StorageUnavailable
from server.state.storage import PARTIAL, PARTIAL_SECONDS, Storage
from tests.server.conftest import name_environment

ROOT = Path(__file__).parents[3]
MIB = 2**20


@pytest.fixture(params=["local", "s3"])
def url(request: pytest.FixtureRequest) -> str | None:
    return None if request.param == "local" else str(request.getfixturevalue("s3"))


@asynccontextmanager
async def opened(url: str | None, data: Path) -> AsyncIterator[Storage]:
    storage = await Storage.open(url, data)
    try:
        await storage.delete_tree("t")
        yield storage
    finally:
        await storage.close()


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def partial_files(data: Path) -> list[Path]:
    return [path for folder in data.rglob(PARTIAL) for path in folder.iterdir()]


def test_what_is_written_is_read_listed_and_deleted(url: str | None, tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(url, tmp_path) as storage:
            assert await storage.write_whole("t/a/one", lambda file: file.writelines([b"ei", b"ns"])) == 4
            assert await storage.write_chunks("t/b/two", pieces(b"zw", b"", b"ei")) == 4
            assert await storage.write_chunks("t/b/none", pieces()) == 0
            assert await storage.list("t") == ["t/a/one", "t/b/none", "t/b/two"]
            assert await storage.list("t/b") == ["t/b/none", "t/b/two"]
            assert await storage.list("t/c") == []
            assert [await storage.read(path) for path in ("t/a/one", "t/b/two", "t/b/none")] == [
                b"eins",
                b"zwei",
                b"",
            ]
            assert [piece async for piece in storage.stream("t/b/two", chunk=3)] == [b"zwe", b"i"]
            assert await storage.size("t/b/two") == 4
            await storage.write_chunks("t/b/two", pieces(b"other"))
            assert await storage.read("t/b/two") == b"other"
            await storage.delete("t/b/two")
            await storage.delete("t/b/two")
            assert await storage.list("t/b") == ["t/b/none"]
            await storage.delete_tree("t/b")
            await storage.delete_tree("t/b")
            assert await storage.list("t") == ["t/a/one"]
        assert partial_files(tmp_path) == []

    asyncio.run(run())


def test_a_file_that_is_not_there_is_said_to_be_missing(url: str | None, tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(url, tmp_path) as storage:
            for attempt in (
                storage.read("t/x"),
                storage.seekable("t/x"),
                storage.size("t/x"),
                anext(storage.stream("t/x")),
            ):
                with pytest.raises(FileNotFoundError):
                    await attempt

    asyncio.run(run())


def test_another_process_s_file_is_seen_at_once(url: str | None, tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(url, tmp_path) as one, opened(url, tmp_path) as other:
            assert await one.list("t") == []
            await other.write_chunks("t/x", pieces(b"1"))
            assert await one.list("t") == ["t/x"]
            assert await one.size("t/x") == 1
            await other.write_chunks("t/x", pieces(b"22"))
            assert (await one.size("t/x"), await one.read("t/x")) == (2, b"22")

    asyncio.run(run())


def test_a_writer_that_raises_leaves_what_was_there_and_its_error_as_it_is(url: str | None, tmp_path: Path) -> None:
    def produce(file: BinaryIO) -> None:
        file.write(b"half")
        raise ZeroDivisionError("halfway")

    async def broken_upload() -> AsyncIterator[bytes]:
        yield b"half"
        raise ZeroDivisionError("halfway")

    async def run() -> None:
        async with opened(url, tmp_path) as storage:
            await storage.write_chunks("t/x", pieces(b"old"))
            for write in (storage.write_whole("t/x", produce), storage.write_chunks("t/x", broken_upload())):
                with pytest.raises(ZeroDivisionError, match="halfway"):
                    await write
            assert await storage.read("t/x") == b"old"
            assert partial_files(tmp_path) == []

    asyncio.run(run())


def test_a_cancelled_writer_leaves_what_was_there(url: str | None, tmp_path: Path) -> None:
    begun, go_on = asyncio.Event(), Event()

    async def run() -> None:
        loop = asyncio.get_running_loop()

        def produce(file: BinaryIO) -> None:
            file.write(b"half")
            loop.call_soon_threadsafe(begun.set)
            go_on.wait(60)

        async def endless() -> AsyncIterator[bytes]:
            yield b"half"
            begun.set()
            await asyncio.sleep(3600)

        async with opened(url, tmp_path) as storage:
            await storage.write_chunks("t/x", pieces(b"old"))
            for write in (storage.write_whole("t/x", produce), storage.write_chunks("t/x", endless())):
                task = asyncio.create_task(write)
                await begun.wait()
                begun.clear()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            go_on.set()
        async with opened(url, tmp_path) as storage:  # the first one waited for its threads as it closed
            await storage.write_chunks("t/y", pieces(b"new"))
            assert partial_files(tmp_path) == []

    asyncio.run(run())


def test_what_a_cancelled_writer_was_about_to_keep_is_there_before_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So whoever removes it then has removed it: a slow disk once let it appear afterwards."""

    async def run() -> None:
        loop, flushing = asyncio.get_running_loop(), asyncio.Event()

        def slow_disk(handle: int) -> None:
            loop.call_soon_threadsafe(flushing.set)
            time.sleep(0.2)

        monkeypatch.setattr(os, "fsync", slow_disk)
        async with opened(None, tmp_path) as storage:
            for write in (
                storage.write_whole("t/x", lambda file: file.writelines([b"whole"])),
                storage.write_chunks("t/x", pieces(b"whole")),
            ):
                flushing.clear()
                task = asyncio.create_task(write)
                await flushing.wait()
                for _ in range(3):  # as a worker does that looks at its cancelled jobs again and again
                    task.cancel()
                    await asyncio.sleep(0.01)
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert await storage.read("t/x") == b"whole"
                await storage.delete("t/x")
                await asyncio.sleep(0.3)
                assert await storage.list("t") == []

    asyncio.run(run())


def test_a_killed_writer_leaves_nothing_in_the_tree_and_its_rest_is_swept_a_day_later(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys, time; from pathlib import Path; from server.state.storage import Storage\n"
        "def produce(file):\n"
        "    file.write(b'half'); file.flush(); print('half', flush=True); time.sleep(600)\n"
        "async def run():\n"
        "    await (await Storage.open(None, Path(sys.argv[1]))).write_whole('t/x', produce)\n"
        "asyncio.run(run())"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()

    async def listed() -> list[str]:
        storage = await Storage.open(None, tmp_path)
        return [*await storage.list("t"), *map(str, partial_files(tmp_path))]

    (left,) = asyncio.run(listed())  # young, so it might be another's who still writes
    assert PARTIAL in left
    os.utime(left, (time.time() - PARTIAL_SECONDS - 1,) * 2)
    assert asyncio.run(listed()) == []


def test_of_two_who_write_the_same_file_one_has_written_all_of_it(url: str | None, tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(url, tmp_path) as storage:
            both = (b"a" * 300_000, b"b" * 200_000)
            await asyncio.gather(
                *(storage.write_chunks("t/x", pieces(*[one[:1000]] * (len(one) // 1000))) for one in both)
            )
            assert await storage.read("t/x") in both

    asyncio.run(run())


def test_parquet_is_written_and_read_by_row_group(url: str | None, tmp_path: Path) -> None:
    table = pa.table({"n": list(range(1000))})

    async def run() -> None:
        async with opened(url, tmp_path) as storage:
            await storage.write_whole("t/x.parquet", lambda file: pq.write_table(table, file, row_group_size=100))
            file = await storage.seekable("t/x.parquet")
            group = await asyncio.to_thread(lambda: pq.ParquetFile(file).read_row_group(3))
            file.close()
            assert group["n"].to_pylist() == list(range(300, 400))

    asyncio.run(run())


def test_a_large_file_passes_through_in_constant_memory(tmp_path: Path) -> None:
    async def large() -> AsyncIterator[bytes]:
        for number in range(64):
            yield bytes([number]) * MIB

    async def run() -> int:
        async with opened(None, tmp_path) as storage:
            tracemalloc.start()
            try:
                assert await storage.write_chunks("t/x", large()) == 64 * MIB
                assert sum([len(piece) async for piece in storage.stream("t/x")]) == 64 * MIB
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

    assert asyncio.run(run()) < 8 * MIB


@pytest.mark.parametrize(
    "path", ["", "/etc/passwd", "a/../../b", "..", "a//b", "a/./b", "a\\b", "a/\0", "a\n", PARTIAL]
)
def test_a_path_that_leads_elsewhere_is_never_used(path: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(None, tmp_path) as storage:
            write, produce = partial(storage.write_chunks, chunks=pieces()), partial(storage.write_whole, produce=print)
            for attempt in (storage.read, storage.seekable, write, produce, storage.delete_tree, storage.list):
                with pytest.raises(AssertionError):
                    await attempt(path)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("gopher://x/y", "RLT_STORAGE_URL='gopher://x/y': .*; give s3://BUCKET/FOLDER or a folder"),
        ("s3://no-such-bucket/x", "no-such-bucket"),
    ],
)
def test_a_storage_that_is_not_there_is_refused_at_the_start(url: str, told: str, s3: str, tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=told):
        asyncio.run(Storage.open(url, tmp_path))


def test_an_object_store_that_does_not_answer_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name_environment(monkeypatch, "http://127.0.0.1:1")
    with pytest.raises(StorageUnavailable, match="127"):
        asyncio.run(Storage.open("s3://other/x", tmp_path))


@pytest.mark.slow
def test_a_large_file_goes_to_an_object_store_without_being_held(s3: str, tmp_path: Path) -> None:
    """In another process, since the object store is in this one, with all that it was sent."""
    code = (
        "import asyncio, sys, tracemalloc; from pathlib import Path\n"
        "from server.state.storage import Storage\n"
        "async def chunks(count):\n"
        "    for number in range(count): yield bytes([number]) * 2**20\n"
        "async def run():\n"
        "    storage = await Storage.open(sys.argv[1], Path(sys.argv[2]))\n"
        "    tracemalloc.start()\n"
        "    assert await storage.write_chunks('t/large', chunks(128)) == 128 * 2**20\n"
        "    print(tracemalloc.get_traced_memory()[1] // 2**20)\n"
        "asyncio.run(run())"
    )
    command = [sys.executable, "-c", code, s3, str(tmp_path)]
    peak_mib = int(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    assert peak_mib < 100  # 66; with s3fs's own settings 258


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "storage").write_text("a file")
    with pytest.raises(OSError, match="storage"):
        asyncio.run(Storage.open(None, tmp_path))


def test_a_full_disk_is_said_where_it_happens(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(None, tmp_path) as storage:
            (tmp_path / "storage" / "t").write_text("a file where a folder must be")
            with pytest.raises(StorageUnavailable, match=r"t/x: .*File exists|t/x: .*Not a directory"):
                await storage.write_chunks("t/x", pieces(b"1"))
            (tmp_path / "storage" / "t").unlink()

    asyncio.run(run())
