"""Bytes that outlive a request: uploaded files, shards, exports. A local folder, or an object store by its fsspec URL.

Paths are our own, like `files/file-…` and `datasets/ds_…/shards/000000-1.parquet`, relative to the root; text of
callers never becomes one. A file appears whole or not at all: it is written under a temporary name on a disk of this
machine, then renamed (local; file and folder are on the disk by then) or put in one piece (object stores, where a put
is atomic). What a killed process left half-written is removed a day later, when a service opens the storage.

fsspec is synchronous here, so every call runs in a thread of the storage's own.
"""

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, TypeVar, cast

import fsspec

from server.errors import ServerError, StorageUnavailable

URL_VARIABLE = "RLT_STORAGE_URL"
"""Environment variable that names the storage; unset is a folder in the data folder."""
FOLDER = "storage"
PARTIAL = ".partial"
"""Folder of what is being written: in the root where it is local, so that renaming stays on one disk."""
PARTIAL_SECONDS = 24 * 3600
CHUNK_BYTES = 2**20
REMOTE_BLOCK_BYTES = 8 * 2**20
"""Bytes read ahead from an object store; s3fs's own 50 MiB would be held for every open file."""
S3_PUT = {"chunksize": 16 * 2**20, "max_concurrency": 2}
"""How a large file goes to S3; s3fs's own parts would hold 500 MiB of it in memory."""
THREADS = 16

T = TypeVar("T")


class Storage:
    """Files by path under one root; made by `Storage.open`. Every method raises StorageUnavailable where that fails."""

    def __init__(self, filesystem: Any, root: str, partial: Path, local: bool) -> None:
        self._filesystem = filesystem
        self._root = root
        self._partial = partial
        self._local = local
        protocols = (filesystem.protocol,) if isinstance(filesystem.protocol, str) else filesystem.protocol
        self._put_options = S3_PUT if "s3" in protocols else {}
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="storage")

    @classmethod
    async def open(cls, url: str | None, data: Path) -> "Storage":
        """The storage at `url`, by default the folder `storage` in `data`; its root is made where it is missing.

        Credentials and endpoints of object stores come from the environment, as their libraries read them
        (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, ...). Raises ServerError where the URL cannot be used.
        """
        return await asyncio.to_thread(cls._open, url, data)

    @classmethod
    def _open(cls, url: str | None, data: Path) -> "Storage":
        filesystem, root = _located(url or str((data / FOLDER).absolute()))
        local = isinstance(filesystem, fsspec.get_filesystem_class("file"))
        partial = Path(root) / PARTIAL if local else data / PARTIAL
        partial.mkdir(parents=True, exist_ok=True)
        _sweep(partial)
        storage = cls(filesystem, root, partial, local)
        if not local:
            _reach(filesystem, root)
        return storage

    @property
    def shown(self) -> str:
        """Where it is, for people and logs; it holds no credentials."""
        return self._root if self._local else str(self._filesystem.unstrip_protocol(self._root))

    async def health(self) -> None:
        """Returns where it can be reached, a folder also written to; raises StorageUnavailable with the reason."""
        await self._in_thread(self._root, self._look)

    def _look(self) -> None:
        if not self._local:
            self._filesystem.find(f"{self._root}/{PARTIAL}")
        elif not os.access(self._root, os.W_OK):
            raise PermissionError("it is not there, or cannot be written to")

    async def write_whole(self, path: str, produce: Callable[[BinaryIO], None]) -> int:
        """Bytes written: `produce` fills the file, in a thread; what lay at `path` is replaced as that is done.

        Where `produce` raises, or this task is cancelled before it returned, nothing changes; what it raises rises as
        it is. Cancelled later, the file may lie there whole, but by then: nothing is written behind the caller's back.
        The file it fills is a real one, seekable.
        """
        writing = await self._in_thread(path, _Writing, self, path, self._full(path))
        try:
            await asyncio.get_running_loop().run_in_executor(self._threads, produce, writing.file)
            return await _to_its_end(self._in_thread(path, writing.keep))
        finally:
            writing.discard()

    async def write_chunks(self, path: str, chunks: AsyncIterator[bytes]) -> int:
        """Bytes written: as `write_whole`, from an iterator; never more than one chunk is held."""
        writing = await self._in_thread(path, _Writing, self, path, self._full(path))
        try:
            async for chunk in chunks:
                await self._in_thread(path, writing.file.write, chunk)
            return await _to_its_end(self._in_thread(path, writing.keep))
        finally:
            writing.discard()

    async def read(self, path: str) -> bytes:
        """The whole file; raises FileNotFoundError where there is none. For small ones: see `stream`."""
        return await self._in_thread(path, self._filesystem.cat_file, self._full(path))

    async def seekable(self, path: str) -> BinaryIO:
        """The file, open for reading in threads, as pyarrow does; raises FileNotFoundError. Close it."""
        return await self._in_thread(path, self._opened, self._full(path))

    def _opened(self, full: str) -> BinaryIO:
        ahead = {} if self._local else {"block_size": REMOTE_BLOCK_BYTES, "cache_type": "readahead"}
        return cast("BinaryIO", self._filesystem.open(full, "rb", **ahead))

    async def stream(self, path: str, chunk: int = CHUNK_BYTES) -> AsyncIterator[bytes]:
        """The file in pieces of `chunk` bytes; raises FileNotFoundError before the first."""
        file = await self.seekable(path)
        try:
            while piece := await self._in_thread(path, file.read, chunk):
                yield piece
        finally:
            file.close()

    async def size(self, path: str) -> int:
        """Bytes of the file; raises FileNotFoundError."""
        return int(await self._in_thread(path, self._filesystem.size, self._full(path)))

    async def delete(self, path: str) -> None:
        """Removes a file; one that is not there is no error."""
        await _to_its_end(self._in_thread(path, self._delete, self._full(path), False))

    async def delete_tree(self, prefix: str) -> None:
        """Removes every file under the folder `prefix`; none is no error."""
        await self._in_thread(prefix, self._delete, self._full(prefix), True)

    def _delete(self, full: str, recursive: bool) -> None:
        if self._local and recursive:
            shutil.rmtree(full, ignore_errors=True)  # what another process removes meanwhile is no error
            if Path(full).exists():
                raise OSError(f"{full}: cannot be removed; check its permissions")
            return
        try:
            self._filesystem.rm(full, recursive=recursive)
        except FileNotFoundError:
            return

    async def list(self, prefix: str) -> list[str]:
        """The paths of all files under the folder `prefix`, sorted; empty where there is none."""
        found = await self._in_thread(prefix, self._filesystem.find, self._full(prefix))
        return sorted(str(PurePosixPath(path).relative_to(self._root)) for path in found)

    async def close(self) -> None:
        """Waits for what is being read or written."""
        await asyncio.to_thread(self._threads.shutdown)

    def _full(self, path: str) -> str:
        parts = path.split("/")
        assert all(part not in ("", ".", "..", PARTIAL) and part.isprintable() for part in parts), path
        assert "\\" not in path, path
        return f"{self._root}/{path}"

    async def _in_thread(self, path: str, function: Callable[..., T], *arguments: Any) -> T:
        def call() -> T:
            with _failures_named(path):
                return function(*arguments)

        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


async def _to_its_end(step: Coroutine[Any, Any, T]) -> T:
    """What `step` returns. Where this task is cancelled meanwhile, that is raised, but only once the step is over.

    A thread cannot be broken off: whoever cleaned up while it still ran would find its file there afterwards.
    """
    work = asyncio.ensure_future(step)
    cancellation: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as error:
            cancellation = error
    if cancellation is not None:
        work.exception()  # looked at, so that nobody is told that it never was
        raise cancellation
    return work.result()


class _Writing:
    """A file under a temporary name; `keep` gives it its own, `discard` forgets it unless it was kept."""

    def __init__(self, storage: Storage, path: str, full: str) -> None:
        self._storage = storage
        self._path = path
        self._full = full
        with _failures_named(path):
            handle, name = tempfile.mkstemp(dir=storage._partial)
        self._partial = Path(name)
        self.file: BinaryIO = os.fdopen(handle, "w+b")

    def keep(self) -> int:
        """Bytes of the file, which is whole and lies at its path now."""
        with _failures_named(self._path):
            self.file.flush()
            size = self._partial.stat().st_size
            if self._storage._local:
                os.fsync(self.file.fileno())
                _rename(self._partial, Path(self._full))
            else:
                self._storage._filesystem.put_file(str(self._partial), self._full, **self._storage._put_options)
            return size

    def discard(self) -> None:
        """Closes and removes the temporary file, if it is still there."""
        self.file.close()
        self._partial.unlink(missing_ok=True)


def _rename(partial: Path, target: Path) -> None:
    """Gives a file its name, and sees to it that a power cut forgets neither that nor the folders made for it."""
    made = [folder for folder in target.parents if not folder.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    partial.chmod(0o640)
    partial.rename(target)
    for folder in {target.parent, *(folder.parent for folder in made)}:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _located(url: str) -> tuple[Any, str]:
    try:
        # Another process's shards must be seen at once, so no listing is kept; nor a connection made with other keys.
        filesystem, root = fsspec.core.url_to_fs(url, use_listings_cache=False, skip_instance_cache=True)
        return filesystem, root.rstrip("/")
    except ImportError as error:
        raise ServerError(f"{URL_VARIABLE}={url!r}: {error}; for S3 install rlt with its extra: rlt[s3]") from error
    except ValueError as error:
        raise ServerError(f"{URL_VARIABLE}={url!r}: {error}; give s3://BUCKET/FOLDER or a folder") from error


def _reach(filesystem: Any, root: str) -> None:
    """Asks an object store for a folder that has nothing in it: a wrong address, key or bucket is told at the start."""
    try:
        with _failures_named(root):
            filesystem.find(f"{root}/{PARTIAL}")
    except FileNotFoundError as error:
        raise ServerError(f"{URL_VARIABLE}: {root}: {error}; make the bucket, or name another") from error


def _sweep(partial: Path) -> None:
    """Removes what writers left that were killed a day ago or earlier."""
    for path in partial.iterdir():
        if path.stat().st_mtime < time.time() - PARTIAL_SECONDS:
            path.unlink(missing_ok=True)


@contextmanager
def _failures_named(path: str) -> Iterator[None]:
    """The boundary where whatever a storage's library raises becomes StorageUnavailable; each has its own errors."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:
        raise StorageUnavailable(
            f"storage: {path}: {error or type(error).__name__}; the same may work later"
        ) from error
