"""Which weights are served, known to all processes of a service: the table `weights`, or one process's memory.

A name's epoch is odd while its weights are being exchanged and grows with every exchange, so whoever sees the same even
epoch before and after a piece of work knows that one set of weights did it all.
"""

from dataclasses import dataclass, replace
from typing import Protocol

from sqlalchemy import delete, select, update

from server.errors import WrongState
from server.state.database import Database
from server.state.tables import Weights


@dataclass(frozen=True)
class Entry:
    """Weights under a name."""

    name: str
    adapter: bool
    folder: str
    digest: str
    """Of the files in the folder."""
    epoch: int = 0

    @property
    def changing(self) -> bool:
        """An exchange is going on."""
        return self.epoch % 2 == 1

    def same_weights(self, other: "Entry") -> bool:
        """Whether both come from the same bytes in the same place."""
        return (self.folder, self.digest) == (other.folder, other.digest)


class WeightsLedger(Protocol):
    """What is served."""

    async def entries(self) -> dict[str, Entry]:
        """By name."""

    async def begin(self, name: str) -> None:
        """An exchange begins: the epoch becomes odd. Raises WrongState where somebody else is at one."""

    async def settle(self, entry: Entry) -> Entry:
        """From now on `entry` is served, under the next even epoch, which is in what comes back."""

    async def forget(self, name: str) -> None:
        """The name is served no longer."""


def next_even(epoch: int) -> int:
    """The epoch after an exchange, whether its beginning was noted or not.

    >>> next_even(0), next_even(1), next_even(2)
    (2, 2, 4)
    """
    return epoch + 2 - epoch % 2


class MemoryLedger:
    """For one process alone."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}

    async def entries(self) -> dict[str, Entry]:
        """By name."""
        return dict(self._entries)

    async def begin(self, name: str) -> None:
        """See WeightsLedger."""
        if name in self._entries:
            self._entries[name] = replace(self._entries[name], epoch=self._entries[name].epoch + 1)

    async def settle(self, entry: Entry) -> Entry:
        """See WeightsLedger."""
        before = self._entries.get(entry.name)
        self._entries[entry.name] = replace(entry, epoch=next_even(before.epoch if before else 0))
        return self._entries[entry.name]

    async def forget(self, name: str) -> None:
        """See WeightsLedger."""
        self._entries.pop(name, None)


class DatabaseLedger:
    """For all processes that share a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def entries(self) -> dict[str, Entry]:
        """By name."""
        async with self._database.reading() as session:
            return {row.name: _entry(row) for row in await session.scalars(select(Weights))}

    async def begin(self, name: str) -> None:
        """See WeightsLedger; of two processes that begin at once only one does."""
        async with self._database.session() as session:
            claimed = await session.scalar(
                update(Weights)
                .where(Weights.name == name, Weights.epoch % 2 == 0)
                .values(epoch=Weights.epoch + 1)
                .returning(Weights.name)
            )
        if claimed is None:
            raise WrongState(
                f"the weights of {name!r} are being exchanged by another call; wait for it, or restart the service if "
                "it was killed in the middle"
            )

    async def settle(self, entry: Entry) -> Entry:
        """See WeightsLedger."""
        async with self._database.session() as session:
            row = await session.get(Weights, entry.name, with_for_update=True)
            settled = replace(entry, epoch=next_even(row.epoch if row else 0))
            await session.merge(Weights(**vars(settled)))
        return settled

    async def forget(self, name: str) -> None:
        """See WeightsLedger."""
        async with self._database.session() as session:
            await session.execute(delete(Weights).where(Weights.name == name))


def _entry(row: Weights) -> Entry:
    return Entry(row.name, row.adapter, row.folder, row.digest, row.epoch)
