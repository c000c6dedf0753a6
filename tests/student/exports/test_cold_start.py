"""A cold start: no question in both files, every row traced to its problem, every truth one that the scorers read."""

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from datasets import load_dataset
from math_verify import parse

from student.configs import ExportConfig
from student.curation.words import words
from student.errors import ConfigError, ProblemError
from student.explanations import Explanation
from student.exports.cold_start import side_of
from student.exports.export import main
from student.exports.ground_truths import NO_ANSWER, UNPARSED
from student.exports.names import RlFormat, SftFormat
from student.exports.registry import FORMATS
from tests.student.exports.lessons import explained, write_parquet

ROWS = [explained(str(number), sample, float(sample)) for number in range(40) for sample in range(2)]


def export(rows: list[Explanation], folder: Path, **settings: Any) -> Path:
    """The folder of a cold start."""
    source, out = write_parquet(rows, folder / "rows.parquet"), folder / "out"
    main(ExportConfig.model_validate({"rows": str(source), "format": "cold-start", "out": str(out), **settings}))
    return out


def loaded(folder: Path) -> list[dict[str, Any]]:
    """The rows of a part as `datasets` finds them by its README."""
    return list(load_dataset(str(folder), split="train", cache_dir=str(folder.parent.parent / "cache")))


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return [row["rlt_problem_id"] for row in rows]


def test_every_problem_is_in_one_file_and_has_its_id_there(tmp_path: Path) -> None:
    out = export(ROWS, tmp_path)
    sft, rl = ids(loaded(out / "sft")), ids(loaded(out / "rl"))
    expected = [side_of(f"What is {number}?", 0.5, 0) for number in range(40)]
    assert sft == [str(number) for number in range(40) if expected[number] == "sft" for _ in range(2)]
    assert rl == [str(number) for number in range(40) if expected[number] == "rl"]
    assert len(rl) == 22  # pinned: the split of a source never changes
    report = json.loads((out / "export.json").read_text())
    assert (report["read"], report["sft"]["written"], report["rl"]["written"]) == (80, 36, 22)
    assert report["split"] == {"by": "the words of the question", "rl_share": 0.5, "seed": 0}


def test_a_problem_stays_on_its_side_whatever_rows_are_around_it(tmp_path: Path) -> None:
    (tmp_path / "few").mkdir()
    few = export(ROWS[::-1][:50], tmp_path / "few")
    all_of_them = export(ROWS, tmp_path)
    for part in ("sft", "rl"):
        assert set(ids(loaded(few / part))) < set(ids(loaded(all_of_them / part)))


def test_a_question_that_comes_again_with_another_solution_or_other_spacing_falls_to_the_same_side(
    tmp_path: Path,
) -> None:
    again = [
        row.model_copy(update={"problem_id": f"again-{row.problem_id}", "question": f"what  is ${row.problem_id}$"})
        for row in ROWS
    ]
    out = export([*ROWS, *again], tmp_path)
    sft, rl = (set(ids(loaded(out / part))) for part in ("sft", "rl"))
    assert len(sft | rl) == 80
    assert {name.removeprefix("again-") for name in sft}.isdisjoint(name.removeprefix("again-") for name in rl)


def test_another_seed_is_another_split_and_the_share_is_kept() -> None:
    questions = [f"What is {number}?" for number in range(2000)]
    quarter = [side_of(question, 0.25, 7) for question in questions]
    assert abs(quarter.count("rl") - 500) < 60  # three standard deviations of a fair draw
    assert quarter != [side_of(question, 0.25, 8) for question in questions]


@pytest.mark.parametrize(
    ("sft", "rl"),
    [(sft, "verl-rl") for sft in get_args(SftFormat)] + [("trl-messages", rl) for rl in get_args(RlFormat)],
)
def test_each_part_is_the_export_of_its_problems_in_that_format(sft: SftFormat, rl: RlFormat, tmp_path: Path) -> None:
    out = export(ROWS, tmp_path, sft_format=sft, rl_format=rl, rl_share=0.3, split_seed=5)
    for part, form in (("sft", sft), ("rl", rl)):
        rows = [row for row in ROWS if side_of(row.question, 0.3, 5) == part]
        source = write_parquet(rows, tmp_path / f"{part}.parquet")
        alone = tmp_path / part
        kind = FORMATS[form].file_types[0]
        options = {"sft_format": sft, "rl_format": rl, "rl_share": 0.3, "split_seed": 5, "file_type": kind}
        main(ExportConfig.model_validate({"rows": str(source), "format": form, "out": str(alone), **options}))
        (alone / "settings.json").unlink()
        assert {path.name: path.read_bytes() for path in (out / part).iterdir()} == {
            path.name: path.read_bytes() for path in alone.iterdir()
        }


def test_a_problem_whose_truth_no_scorer_reads_is_left_out_of_the_rl_file_with_the_reason(tmp_path: Path) -> None:
    for_rl = [row for row in ROWS if side_of(row.question, 0.5, 0) == "rl"]
    changes: list[dict[str, Any]] = [{"answer": "}{"}, {"answer": None, "solution": "It is so."}]
    changed = {row.problem_id: change for row, change in zip(for_rl[::2], changes, strict=False)}
    out = export([row.model_copy(update=changed.get(row.problem_id, {})) for row in ROWS], tmp_path)
    rows = loaded(out / "rl")
    assert ids(rows) == [row.problem_id for row in for_rl[::2]][2:]
    assert all(parse(f"\\boxed{{{row['reward_model']['ground_truth']}}}") for row in rows)
    refused = json.loads((out / "export.json").read_text())["rl"]["refused"]
    assert (refused[UNPARSED], refused[NO_ANSWER]) == (1, 1)


def test_where_a_file_would_be_empty_it_is_said_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match=r"of its 2 rows none fell to (sft|rl); take more problems"):
        export(ROWS[:2], tmp_path)
    assert not (tmp_path / "out").exists()
    bare = [row.model_copy(update={"answer": None, "solution": "So."}) for row in ROWS]
    with pytest.raises(ProblemError, match=r"\(its RL part\): none of 44 rows .* 22 no answer"):
        export(bare, tmp_path)


def test_rows_without_their_problems_id_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="have problem_id among --columns"):
        export(ROWS, tmp_path, columns=["id"])


def test_a_row_at_fault_is_named_by_its_place_in_the_source(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match=r"rows\.parquet: row 41 has no solution"):
        export([*ROWS[:40], ROWS[40].model_copy(update={"solution": ""})], tmp_path)


def test_no_two_questions_of_these_tests_have_the_same_words() -> None:
    assert len({tuple(words(row.question)) for row in ROWS}) == 40
