"""Exports of a folder with a card have a card: what the format says stays, and what the rows are is told."""

from pathlib import Path

import datasets
import pytest
from huggingface_hub import DatasetCard

from student.configs import ExportConfig, SelectConfig
from student.curation import select
from student.errors import OutputError
from student.exports.export import main
from student.exports.names import ExportName
from student.push import check_card
from tests.student.cards.rows import row


@pytest.fixture(scope="module")
def selected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of `rlt select`: twelve problems of one row each, of which two are dropped."""
    folder = tmp_path_factory.mktemp("select")
    rows = [
        row(
            problem_id=f"p{number}", reward=-number, license="MIT", explanation=f"Way {number}.", answer="2"
        ).model_copy(update={"question": f"What is 1 + 1, asked for the {number}th time?"})
        for number in range(12)
    ]
    (folder / "scored.jsonl").write_text("".join(each.model_dump_json() + "\n" for each in rows))
    asked = {"filters": {"at_least": {"reward": -9}}, "duplicates": {"compare": "nothing"}}
    select.main(SelectConfig(rows=str(folder / "scored.jsonl"), out=str(folder / "selected"), **asked))
    return folder / "selected"


def exported(rows: Path, form: ExportName, out: Path) -> Path:
    main(ExportConfig(rows=str(rows), format=form, out=str(out)))
    return out


def test_an_export_has_the_card_of_its_rows_and_keeps_what_its_format_says(selected: Path, tmp_path: Path) -> None:
    folder = exported(selected, "trl-messages", tmp_path / "lessons")
    plain = exported(selected / "rows.parquet", "trl-messages", tmp_path / "plain")
    card = DatasetCard((folder / "README.md").read_text())
    said = DatasetCard((plain / "README.md").read_text()).text.partition("\n")[2].strip()
    assert said in card.text
    assert card.data.get("license") == "mit"
    assert "12 explanations" in card.text
    assert "of 12 problems; 10 of them are kept" in card.text
    assert '"format": "trl-messages"' in card.text  # the recipe: this export,
    assert '"reward": -9.0' in card.text  # then the selection
    assert (folder / "card" / "reward.png").read_bytes() == (selected / "card" / "reward.png").read_bytes()
    assert (folder / "manifest.jsonl").read_bytes() == (selected / "manifest.jsonl").read_bytes()
    check_card(folder)
    assert card.data.get("configs") == DatasetCard((plain / "README.md").read_text()).data.get("configs")
    loaded = datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    assert (len(loaded), loaded.column_names[0]) == (10, "messages")


def test_a_cold_start_has_one_card_over_both_of_its_files(selected: Path, tmp_path: Path) -> None:
    folder = exported(selected, "cold-start", tmp_path / "cold")
    check_card(folder)
    sizes = {
        part: len(datasets.load_dataset(str(folder), part, split="train", cache_dir=str(tmp_path / "cache")))
        for part in ("sft", "rl")
    }
    assert sum(sizes.values()) == 10
    assert all(sizes.values())


def test_an_export_that_load_dataset_does_not_read_names_no_files(selected: Path, tmp_path: Path) -> None:
    folder = exported(selected, "hf-datasets", tmp_path / "saved")
    assert DatasetCard((folder / "README.md").read_text()).data.get("configs") is None
    check_card(folder)
    assert len(datasets.load_from_disk(str(folder))) == 10


def test_an_export_of_rows_without_a_card_has_none(selected: Path, tmp_path: Path) -> None:
    folder = exported(selected / "rows.parquet", "trl-messages", tmp_path / "lessons")
    assert not (folder / "card").exists()
    with pytest.raises(OutputError, match="names no license"):
        check_card(folder)
