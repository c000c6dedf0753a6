"""`rlt select`: which explanations become lessons, of a file of any length, and a report of why not the rest.

    filters of one row, test sets  ->  copies of a better row  ->  the best of each problem

The rows are read twice: once to judge each alone and to note what takes all of them, then to write them with every
verdict. Texts are never held, and the same is made each time, so a killed run simply begins again.

    OUT/rows.parquet    all rows: kept, dropped and failed; `rlt distill` trains on the kept ones
    OUT/manifest.jsonl  the manifest of each row, in the same order
    OUT/README.md       the card of the dataset, with pictures in OUT/card
    OUT/report.json     counts a reason, distributions; written last, so a folder that has it is whole
    OUT/settings.json   the settings it was made with

Left out: a selection by other rows than those of one file, and changing any row.
"""

import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TextIO

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from student.cards.card import PICTURES, About, card_files
from student.cards.census import census_of
from student.cards.recipe import recipe_of
from student.config import remember
from student.configs import SelectConfig
from student.curation.contamination import HeldOut
from student.curation.report import SelectionReport, told
from student.curation.selection import Rules, Selection
from student.errors import OutputError, ProblemError
from student.explanations import SCHEMA, Explanation, stream_explanations
from student.manifests import MANIFEST, manifest_of
from student.problem_files import whole_file
from student.rows import DATASET_ROWS
from student.tags import STYLES

REPORT = "report.json"
SETTINGS = "settings.json"
ROWS_AT_A_TIME = 128
"""Rows that are Python objects at once: of 16,384 tokens each they take 100 MB."""
GROUP_ROWS = 8192
"""Rows of one group of the Parquet file at most; sooner where they are long."""
GROUP_BYTES = 32 * 2**20
"""Bytes of such a group, as Arrow holds it."""


def main(config: SelectConfig) -> None:
    """Carries out `rlt select`; raises ProblemError for bad rows and OutputError where OUT cannot be written."""
    out = Path(config.out)
    _check_out(config, out)
    if (out / REPORT).exists():
        remember(config, out / SETTINGS)
        print(f"{out} is complete already, made with these settings: nothing to do")
        return
    out.mkdir(parents=True, exist_ok=True)
    print(f"{out}: {told(select(config, out))}")


def _check_out(config: SelectConfig, out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: is a file; name a folder for the rows and the report")
    if out.resolve() in (Path(config.rows).resolve(), Path(config.rows).resolve().parent):
        raise OutputError(f"{out}: holds the rows themselves; give another --out")


def select(config: SelectConfig, out: Path) -> SelectionReport:
    """Makes the folder of the selection, whole or without a report."""
    held_out = HeldOut.read(config.contamination) if config.contamination.files else None
    rules = Rules(config.filters, config.duplicates, config.ranking, held_out, config.contamination.explanations)
    with Selection(rules, out) as selection:
        for row in tqdm(_rows(config), desc="judging", unit="row", mininterval=1):
            selection.add(row)
        selection.settle()
        (out / SETTINGS).unlink(missing_ok=True)
        remember(config, out / SETTINGS)
        with whole_file(out / MANIFEST) as manifest:
            _write(_told(_judged(config, selection), manifest), len(selection), out / DATASET_ROWS)
        report = selection.report()
    _write_card(config, report, out)
    with whole_file(out / REPORT) as file:
        file.write(report.model_dump_json(indent=2) + "\n")
    return report


def _rows(config: SelectConfig, again: bool = False) -> Iterator[Explanation]:
    """Of all sources, each id once; only the first of them may have bad rows that are set aside."""
    out = Path(config.out)
    aside = None if again else out.with_name(out.name + ".skipped.jsonl")
    tags, seen = STYLES[config.tags], set[int]()
    yield from stream_explanations(config.rows, tags, config.skip_invalid, aside, again=again, seen=seen)
    for source in config.more:
        yield from stream_explanations(source, tags, again=again, seen=seen)


def _judged(config: SelectConfig, selection: Selection) -> Iterator[Explanation]:
    """Every row with all its verdicts; raises ProblemError where the source is not what it was."""
    rows = 0
    for place, row in enumerate(_rows(config, again=True)):
        if place >= len(selection) or row.id != selection.row_id(place):
            break
        yield selection.judged(place, row)
        rows += 1
    if rows != len(selection):
        raise ProblemError(f"{config.rows}: it changed while it was read; run the same command again")


def _told(rows: Iterator[Explanation], manifest: TextIO) -> Iterator[Explanation]:
    """The rows, each with its line in the manifest."""
    for row in rows:
        manifest.write(manifest_of(row).model_dump_json() + "\n")
        yield row


def _write_card(config: SelectConfig, report: SelectionReport, out: Path) -> None:
    recipe = recipe_of(out, config.model_dump(mode="json"))
    about = About(out.resolve().name, report.problems, report.problems_kept, recipe)
    shutil.rmtree(out / PICTURES, ignore_errors=True)
    for name, data in card_files(census_of(out / DATASET_ROWS), about).items():
        with whole_file(out / name, "wb") as file:
            file.write(data)


def _write(rows: Iterator[Explanation], count: int, path: Path) -> None:
    # A bar begins anew each time that it is asked for an iterator, as islice does.
    bar = iter(tqdm(rows, total=count, desc=path.name, unit="row", mininterval=1))
    with whole_file(path, "wb") as file, pq.ParquetWriter(file, SCHEMA, compression="zstd") as writer:
        for group in _groups(bar):
            writer.write_table(group)


def _groups(rows: Iterator[Explanation]) -> Iterator[pa.Table]:
    """The rows as tables, each as large as a row group of Parquet should be."""
    held: list[pa.Table] = []
    while some := [row.model_dump() for row in islice(rows, ROWS_AT_A_TIME)]:
        held.append(pa.Table.from_pylist(some, SCHEMA))
        if sum(map(len, held)) >= GROUP_ROWS or sum(table.nbytes for table in held) >= GROUP_BYTES:
            yield pa.concat_tables(held)
            held.clear()
    if held:
        yield pa.concat_tables(held)
