"""Units of input: each reads exactly its own items, and a fault of the input is told as what it is."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from server.jobs import unit_inputs
from server.jobs.unit_inputs import Item, UnitInputs
from server.state.storage import Storage
from student.errors import ProblemError

SCHEMA = pa.schema([("number", pa.int64())])


def items(count: int, fault: Exception | None = None) -> Iterator[Item]:
    yield from ({"number": number} for number in range(count))
    if fault is not None:
        raise fault


async def inputs_in(folder: Path, unit_items: int) -> UnitInputs:
    return UnitInputs(await Storage.open(None, folder), "jobs/ds_1/problems", SCHEMA, unit_items)


@pytest.mark.parametrize("count", [0, 1, 3, 6, 7, 25])
def test_every_item_is_in_exactly_one_unit(count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit_inputs, "FILE_ITEMS", 7)  # two units of three a file

    async def written_and_read() -> None:
        inputs = await inputs_in(tmp_path, 3)
        assert await inputs.write(items(count)) == count
        units = [await inputs.read(number) for number in range(inputs.units(count))]
        assert [item["number"] for unit in units for item in unit] == list(range(count))
        assert [len(unit) for unit in units] == [inputs.unit_items(number, count) for number in range(len(units))]

    asyncio.run(written_and_read())


@pytest.mark.parametrize("count", [0, 2, 3, 8, 12])
def test_what_the_input_raises_comes_out_as_it_is(count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit_inputs, "FILE_ITEMS", 4)

    async def written() -> None:
        await (await inputs_in(tmp_path, 2)).write(items(count, ProblemError("line 9 is torn")))

    with pytest.raises(ProblemError, match="line 9 is torn"):
        asyncio.run(written())
