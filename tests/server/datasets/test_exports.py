"""Exports: what is downloaded is what was put in, for the readers that people have, in memory that does not grow."""

import asyncio
import gc
import io
import json
import re
import tarfile
import tracemalloc
import zipfile
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from server.datasets.archives import Source
from server.datasets.exports import DOWNLOADS, ExportQuery, RowsFormat
from server.datasets.shards import Include, chosen
from student.configs import ExportConfig, SelectConfig
from student.curation import select
from student.errors import ProblemError
from student.explanations import SCHEMA, Explanation, Score, read_explanations
from student.exports import encoders
from student.exports.export import main
from student.exports.names import ExportName, FileType, FormatName
from student.exports.registry import FORMATS
from student.measures.results import Measures, Step
from student.tags import RLT

DATASET = Source("ds_1", 1_700_000_000)


def rows(count: int, first: int = 0) -> list[Explanation]:
    return [
        Explanation(
            problem_id=f"p{number // 2}",
            sample=number % 2,
            question="1 + 1?",
            solution="2",
            explanation=f"Zwei – \u2028 number {number}\n",
            token_ids=(1, 2, number),
            closed=True,
            finished=True,
            seed=number,
            temperature=0.7,
            score=Score(reward=-0.1 * number, rss=-1e-7, ss_mean=0.0, ss_min=0.0) if number % 3 else None,
        )
        for number in range(first, first + count)
    ]


def table(made: list[Explanation], include: Include = "ok") -> pa.Table:
    schema = SCHEMA
    return chosen(pa.Table.from_pylist([row.model_dump() for row in made], schema), include)


async def _each(tables: Iterable[pa.Table]) -> AsyncIterator[pa.Table]:
    for one in tables:
        yield one


def exported(form: RowsFormat, tables: Iterable[pa.Table]) -> bytes:
    return downloaded(ExportQuery(format=form), list(tables))


def downloaded(asked: ExportQuery, tables: Sequence[pa.Table]) -> bytes:
    """A whole download of these tables, whichever rows it asks for."""

    async def joined() -> bytes:
        chunks = DOWNLOADS[asked.format].chunks(DATASET, asked, lambda _: _each(tables))
        return b"".join([data async for data in chunks])

    return asyncio.run(joined())


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_an_export_is_read_by_the_other_verbs(form: RowsFormat, tmp_path: Path) -> None:
    path = tmp_path / f"rows.{form}"
    path.write_bytes(exported(form, [table(rows(3)), table(rows(5, 3))]))
    assert read_explanations(str(path), RLT) == rows(8)


def test_a_tar_holds_a_folder_that_datasets_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(encoders, "GROUP_ROWS", 4)
    with tarfile.open(fileobj=io.BytesIO(exported("datasets", [table(rows(3)), table(rows(6, 3))]))) as tar:
        tar.extractall(tmp_path, filter="data")
    loaded = datasets.load_from_disk(str(tmp_path / "ds_1"))
    assert len(list((tmp_path / "ds_1").glob("*.arrow"))) == 2
    assert [Explanation.model_validate(row) for row in loaded] == rows(9)
    # The folder is one that rlt's own verbs read too.
    assert read_explanations(str(tmp_path / "ds_1"), RLT) == rows(9)


@pytest.mark.parametrize("form", ["jsonl", "parquet", "datasets"])
def test_an_export_without_rows_is_a_whole_file(form: RowsFormat, tmp_path: Path) -> None:
    import datasets

    data = exported(form, [])
    if form == "jsonl":
        assert data == b""
    elif form == "parquet":
        assert pq.read_table(io.BytesIO(data)).schema.equals(SCHEMA)
    else:
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            tar.extractall(tmp_path, filter="data")
        assert len(datasets.load_from_disk(str(tmp_path / "ds_1"))) == 0


def test_a_line_is_one_that_json_reads_although_the_text_holds_line_separators() -> None:
    lines = exported("jsonl", [table(rows(2))]).split(b"\n")
    assert [json.loads(line)["explanation"] for line in lines[:2]] == [row.explanation for row in rows(2)]
    assert lines[2:] == [b""]


def unpacked(asked: ExportQuery, tables: Iterable[pa.Table], folder: Path) -> dict[str, bytes]:
    """The files of a trainer's format as it is handed out, by their path in it."""
    with zipfile.ZipFile(io.BytesIO(downloaded(asked, list(tables)))) as archive:
        archive.extractall(folder)
    return files_of(folder / f"ds_1-{asked.format}")


def files_of(folder: Path) -> dict[str, bytes]:
    """What a folder holds, but for the settings of a command."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "settings.json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize(
    ("form", "file_type"),
    [*((name, kind) for name, form in FORMATS.items() for kind in form.file_types), ("cold-start", "parquet")],
)
def test_a_trainers_format_is_the_very_folder_that_rlt_export_writes(
    form: ExportName, file_type: FileType, tmp_path: Path
) -> None:
    step = Measures(steps=(Step(start=0, stop=9, credit=0.5),))
    told = {"measures": step, "answer": "2"}
    made = [row.model_copy(update={**told, "question": f"{row.problem_id}?"}) for row in rows(9)]
    shards = [table(made[first : first + 4]) for first in (0, 4, 8)]  # whole problems, as units are
    pq.write_table(pa.concat_tables(shards), tmp_path / "rows.parquet", row_group_size=4)
    asked = {"format": form, "file_type": file_type}
    main(ExportConfig.model_validate({"rows": str(tmp_path / "rows.parquet"), "out": str(tmp_path / "out"), **asked}))
    assert unpacked(ExportQuery.model_validate(asked), shards, tmp_path) == files_of(tmp_path / "out")


def test_a_cold_start_that_lacks_one_of_its_files_sends_no_byte() -> None:
    encoder = DOWNLOADS["cold-start"].encoder(DATASET, ExportQuery(format="cold-start"))
    assert encoder.add(table(rows(9))) == b""  # one question: all of its rows fall to one file
    with pytest.raises(ProblemError, match=r"ds_1: of its 9 rows none fell to"):
        encoder.end()


def test_a_trainers_format_of_which_there_is_no_row_sends_no_byte(tmp_path: Path) -> None:
    encoder = DOWNLOADS["trl-stepwise"].encoder(DATASET, ExportQuery(format="trl-stepwise"))
    assert encoder.add(table(rows(9))) == b""
    with pytest.raises(ProblemError, match=r"ds_1: none of 9 rows is one to train on .* 9 no step credits"):
        encoder.end()


def test_the_folder_is_that_of_rlt_select_with_the_same_manifests_and_card(tmp_path: Path) -> None:
    made = [row.model_copy(update={"question": f"{row.problem_id}?", "license": "MIT"}) for row in rows(9)]
    given = tmp_path / "rows.jsonl"
    given.write_text("".join(row.model_dump_json() + "\n" for row in made), encoding="utf-8")
    out = tmp_path / "selected"
    asked = {"filters": {"at_least": {"reward": -0.5}}, "duplicates": {"compare": "nothing"}}
    select.main(SelectConfig.model_validate({"rows": str(given), "out": str(out), **asked}))
    judged = read_explanations(str(out), RLT)
    shards = [table(judged[first : first + 4], "all") for first in (0, 4, 8)]
    with zipfile.ZipFile(io.BytesIO(downloaded(ExportQuery(format="folder"), shards))) as archive:
        archive.extractall(tmp_path)
    folder = tmp_path / "ds_1"
    assert read_explanations(str(folder), RLT) == judged
    theirs, ours = files_of(out), files_of(folder)
    assert theirs.keys() == ours.keys() | {"report.json"}
    differing = {name for name, data in ours.items() if data != theirs[name]}
    assert differing == {"README.md"}  # another title and recipe
    sections = [re.split(r"^# .*$|^<details>.*</details>$", text.decode(), flags=re.M | re.S) for text in (
        ours["README.md"], theirs["README.md"]
    )]  # fmt: skip
    assert sections[0] == sections[1]
    manifests = downloaded(ExportQuery(format="manifest", include="all"), shards)
    assert manifests == theirs["manifest.jsonl"]


def test_a_folder_without_rows_is_whole_and_has_a_card(tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(downloaded(ExportQuery(format="folder"), []))) as archive:
        assert {name.removeprefix("ds_1/") for name in archive.namelist()} == {
            "rows.parquet",
            "manifest.jsonl",
            "README.md",
        }
        assert b"0 explanations" in archive.read("ds_1/README.md")


@pytest.mark.parametrize(
    "form",
    ["jsonl", "parquet", "datasets", "folder", "trl-messages", "hf-datasets", "trl-preference"],
)
def test_six_times_the_rows_take_no_more_memory(form: RowsFormat | FormatName, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "GROUP_ROWS", 400)
    random = Random(0)
    shard = table([row.model_copy(update={"explanation": random.randbytes(4000).hex()}) for row in rows(100)])

    async def peak(shards: int) -> int:
        chunks = DOWNLOADS[form].chunks(DATASET, ExportQuery(format=form), lambda _: _each([shard] * shards))
        gc.collect()  # what earlier tests left, freed meanwhile, would be taken off the peak
        before = pa.total_allocated_bytes()
        most = 0
        tracemalloc.start()
        async for _ in chunks:
            most = max(most, pa.total_allocated_bytes() - before)
        _, python = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most + python

    asyncio.run(peak(12))
    assert asyncio.run(peak(72)) < 1.5 * asyncio.run(peak(12))
