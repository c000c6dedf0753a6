"""Choosing explanations: filters, copies, the best of each problem, the folder that is written, and its report."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from student.config import parse_command
from student.configs import SelectConfig
from student.curation.filters import filtered
from student.curation.ranking import rank, ranked
from student.curation.report import SelectionReport
from student.curation.select import main, select
from student.curation.settings import Duplicates, Filters, Ranking
from student.errors import ConfigError, OutputError, ProblemError
from student.explanations import SCHEMA, Explanation, Score, Verdict, read_explanations
from student.manifests import Manifest, manifest_of
from student.measures.results import Measures
from student.tags import RLT


def row(problem: str = "a", sample: int = 0, reward: float | None = None, **values: Any) -> Explanation:
    """An explanation of its own words unless told otherwise."""
    score = None if reward is None else Score(reward=reward, rss=reward, ss_mean=-1, ss_min=-2)
    given = {"explanation": f"{problem} {sample}", "closed": True, "finished": True} | values
    return Explanation(problem_id=problem, sample=sample, question="1 + 1?", solution="2", score=score, **given)


def chosen(folder: Path, rows: list[Explanation], **asked: Any) -> list[Explanation]:
    """The rows as `rlt select` leaves them in its folder."""
    return reported(folder, rows, **asked)[0]


def reported(folder: Path, rows: list[Explanation], **asked: Any) -> tuple[list[Explanation], SelectionReport]:
    source, out = folder / "rows.jsonl", folder / "out"
    source.write_text("".join(each.model_dump_json() + "\n" for each in rows))
    out.mkdir(exist_ok=True)
    report = select(SelectConfig(rows=str(source), out=str(out), **asked), out)
    return read_explanations(str(out), RLT), report


def test_every_filter_is_asked_and_the_first_that_fails_drops_the_row() -> None:
    filters = Filters(closed=True, finished=True, at_least={"reward": -1.0}, at_most={"leak": 0.5})
    judged = filtered(row(reward=-2, finished=False, measures=Measures(leak=0.25)), filters)
    assert judged.verdicts == (
        Verdict(filter="closed", kept=True),
        Verdict(filter="finished", kept=False, detail="it was cut by max_tokens or the context"),
        Verdict(filter="at_least.reward", kept=False, detail="its reward is -2, the bound -1"),
        Verdict(filter="at_most.leak", kept=True, detail="its leak is 0.25, the bound 0.5"),
    )
    assert judged.dropped == "finished: it was cut by max_tokens or the context"
    assert not judged.kept


def test_a_bound_keeps_the_value_that_equals_it() -> None:
    filters = Filters(at_least={"reward": -1.0}, at_most={"rss": -1.0})
    assert filtered(row(reward=-1), filters).kept


def test_a_row_without_the_measure_fails_the_bound_and_says_why() -> None:
    judged = filtered(row(unscored="413 tokens"), Filters(at_least={"reward": -9}))
    assert judged.dropped == "at_least.reward: it has no reward (413 tokens)"


@pytest.mark.parametrize(("verified", "kept"), [(True, True), (False, False), (None, False)])
def test_only_a_right_answer_is_verified(verified: bool | None, kept: bool) -> None:
    judged = filtered(row(measures=Measures(verified=verified)), Filters(verified=True))
    assert judged.kept is kept


def test_a_failed_row_is_asked_nothing_and_is_not_dropped() -> None:
    judged = filtered(row(error="too long", closed=False), Filters(closed=True))
    assert (judged.verdicts, judged.dropped, judged.kept) == ((), None, False)


def test_a_selection_forgets_the_one_before() -> None:
    dropped = filtered(row(closed=False), Filters(closed=True))
    assert filtered(dropped, Filters()) == row(closed=False)


def test_the_best_of_each_problem_are_kept_and_equals_in_the_order_of_the_file() -> None:
    rows = [row("a", 0, -3), row("a", 1, -1), row("b", 0, -9), row("a", 2, -1), row("a", 3)]
    best = ranked(rows, Ranking(keep=1))
    assert [each.kept for each in best] == [False, True, True, False, False]
    assert best[3].dropped == "best_of: place 2 of 4 by reward"
    assert best[4].dropped == "best_of: place 4 of 4 by reward"


def test_a_measure_that_is_better_when_lower_ranks_the_lowest_first() -> None:
    rows = [row(sample=sample, measures=Measures(leak=leak)) for sample, leak in enumerate([0.5, 0.0, 1.0])]
    assert [each.kept for each in ranked(rows, Ranking(keep=2, by="leak"))] == [True, True, False]


def test_only_rows_that_are_left_are_ranked() -> None:
    given = [row(sample=0, reward=-1, closed=False), row(sample=1, reward=-2)]
    rows = [filtered(each, Filters(closed=True)) for each in given]
    assert [each.kept for each in ranked(rows, Ranking(keep=1))] == [False, True]


def test_ranking_goes_by_any_measure_and_rows_without_it_come_last() -> None:
    rows = [row(sample=0), row(sample=1, reward=-2), row(sample=2, reward=-1)]
    assert [each.sample for each in rank(rows, "reward", 3)] == [2, 1, 0]
    assert [each.sample for each in rank(rows, None, 2)] == [0, 1]


def test_copies_that_differ_by_case_space_and_punctuation_are_dropped_and_name_the_first(tmp_path: Path) -> None:
    texts = ["Add 1 + 1.", "add  1 + 1", "Add 1 - 1.", "ADD\n1 + 1?"]
    rows = [row(sample=sample, explanation=text) for sample, text in enumerate(texts)]
    made = chosen(tmp_path, rows, duplicates=Duplicates(similarity=1))
    reason = "duplicates: a copy of a-0 (the same text)"
    assert [each.dropped for each in made] == [None, reason, None, reason]


def test_of_copies_the_best_ranked_stays(tmp_path: Path) -> None:
    rows = [row("a", 0, -2, explanation="so"), row("b", 0, -1, explanation="So!"), row("c", 0, explanation="so")]
    assert [each.kept for each in chosen(tmp_path, rows)] == [False, True, False]


def test_a_copy_of_a_dropped_row_is_no_copy(tmp_path: Path) -> None:
    rows = [row(sample=0, explanation="so", closed=False), row(sample=1, explanation="so")]
    assert [each.kept for each in chosen(tmp_path, rows, filters=Filters(closed=True))] == [False, True]


def test_copies_take_no_place_among_the_best(tmp_path: Path) -> None:
    rows = [row(sample=sample, reward=reward, explanation=f"{-reward}") for sample, reward in enumerate([-1, -1, -2])]
    assert [each.kept for each in chosen(tmp_path, rows, ranking=Ranking(keep=2))] == [True, False, True]
    off = {"ranking": Ranking(keep=2), "duplicates": Duplicates(compare="nothing")}
    assert [each.kept for each in chosen(tmp_path, rows, **off)] == [True, True, False]


def test_the_same_question_drops_the_whole_problem_and_never_a_problems_own_rows(tmp_path: Path) -> None:
    rows = [row("a", 0, -2), row("a", 1, -3), row("b", 0, -1), row("b", 1, -4)]
    made = chosen(tmp_path, rows, duplicates=Duplicates(compare="question"))
    assert [each.kept for each in made] == [False, False, True, True]
    assert made[0].dropped == "duplicates: a copy of b-0 (the same text)"


def test_rows_of_a_problem_need_not_stand_together(tmp_path: Path) -> None:
    rows = [row("a", 0, -3), row("b", 0, -1), row("a", 1, -2)]
    assert [each.kept for each in chosen(tmp_path, rows, ranking=Ranking(keep=1))] == [False, True, True]


def test_a_verdict_is_left_by_each_step_that_judged_a_row(tmp_path: Path) -> None:
    rows = [row(sample=0, reward=-1), row(sample=1, reward=-2), row(sample=2, reward=-9)]
    made = chosen(tmp_path, rows, filters=Filters(at_least={"reward": -5}), ranking=Ranking(keep=1))
    assert [[verdict.filter for verdict in each.verdicts] for each in made] == [
        ["at_least.reward", "duplicates", "best_of"],
        ["at_least.reward", "duplicates", "best_of"],
        ["at_least.reward"],
    ]
    assert made[1].dropped == "best_of: place 2 of 2 by reward"


def test_the_report_counts_reasons_and_measures_kept_and_dropped(tmp_path: Path) -> None:
    rows = [row("a", 0, -1), row("a", 1, -3), row("b", 0, -8, closed=False), row("c", 0, error="too long")]
    _, report = reported(tmp_path, rows, filters=Filters(closed=True, at_least={"reward": -5}))
    assert (report.given, report.kept, report.failed, report.problems, report.problems_kept) == (4, 2, 1, 3, 1)
    assert report.dropped == {"closed": 1}
    assert report.failed_by == {"closed": 1, "at_least.reward": 1}
    reward = report.measures["reward"]
    assert reward.kept is not None
    assert reward.dropped is not None
    # Of -1 and -3: mean -2, a quarter of the way up from -3 is -2.5.
    assert (reward.kept.rows, reward.kept.mean) == (2, -2)
    assert reward.kept.quantiles["0.25"] == -2.5
    assert reward.dropped.quantiles == dict.fromkeys(reward.dropped.quantiles, -8)
    assert (reward.kept.histogram[-1], reward.dropped.histogram[0]) == (1, 1)
    assert sum(reward.kept.histogram) == 2
    assert "gain" not in report.measures


def arguments(source: Path, out: Path, *flags: str) -> SelectConfig:
    asked = ["--rows", str(source), "--out", str(out), *flags]
    config = parse_command(SelectConfig, "select", asked, "")
    assert isinstance(config, SelectConfig)
    return config


def source_of(folder: Path, rows: list[Explanation]) -> Path:
    source = folder / "rows.jsonl"
    source.write_text("".join(each.model_dump_json() + "\n" for each in rows))
    return source


def test_all_rows_stay_in_the_folder_which_is_read_as_explanations(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row("a", 0, -1), row("a", 1, -2), row("b", 0, error="too long")]
    source, out = source_of(tmp_path, rows), tmp_path / "selected"
    config = arguments(source, out, "--filters.at-least", "reward=-1.5", "--duplicates.compare", "nothing")
    main(config)
    main(config)
    assert "nothing to do" in capsys.readouterr().out
    files = {"README.md", "card", "manifest.jsonl", "report.json", "rows.parquet", "settings.json"}
    assert {path.name for path in out.iterdir()} == files
    assert pq.read_schema(out / "rows.parquet").equals(SCHEMA)
    made = read_explanations(str(out), RLT)
    assert made == [filtered(each, config.filters) for each in rows]
    report = json.loads((out / "report.json").read_text())
    assert (report["given"], report["kept"], report["dropped"]) == (3, 1, {"at_least.reward": 1})


def test_a_selection_is_selected_from_again(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    main(arguments(source_of(tmp_path, [row("a", 0, -1), row("a", 1, -2)]), first, "--ranking.keep", "1"))
    main(arguments(first, second))
    assert [each.kept for each in read_explanations(str(second), RLT)] == [True, True]


def test_a_folder_without_a_report_is_made_anew(tmp_path: Path) -> None:
    source, out = source_of(tmp_path, [row("a", 0, -1)]), tmp_path / "out"
    main(arguments(source, out))
    (out / "report.json").unlink()
    main(arguments(source, out, "--ranking.keep", "1"))
    assert json.loads((out / "settings.json").read_text())["ranking"]["keep"] == 1


def test_other_settings_a_file_and_the_source_itself_are_not_written_over(tmp_path: Path) -> None:
    source, out = source_of(tmp_path, [row()]), tmp_path / "selected"
    main(arguments(source, out))
    with pytest.raises(OutputError, match=r"ranking\.keep was None, now 1"):
        main(arguments(source, out, "--ranking.keep", "1"))
    with pytest.raises(OutputError, match="is a file; name a folder"):
        main(arguments(source, source))
    with pytest.raises(OutputError, match="holds the rows themselves"):
        main(arguments(out, out))


def test_bad_rows_stop_the_selection_before_anything_is_written(tmp_path: Path) -> None:
    source, out = source_of(tmp_path, [row()]), tmp_path / "out"
    source.write_text(source.read_text() + "{}\n")
    with pytest.raises(ProblemError, match="1 of 2 rows cannot be used"):
        main(arguments(source, out))
    assert not list(out.iterdir())
    main(arguments(source, out, "--skip-invalid"))
    assert len((tmp_path / "out.skipped.jsonl").read_text().splitlines()) == 1


def test_a_measure_that_does_not_exist_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="rewards"):
        parse_command(SelectConfig, "select", ["--rows", "a", "--out", "b", "--filters.at-least", "rewards=1"], "")


def test_further_files_are_selected_with_the_first_each_row_once(tmp_path: Path) -> None:
    more = tmp_path / "more.jsonl"
    more.write_text("".join(each.model_dump_json() + "\n" for each in [row("a", 1, -1), row("a", 0, -9)]))
    main(
        arguments(source_of(tmp_path, [row("a", 0, -2)]), tmp_path / "out", "--more", str(more), "--ranking.keep", "1")
    )
    made = read_explanations(str(tmp_path / "out"), RLT)
    assert [(each.id, each.kept) for each in made] == [("a-0", False), ("a-1", True)]
    assert made[0].score == Score(reward=-2, rss=-2, ss_mean=-1, ss_min=-2)


def test_each_row_has_its_manifest_and_the_folder_loads_as_its_card_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    out = tmp_path / "selected"
    rows = [row("a", 0, -1, license="MIT"), row("a", 1, -2), row("b", 0, error="too long")]
    main(arguments(source_of(tmp_path, rows), out, "--filters.at-least", "reward=-1.5"))
    manifests = [Manifest.model_validate_json(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    assert manifests == [manifest_of(each) for each in read_explanations(str(out), RLT)]
    assert [each.kept for each in manifests] == [True, False, False]
    cache = str(tmp_path / "cache")
    assert datasets.load_dataset(str(out), cache_dir=cache)["train"]["id"] == ["a-0"]
    assert datasets.load_dataset(str(out), "all", cache_dir=cache)["train"]["id"] == ["a-0", "a-1", "b-0"]
