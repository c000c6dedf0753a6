"""API keys: 256 random bits, shown once; the database holds their HMAC-SHA256 under a secret, and what they may do.

`rlt keys create|list|revoke` is main(); a running service asks `Keys.find` about every request. It keeps the table in
memory, so a known key costs no query; what it keeps is at most 2 seconds old, and that is how long a revoked key lives
on. A key that is not in it is looked up anew, so a new key works at once; any number of wrong ones at a time share one
query.
"""

import asyncio
import contextlib
import hashlib
import hmac
import os
import secrets
import stat
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import select

from server.configs import KeysConfig
from server.errors import NotFound, ServerError
from server.state.database import FILE, Database
from server.state.database import URL_VARIABLE as DATABASE_VARIABLE
from server.state.ids import is_id, new_id
from server.state.tables import ApiKey

SECRET_VARIABLE = "RLT_KEY_SECRET"
"""Environment variable with the secret; processes that share a database must share it. Unset is a file in `data`."""
SECRET_FILE = "key-secret"
SERVICE_KEY_VARIABLE = "RLT_SERVICE_KEY"
"""Environment variable with a key that this process takes beside those of the database, and lets explain and make
datasets: a container listens for others from its first second on, and must have a key before it can create one."""
SECRET_CHARACTERS = 32
"""The least that RLT_KEY_SECRET and RLT_SERVICE_KEY may have."""
CACHE_SECONDS = 2.0
PREFIX = "rlt_"
SELECTOR = 16
"""Hex digits of a digest by which its key is looked up."""
LONGEST_NAME = 200


@dataclass(frozen=True)
class Key:
    """What is known of an API key; times are Unix seconds. It knows the key itself as little as the database does."""

    id: str
    name: str
    scopes: tuple[str, ...]
    created_at: int
    revoked_at: int | None


GIVEN = Key("key_environment", SERVICE_KEY_VARIABLE, ("explain", "datasets"), 0, None)
"""What is known of the key in RLT_SERVICE_KEY."""


@dataclass(frozen=True)
class _Table:
    """The keys as they stood when the query began, in seconds of the monotonic clock."""

    asked_at: float
    active: dict[str, tuple[str, Key]]
    """Digest and key, by the digest's beginning: what is found by that is then compared in constant time."""
    empty: bool


UNREAD = _Table(float("-inf"), {}, empty=True)
"""So old that it is read anew before it is used."""


class Keys:
    """The keys of one database; made by `Keys.open`."""

    def __init__(self, database: Database, secret: bytes, given: str = "") -> None:
        self._database = database
        self._secret = secret
        self._given = self._digest(given) if given else ""
        self._loading = asyncio.Lock()
        self._table = UNREAD

    @classmethod
    async def open(cls, database: Database, data: Path) -> "Keys":
        """The keys, under the secret in RLT_KEY_SECRET or in the folder `data`, where one is made if there is none.

        Raises ServerError where the secret or RLT_SERVICE_KEY is too short, or the secret's file is open to others.
        """
        secret = await asyncio.to_thread(read_secret, data)
        given = _long_enough(SERVICE_KEY_VARIABLE, os.environ.get(SERVICE_KEY_VARIABLE, ""))
        return cls(database, secret, given)

    async def create(self, name: str, scopes: Sequence[str]) -> tuple[Key, str]:
        """A new key and its plain text, which nobody can tell again. Raises ServerError where the name is no line."""
        if not name.isprintable() or not 0 < len(name) <= LONGEST_NAME:
            raise ServerError(f"key {name[:LONGEST_NAME]!r}: a name is 1 to {LONGEST_NAME} characters, all printable")
        text = PREFIX + secrets.token_urlsafe(32)
        row = ApiKey(
            id=new_id("key_"),
            name=name,
            digest=self._digest(text),
            scopes=list(dict.fromkeys(scopes)),
            created_at=int(time.time()),
            revoked_at=None,
        )
        async with self._database.session() as session:
            session.add(row)
        self._table = UNREAD
        return _known(row), text

    async def find(self, text: str) -> Key | None:
        """The key with this plain text; None where there is none or it was revoked."""
        digest = self._digest(text)
        asked_at = time.monotonic()
        table = await self._fresh(asked_at - CACHE_SECONDS)
        if digest[:SELECTOR] not in table.active:
            table = await self._fresh(asked_at)
        known, key = table.active.get(digest[:SELECTOR], ("", None))
        return key if hmac.compare_digest(known, digest) else None

    def handle(self, text: str) -> str:
        """What stands for a key, given as plain text, in a session: it opens nothing, and says nothing of the key."""
        return self._digest(text)[:SELECTOR]

    async def by_handle(self, handle: str) -> Key | None:
        """The key with this handle; None where there is none or it was revoked."""
        asked_at = time.monotonic()
        table = await self._fresh(asked_at - CACHE_SECONDS)
        if handle not in table.active:
            table = await self._fresh(asked_at)
        return table.active.get(handle, ("", None))[1]

    def signature(self, purpose: str, text: str) -> str:
        """Of a text that this service hands out and wants to know again; hex, another one for each purpose."""
        return self._digest(f"{purpose}\0{text}")

    async def any(self) -> bool:
        """Whether there was ever a key; revoking the last one does not open a service to everybody."""
        return not (await self._fresh(time.monotonic() - CACHE_SECONDS)).empty

    async def all(self) -> list[Key]:
        """Every key, revoked ones too, in the order of their creation."""
        async with self._database.reading() as session:
            return [_known(row) for row in await session.scalars(select(ApiKey).order_by(ApiKey.id))]

    async def revoke(self, key_id: str) -> Key:
        """The key, which opens nothing any more: here at once, elsewhere within 2 seconds. Raises NotFound."""
        async with self._database.session() as session:
            row = await session.get(ApiKey, key_id) if is_id(key_id) else None
            if row is None:
                raise NotFound(f"key {key_id[:LONGEST_NAME]!r}: there is none; `rlt keys list` shows the ids")
            row.revoked_at = row.revoked_at or int(time.time())
        self._table = UNREAD
        return _known(row)

    async def _fresh(self, since: float) -> _Table:
        """The table as it stood at `since` or later; who waits for the same shares one query."""
        if self._table.asked_at >= since:
            return self._table
        async with self._loading:
            if self._table.asked_at < since:
                self._table = await self._load()
        return self._table

    async def _load(self) -> _Table:
        asked_at = time.monotonic()
        async with self._database.reading() as session:
            rows = (await session.scalars(select(ApiKey))).all()
        active = {row.digest[:SELECTOR]: (row.digest, _known(row)) for row in rows if row.revoked_at is None}
        if self._given:
            active[self._given[:SELECTOR]] = (self._given, GIVEN)
        return _Table(asked_at, active, empty=not active and not rows)

    def _digest(self, text: str) -> str:
        return hmac.digest(self._secret, text.encode(errors="replace"), hashlib.sha256).hex()


def _known(row: ApiKey) -> Key:
    return Key(row.id, row.name, tuple(row.scopes), row.created_at, row.revoked_at)


def read_secret(data: Path) -> bytes:
    """The secret under which keys are hashed: RLT_KEY_SECRET, or the file in `data` that only its owner can read."""
    given = _long_enough(SECRET_VARIABLE, os.environ.get(SECRET_VARIABLE, ""))
    if given:
        return given.encode()
    path = data / SECRET_FILE
    if not path.exists():
        _make_secret(path)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise ServerError(f"{path}: others can read it (mode {mode:o}); chmod 600 it, or set {SECRET_VARIABLE}")
    secret = path.read_bytes()
    if len(secret) < SECRET_CHARACTERS:
        raise ServerError(f"{path}: holds {len(secret)} bytes, so it was damaged; remove it and create new keys")
    return secret


def _long_enough(variable: str, given: str) -> str:
    """`given`, unless it is something that could be guessed."""
    if given and len(given) < SECRET_CHARACTERS:
        raise ServerError(
            f"{variable}: has {len(given)} characters; give at least {SECRET_CHARACTERS} random ones "
            "(`openssl rand -hex 32`)"
        )
    return given


def _make_secret(path: Path) -> None:
    """Makes the file whole under another name; of two processes that do so at once the first one's stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    handle = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(secrets.token_hex(32))
        file.flush()
        os.fsync(file.fileno())
    with contextlib.suppress(FileExistsError):
        os.link(made, path)
    made.unlink()


def main(config: KeysConfig) -> None:
    """Creates, lists or revokes. The new key is all that is printed on stdout; remarks go to stderr."""
    asyncio.run(_carry_out(config))


async def _carry_out(config: KeysConfig) -> None:
    data = Path(config.data)
    url = os.environ.get(DATABASE_VARIABLE)
    if config.action != "create" and not url and not (data / FILE).exists():
        raise ServerError(f"--data {config.data}: holds no database of a service; give the data folder of `rlt serve`")
    database = await Database.open(url, data)
    try:
        keys = await Keys.open(database, data)
        await {"create": _create, "list": _list, "revoke": _revoke}[config.action](keys, config)
    finally:
        await database.close()


async def _create(keys: Keys, config: KeysConfig) -> None:
    key, text = await keys.create(config.key or "", config.scopes)
    print(f"{key.id} {key.name}: {_scopes(key)}. The key is shown this once:", file=sys.stderr)
    print(text)


async def _list(keys: Keys, _: KeysConfig) -> None:
    known = await keys.all()
    if not known:
        print("no keys; `rlt keys create --key NAME` makes one", file=sys.stderr)
        return
    rows = [(key.id, key.name, _scopes(key), _day(key.created_at), _day(key.revoked_at)) for key in known]
    print("\n".join(_aligned([("id", "name", "scopes", "created", "revoked"), *rows])))


async def _revoke(keys: Keys, config: KeysConfig) -> None:
    key = await keys.revoke(config.key or "")
    print(f"{key.id} {key.name}: revoked; a running service refuses it within {CACHE_SECONDS:.0f} s", file=sys.stderr)


def _scopes(key: Key) -> str:
    return ", ".join(key.scopes)


def _day(seconds: int | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table, its columns as wide as their widest cell.

    >>> _aligned([("id", "name"), ("key_1", "a")])
    ['id     name', 'key_1  a']
    """
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
