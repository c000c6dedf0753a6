"""Choosing explanations: filters, copies, the best of each problem, and the report of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from student.config import parse_command
from student.configs import SelectConfig
from student.curation.duplicates import normalised, without_copies
from student.curation.filters import filtered
from student.curation.ranking import ranked
from student.curation.report import report_of
from student.curation.select import main, selected
from student.curation.settings import Duplicates, Filters, Ranking
from student.errors import ConfigError, OutputError
from student.explanations import Explanation, Score, Verdict, read_explanations
from student.measures.results import Measures
from student.tags import RLT


def row(problem: str = "a", sample: int = 0, reward: float | None = None, **values: Any) -> Explanation:
    """An explanation of its own words unless told otherwise."""
    score = None if reward is None else Score(reward=reward, rss=reward, ss_mean=-1, ss_min=-2)
    given = {"explanation": f"{problem} {sample}", "closed": True, "finished": True} | values
    return Explanation(problem_id=problem, sample=sample, question="1 + 1?", solution="2", score=score, **given)


def settings(**values: Any) -> SelectConfig:
    return SelectConfig(rows="rows.jsonl", out="out.jsonl", **values)


def test_every_filter_is_asked_and_the_first_that_fails_drops_the_row() -> None:
    filters = Filters(closed=True, finished=True, at_least={"reward": -1.0}, at_most={"leak": 0.5})
    (judged,) = filtered([row(reward=-2, finished=False, measures=Measures(leak=0.25))], filters)
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
    assert filtered([row(reward=-1)], filters)[0].kept


def test_a_row_without_the_measure_fails_the_bound_and_says_why() -> None:
    (judged,) = filtered([row(unscored="413 tokens")], Filters(at_least={"reward": -9}))
    assert judged.dropped == "at_least.reward: it has no reward (413 tokens)"


@pytest.mark.parametrize(("verified", "kept"), [(True, True), (False, False), (None, False)])
def test_only_a_right_answer_is_verified(verified: bool | None, kept: bool) -> None:
    (judged,) = filtered([row(measures=Measures(verified=verified))], Filters(verified=True))
    assert judged.kept is kept


def test_a_failed_row_is_asked_nothing_and_is_not_dropped() -> None:
    (judged,) = filtered([row(error="too long", closed=False)], Filters(closed=True))
    assert (judged.verdicts, judged.dropped, judged.kept) == ((), None, False)


def test_a_selection_forgets_the_one_before() -> None:
    dropped = filtered([row(closed=False)], Filters(closed=True))
    assert filtered(dropped, Filters()) == [row(closed=False)]


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
    rows = filtered([row(sample=0, reward=-1, closed=False), row(sample=1, reward=-2)], Filters(closed=True))
    assert [each.kept for each in ranked(rows, Ranking(keep=1))] == [False, True]


def test_copies_that_differ_by_case_space_and_punctuation_are_dropped_and_name_the_first() -> None:
    texts = ["Add 1 + 1.", "add  1 + 1", "Add 1 - 1.", "ADD\n1 + 1?"]
    made = without_copies([row(sample=sample, explanation=text) for sample, text in enumerate(texts)])
    assert [each.dropped for each in made] == [
        None,
        "duplicates: the same words as a-0",
        None,
        "duplicates: the same words as a-0",
    ]


@pytest.mark.parametrize(
    ("one", "other"), [("3.5", "3 5"), ("a ≤ b", "a ≥ b"), ("2(3+4)", "2 3+4"), ("5!", "5"), ("1,000", "1 000")]
)
def test_mathematics_is_no_punctuation(one: str, other: str) -> None:
    assert normalised(one) != normalised(other)


def test_a_copy_of_a_dropped_row_is_no_copy() -> None:
    rows = [row(sample=0, explanation="so", closed=False), row(sample=1, explanation="so")]
    assert [each.kept for each in selected(rows, settings(filters=Filters(closed=True)))] == [False, True]


def test_copies_take_no_place_among_the_best() -> None:
    rows = [row(sample=sample, reward=reward, explanation=f"{-reward}") for sample, reward in enumerate([-1, -1, -2])]
    assert [each.kept for each in selected(rows, settings(ranking=Ranking(keep=2)))] == [True, False, True]
    off = settings(ranking=Ranking(keep=2), duplicates=Duplicates(exact=False))
    assert [each.kept for each in selected(rows, off)] == [True, True, False]


def test_the_report_counts_reasons_and_measures_kept_and_dropped() -> None:
    rows = [row("a", 0, -1), row("a", 1, -3), row("b", 0, -8, closed=False), row("c", 0, error="too long")]
    report = report_of(selected(rows, settings(filters=Filters(closed=True, at_least={"reward": -5}))))
    assert (report.given, report.kept, report.failed, report.problems, report.problems_kept) == (4, 2, 1, 3, 1)
    assert report.dropped == {"closed": 1}
    assert report.failed_by == {"closed": 1, "at_least.reward": 1}
    reward = report.measures["reward"]
    # Of -1 and -3: mean -2, a quarter of the way up from -3 is -2.5.
    assert (reward["kept"].rows, reward["kept"].mean) == (2, -2)
    assert reward["kept"].quantiles["0.25"] == -2.5
    assert reward["dropped"].quantiles == dict.fromkeys(reward["dropped"].quantiles, -8)
    assert "gain" not in report.measures


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_all_rows_stay_in_the_file_and_the_report_lies_beside_it(tmp_path: Path, suffix: str) -> None:
    source, out = tmp_path / "rows.jsonl", tmp_path / f"selected{suffix}"
    rows = [row("a", 0, -1), row("a", 1, -2), row("b", 0, error="too long")]
    source.write_text("".join(each.model_dump_json() + "\n" for each in rows))
    flags = ["--rows", str(source), "--out", str(out), "--filters.at-least", "reward=-1.5"]
    config = parse_command(SelectConfig, "select", flags, "")
    assert isinstance(config, SelectConfig)
    main(config)
    main(config)
    assert read_explanations(str(out), RLT) == selected(rows, config)
    report = json.loads(out.with_name(out.name + ".report.json").read_text())
    assert (report["given"], report["kept"], report["dropped"]) == (3, 1, {"at_least.reward": 1})


def test_other_settings_and_the_source_itself_are_not_written_over(tmp_path: Path) -> None:
    source, out = tmp_path / "rows.jsonl", tmp_path / "selected.jsonl"
    source.write_text(row().model_dump_json() + "\n")
    config = SelectConfig(rows=str(source), out=str(out))
    main(config)
    with pytest.raises(OutputError, match=r"ranking\.keep was None, now 1"):
        main(config.model_copy(update={"ranking": Ranking(keep=1)}))
    with pytest.raises(OutputError, match="is the file of rows itself"):
        main(config.model_copy(update={"out": str(source)}))


def test_a_measure_that_does_not_exist_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="rewards"):
        parse_command(SelectConfig, "select", ["--rows", "a", "--out", "b", "--filters.at-least", "rewards=1"], "")
