"""Idempotency-Key: a request that is sent again, because its answer was lost, makes nothing anew.

The key is remembered for a day with a fingerprint of the body and the id of what was made. It is claimed in the very
transaction that makes the thing, so either both are there or neither; of two requests at once the database lets one
wait for the other. `Jobs.create(..., once=Claim.of(...))` does all of it.
"""

import hashlib
import time
from dataclasses import dataclass
from typing import Self

from sqlalchemy import delete
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from server.errors import Invalid, KeyReused
from server.state.tables import Idempotency

HEADER = "Idempotency-Key"
REMEMBERED_SECONDS = 24 * 3600
LONGEST_KEY = 255


@dataclass(frozen=True)
class Claim:
    """A request with an Idempotency-Key, as the table knows it."""

    key: str
    """Hash of route, caller and key: two callers may use the same key, for different things."""
    fingerprint: str
    """SHA-256 of the body, hex."""

    @classmethod
    def of(cls, route: str, caller: str, key: str | None, body: bytes) -> Self | None:
        """The claim of a request; None where it carries no key. Raises Invalid where that is empty, long or odd.

        >>> one, other = (Claim.of("POST /v1/datasets", caller, "a", b"{}") for caller in ("key_1", "key_2"))
        >>> one.key == other.key, one.fingerprint == other.fingerprint
        (False, True)
        """
        if key is None:
            return None
        if not 0 < len(key) <= LONGEST_KEY or not (key.isascii() and key.isprintable()):
            raise Invalid(
                f"{HEADER} {key[:60]!r}: must be 1 to {LONGEST_KEY} printable ASCII characters; use a random one",
                param=HEADER,
            )
        parts = "\0".join((route, caller, key))
        return cls(hashlib.sha256(parts.encode()).hexdigest(), hashlib.sha256(body).hexdigest())

    async def earlier(self, session: AsyncSession, resource: str) -> str | None:
        """None: go on and make `resource`, in this session. Else the id of what an earlier request with this key made.

        Raises KeyReused where that request had another body.
        """
        now = int(time.time())
        await session.execute(delete(Idempotency).where(Idempotency.created_at <= now - REMEMBERED_SECONDS))
        insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
        row = {"key": self.key, "fingerprint": self.fingerprint, "resource": resource, "created_at": now}
        # Waits where another transaction holds the key: until that one commits, or gives it back.
        inserted = insert(Idempotency).values(row).on_conflict_do_nothing().returning(Idempotency.key)
        if await session.scalar(inserted) is not None:
            return None
        made = await session.get_one(Idempotency, self.key)
        if made.fingerprint != self.fingerprint:
            raise KeyReused(
                f"this {HEADER} was used with another body; send that body again, or take a new key", param=HEADER
            )
        return made.resource
