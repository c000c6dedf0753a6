"""The card of an export: made anew of the rows that it was made from, where those lie in a folder with a card.

README.md keeps what the format says of its use, and gains front matter and the parts of a card; pictures and manifests
come along. Exports of other rows keep the README of their format: nothing is known of where those are from. Only the
command does this; in the service the rows of an export are no folder.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
from huggingface_hub import DatasetCard

from student.cards.card import CARD, About, Layout, card_files
from student.cards.census import census_of
from student.cards.recipe import recipe_of
from student.exports.exporter import Export
from student.manifests import MANIFEST
from student.rows import DATASET_ROWS

FIGURES = (
    "The figures below are of all rows that these were made from, those that were dropped included; `export.json` says "
    "which of the rows kept do not fit the format."
)


def write_card(source: Path, folder: Path, title: str, export: Export, settings: Mapping[str, Any]) -> None:
    """Replaces README.md in the folder of an export, if the folder of its rows has a card."""
    rows = source / DATASET_ROWS
    if not (rows.is_file() and (source / CARD).is_file()):
        return
    problems, kept = problems_of(rows)
    recipe = recipe_of(Path(title), settings)
    about = About(title, problems, kept, recipe, layout_of(folder, export))
    for name, data in card_files(census_of(rows), about).items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    if (source / MANIFEST).is_file():
        shutil.copyfile(source / MANIFEST, folder / MANIFEST)


def layout_of(folder: Path, export: Export) -> Layout:
    """What the READMEs of the format say: their data files, a configuration a part, and their text."""
    configs = [
        {**config, "config_name": part or "default", "data_files": str(Path(part) / config["data_files"])}
        for part in export.parts
        for config in _configs(folder / part)
    ]
    written = sum(exporter.counts.written for exporter in export.parts.values())
    return Layout(tuple(configs), written, (_text(folder), FIGURES))


def _configs(folder: Path) -> list[dict[str, str]]:
    named = DatasetCard((folder / CARD).read_text(encoding="utf-8")).data.get("configs") or []
    return [each for each in named if (folder / each["data_files"]).is_file()]


def _text(folder: Path) -> str:
    """Without front matter and title."""
    text = (folder / CARD).read_text(encoding="utf-8")
    return (
        text.partition("\n# ")[2].partition("\n")[2].strip()
        if text.startswith("---")
        else text.partition("\n")[2].strip()
    )


def problems_of(rows: Path) -> tuple[int, int]:
    """How many problems a Parquet file of rows has, and of how many a row is kept."""
    table = pq.read_table(rows, columns=["problem_id", "error", "dropped"])
    kept = pc.and_(pc.is_null(table["error"]), pc.is_null(table["dropped"]))
    ids = table["problem_id"]
    return pc.count_distinct(ids).as_py(), pc.count_distinct(ids.filter(kept)).as_py()
