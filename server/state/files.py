"""Files that callers upload and batches leave: bytes in storage under `files/{id}`, what is known of them in a table.

An upload goes to storage piece by piece, counted and hashed on the way, and is known only when it is whole. A file's
name is what its owner calls it, shown and never used as a path.
"""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import BinaryIO, Literal

from sqlalchemy import delete, func, or_, select

from server.errors import DatabaseUnavailable, Invalid, NotFound, StorageUnavailable, TooLarge
from server.state.database import Database
from server.state.ids import is_id, new_id
from server.state.storage import CHUNK_BYTES, Storage
from server.state.tables import File

LONGEST_NAME = 500
PREFIX = "file-"
SWEEP_SECONDS = 600
EXPIRED_AT_ONCE = 500
"""Expired files that one sweep removes between two looks at the table."""


class Files:
    """The files of one service."""

    def __init__(self, database: Database, storage: Storage) -> None:
        self._database = database
        self._storage = storage

    async def save(
        self,
        filename: str,
        purpose: str,
        chunks: AsyncIterator[bytes],
        *,
        limit_bytes: int,
        expires_at: int | None = None,
    ) -> File:
        """The file made of `chunks`; raises TooLarge as soon as there are more than `limit_bytes`, and keeps none then.

        Raises Invalid where the name is empty, too long or holds a control character.
        """
        _check_name(filename)
        file = _described(filename, purpose, expires_at)
        taken = _Taken(chunks, limit_bytes)
        file.bytes = await self._storage.write_chunks(path_of(file.id), aiter(taken))
        file.sha256 = taken.hash.hexdigest()
        return await self._record(file)

    async def make(
        self,
        filename: str,
        purpose: str,
        produce: Callable[[BinaryIO], None],
        *,
        file_id: str | None = None,
        expires_at: int | None = None,
    ) -> File:
        """The file that `produce` writes, in a thread.

        With a `file_id` of the caller's own (`new_id(PREFIX)`, noted beforehand) making it again replaces it, so work
        that is repeated after a crash leaves one file.
        """
        _check_name(filename)
        file = _described(filename, purpose, expires_at, file_id)

        def produce_and_hash(stream: BinaryIO) -> None:
            produce(stream)
            stream.seek(0)
            digest = hashlib.sha256()
            while chunk := stream.read(CHUNK_BYTES):
                digest.update(chunk)
            file.sha256 = digest.hexdigest()

        file.bytes = await self._storage.write_whole(path_of(file.id), produce_and_hash)
        return await self._record(file)

    async def _record(self, file: File) -> File:
        try:
            async with self._database.session() as session:
                return await session.merge(file)
        except BaseException:
            # Whether it was recorded is not known where the answer is lost, and its id was told to nobody.
            with contextlib.suppress(DatabaseUnavailable, StorageUnavailable):
                await asyncio.shield(self._forget([file.id]))
            raise

    async def get(self, file_id: str) -> File:
        """The file of this id; raises NotFound where there is none, or no longer."""
        async with self._database.reading() as session:
            file = await session.get(File, file_id) if is_id(file_id) else None
        if file is None or (file.expires_at is not None and file.expires_at <= time.time()):
            raise NotFound(f"file {file_id[:100]!r}: there is none, or no longer; GET /v1/files lists them", param="id")
        return file

    async def page(
        self,
        *,
        after: str | None = None,
        limit: int = 10_000,
        order: Literal["asc", "desc"] = "desc",
        purpose: str | None = None,
    ) -> tuple[list[File], bool]:
        """At most `limit` files in the order of their creation, and whether there are more.

        `after` is the last id of the page before; it need not exist any more. Raises Invalid where it is no id.
        """
        if after is not None and not is_id(after):
            raise Invalid(f"after {after[:100]!r}: is no id; give the last_id of the page before", param="after")
        wanted = select(File).where(or_(File.expires_at.is_(None), File.expires_at > int(time.time())))
        if purpose is not None:
            wanted = wanted.where(File.purpose == purpose)
        if after is not None:
            wanted = wanted.where(File.id > after if order == "asc" else File.id < after)
        wanted = wanted.order_by(File.id.asc() if order == "asc" else File.id.desc()).limit(limit + 1)
        async with self._database.reading() as session:
            found = list(await session.scalars(wanted))
        return found[:limit], len(found) > limit

    async def total_bytes(self) -> int:
        """Bytes of all files."""
        async with self._database.reading() as session:
            return int(await session.scalar(select(func.coalesce(func.sum(File.bytes), 0))) or 0)

    async def delete(self, file_id: str) -> None:
        """Forgets the file, then removes its bytes; raises NotFound."""
        await self.get(file_id)
        await self._forget([file_id])

    async def seekable(self, file_id: str) -> BinaryIO:
        """The bytes, open for reading in threads; raises NotFound. Close it."""
        try:
            return await self._storage.seekable(path_of((await self.get(file_id)).id))
        except FileNotFoundError as error:
            raise _lost(file_id) from error

    async def stream(self, file_id: str, chunk: int = CHUNK_BYTES) -> AsyncIterator[bytes]:
        """The bytes in pieces; raises NotFound before the first."""
        file = await self.get(file_id)
        try:
            async for piece in self._storage.stream(path_of(file.id), chunk):
                yield piece
        except FileNotFoundError as error:
            raise _lost(file_id) from error

    async def remove_expired(self) -> int:
        """How many files had expired and were removed."""
        removed = 0
        while True:
            async with self._database.reading() as session:
                past = select(File.id).where(File.expires_at <= int(time.time())).limit(EXPIRED_AT_ONCE)
                found = list(await session.scalars(past))
            if not found:
                return removed
            await self._forget(found)
            removed += len(found)

    @asynccontextmanager
    async def swept(self) -> AsyncIterator[None]:
        """Removes expired files now and every ten minutes while the block runs."""
        sweeping = asyncio.create_task(self._sweep())
        try:
            yield
        finally:
            sweeping.cancel()
            await asyncio.gather(sweeping, return_exceptions=True)

    async def _sweep(self) -> None:
        """A database or a storage that is down is waited out."""
        while True:
            with contextlib.suppress(DatabaseUnavailable, StorageUnavailable):
                await self.remove_expired()
            await asyncio.sleep(SWEEP_SECONDS)

    async def _forget(self, ids: list[str]) -> None:
        async with self._database.session() as session:
            await session.execute(delete(File).where(File.id.in_(ids)))
        for file_id in ids:
            await self._storage.delete(path_of(file_id))


class _Taken:
    """What arrives of an upload, counted and hashed."""

    def __init__(self, chunks: AsyncIterator[bytes], limit_bytes: int) -> None:
        self.hash = hashlib.sha256()
        self.bytes = 0
        self._chunks = chunks
        self._limit_bytes = limit_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._chunks:
            self.bytes += len(chunk)
            if self.bytes > self._limit_bytes:
                raise TooLarge(
                    f"the file is longer than {self._limit_bytes} bytes, the most that is taken here; split it",
                    param="file",
                )
            self.hash.update(chunk)
            yield chunk


def path_of(file_id: str) -> str:
    """Where a file's bytes are in storage."""
    return f"files/{file_id}"


def _described(filename: str, purpose: str, expires_at: int | None, file_id: str | None = None) -> File:
    return File(
        id=file_id or new_id(PREFIX),
        filename=filename,
        purpose=purpose,
        created_at=int(time.time()),
        expires_at=expires_at,
    )


def _check_name(filename: str) -> None:
    if not filename or len(filename) > LONGEST_NAME or not filename.isprintable():
        raise Invalid(
            f"filename {filename[:60]!r}: must be 1 to {LONGEST_NAME} printable characters; rename the file",
            param="file",
        )


def _lost(file_id: str) -> NotFound:
    return NotFound(f"file {file_id!r}: its bytes are gone from the storage; upload it again", param="id")
