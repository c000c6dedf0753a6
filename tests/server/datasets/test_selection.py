"""Selection: which rows are kept, worked by hand; each that is not says why; and `rlt select` keeps the same."""

import json
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from server.datasets.datasets import described
from server.datasets.selection import rules_of, selected
from server.datasets.shards import write_rows
from server.jobs.jobs import JobRejected
from server.state.tables import Job
from server.wire import DatasetRequest, Filters
from student.config import parse_command
from student.configs import SelectConfig
from student.curation.select import main as select
from student.explanations import Explanation, Score, read_explanations
from student.tags import RLT
from tests.server.kinds import Bench, on_bench

WALK = "Every morning Aya goes for a 9-kilometer-long walk and stops at a coffee shop afterwards for an hour."
TEXTS = [
    "Three and four are seven because four more than three come right after six, and one more gives seven",
    "First count the apples in the basket, then add the pears from the table, and what comes out is the sum",
    "Nobody can divide nine by two without a rest, so one is left over and four is what each of them gets",
]


def row(sample: int, reward: float | None = None, rkl: float | None = None, **values: Any) -> Explanation:
    score = None if reward is None else Score(reward=reward, rss=2 * reward, ss_mean=0, ss_min=0, rkl=rkl)
    whole = {"problem_id": "p", "question": "q", "explanation": "so", "closed": True, "finished": True} | values
    return Explanation(sample=sample, solution="s", score=score, **whole)


def dropped(rows: list[Explanation], **asked: Any) -> dict[int, str]:
    request = DatasetRequest.model_validate({"source": "own/set", **asked})
    return {row.sample: row.dropped for row in selected(rows, rules_of(request)) if row.dropped is not None}


def test_without_best_of_and_filters_all_rows_are_kept() -> None:
    assert dropped([row(0, closed=False, finished=False), row(1)], n=2) == {}


def test_the_best_by_reward_are_kept_and_of_equals_the_first() -> None:
    rows = [row(0, -2.0), row(1, -1.0), row(2, -1.0), row(3, -1.0)]
    assert dropped(rows, n=2, best_of=4) == {
        0: "best_of: place 4 of 4 by reward",
        3: "best_of: place 3 of 4 by reward",
    }


def test_of_rkl_the_lowest_is_the_best() -> None:
    rows = [row(0, -1.0, rkl=0.3), row(1, -1.0, rkl=0.1), row(2, -1.0, rkl=None)]
    assert list(dropped(rows, n=1, best_of=3, rank_by="rkl")) == [0, 2]


def test_filters_come_before_the_ranking_so_the_best_of_those_left_is_kept() -> None:
    rows = [row(0, -1.0, closed=False), row(1, -3.0), row(2, -2.0)]
    told = dropped(rows, n=1, best_of=3, filters={"closed": True})
    assert told == {0: "closed: its end tag was not reached", 1: "best_of: place 2 of 2 by reward"}


def test_a_failed_row_is_not_dropped_and_takes_no_place() -> None:
    rows = [row(0, error="refused"), row(1, -3.0), row(2, -2.0)]
    assert dropped(rows, n=2, best_of=3, filters={"closed": True, "min_reward": -10}) == {}


@pytest.mark.parametrize(
    ("filters", "reason"),
    [
        ({"min_reward": -1.5}, "at_least.reward: its reward is -2, the bound -1.5"),
        ({"min_rss": -3.5}, "at_least.rss: its rss is -4, the bound -3.5"),
        ({"max_rkl": 0.25}, "at_most.rkl: its rkl is 0.5, the bound 0.25"),
        ({"finished": True}, "finished: it was cut by max_tokens or the context"),
    ],
)
def test_a_row_that_misses_a_filter_says_which_and_by_how_much(filters: dict[str, Any], reason: str) -> None:
    good = row(1, -1.0, rkl=0.1)
    assert dropped([row(0, -2.0, rkl=0.5, finished=False), good], n=2, filters=filters) == {0: reason}


def test_a_row_without_a_score_misses_a_filter_on_one() -> None:
    rows = [row(0, unscored="too long for the student"), row(1, -1.0)]
    told = dropped(rows, filters={"min_reward": -5, "max_rkl": 1})
    assert told == {
        0: "at_least.reward: it has no reward (too long for the student)",
        1: "at_most.rkl: it has no rkl",
    }


def test_what_was_dropped_in_an_earlier_round_may_be_kept_in_this_one() -> None:
    rows = [row(0, -1.0, dropped="not among the best 1 of 2 by reward"), row(1, error="refused")]
    assert dropped(rows, n=1, best_of=2) == {}


def test_the_short_names_of_bounds_are_those_of_rlt_select() -> None:
    short = Filters.model_validate({"min_reward": -1, "min_rss": None, "max_rkl": 0.5, "at_least": {"gain": 0}})
    assert short == Filters(at_least={"gain": 0, "reward": -1}, at_most={"rkl": 0.5})


def given() -> list[Explanation]:
    """Two units of two problems: bounds, a copy of another problem's better row, a passage of a test set, a failure."""
    near = TEXTS[0].replace("right", "straight")
    return [
        row(0, -2.0, explanation=TEXTS[0], problem_id="a"),
        row(1, -1.5, explanation=TEXTS[1], problem_id="a"),
        row(2, -1.0, explanation=TEXTS[2], problem_id="a", closed=False),
        row(0, -1.0, explanation=near, problem_id="b"),
        row(1, -3.0, explanation=TEXTS[2], problem_id="b"),
        row(2, error="refused", explanation="", problem_id="b"),
        row(0, -1.0, explanation="So.", problem_id="c", question=f"Tell me. {WALK}"),
        row(1, -9.0, explanation="Thus.", problem_id="d", question="2 + 2?"),
        row(2, explanation="Hence.", problem_id="d", question="2 + 2?", unscored="too long"),
    ]


KEPT = ["a-1", "b-0"]
ASKED = {
    "filters": {"closed": True, "min_reward": -5},
    "duplicates": {"similarity": 0.85},
    "n": 1,
    "best_of": 3,
}


async def job_over(bench: Bench, rows: list[Explanation], **asked: Any) -> Job:
    """A dataset job whose units hold these rows, as far as units can judge them."""
    problems = [{"question": f"{number}?", "solution": "s"} for number in range(2)]
    job = await bench.dataset(unit_problems=1, problems=problems, **asked)
    rules = rules_of(DatasetRequest.model_validate({"source": "own/set", **asked}))
    for number, part in enumerate((rows[:6], rows[6:])):
        path = f"jobs/{job.id}/shards/{number}-1.parquet"
        judged = [rules.alone(each) for each in part]

        def write(file: BinaryIO, judged: list[Explanation] = judged) -> None:
            write_rows(file, judged)

        await bench.storage.write_whole(path, write)
        await bench.unit(job, number, status="done", shard=path, rows=len(part))
    return job


def selected_by_verb(folder: Path, rows: list[Explanation]) -> Path:
    """The folder that `rlt select` makes of the rows, asked for the same."""
    source, tests, out = folder / "rows.jsonl", folder / "tests.jsonl", folder / "selected"
    source.write_text("".join(each.model_dump_json() + "\n" for each in rows))
    tests.write_text(json.dumps({"question": WALK, "answer": "1"}) + "\n")
    flags = ["--rows", str(source), "--out", str(out), "--contamination.files", str(tests), "--filters.closed"]
    flags += ["--filters.at-least", "reward=-5", "--duplicates.similarity", "0.85", "--ranking.keep", "1"]
    config = parse_command(SelectConfig, "select", flags, "")
    assert isinstance(config, SelectConfig)
    select(config)
    return out


def test_the_service_and_rlt_select_keep_the_same_rows_and_say_the_same(
    tmp_path: Path, servable_model_folder: Path
) -> None:
    out = selected_by_verb(tmp_path, given())
    theirs = read_explanations(str(out), RLT)
    assert [each.id for each in theirs if each.kept] == KEPT

    async def scenario(bench: Bench) -> None:
        tests = json.dumps({"question": WALK, "answer": "1"}) + "\n"
        file = await bench.files.make("tests.jsonl", "user_data", lambda stream: void(stream.write(tests.encode())))
        job = await job_over(bench, given(), contamination={"file_ids": [file.id]}, **ASKED)
        await bench.files.delete(file.id)  # the dataset has its own copy
        for _ in range(2):  # a second time, as after a crash, it comes out the same
            result = await bench.datasets.finish(job, False)
            ours = await bench.rows(job)
            report = json.loads((out / "report.json").read_text())
            assert result["selection"] == report
            assert [each.kept for each in ours] == [each.kept for each in theirs]
            # A test question is told by the file's own name there, by its path here.
            told = [(each.dropped or "").replace(str(tmp_path) + "/", "") for each in theirs]
            assert [each.dropped or "" for each in ours] == told
        job.result, job.status, job.finished_at = result, "completed", 1
        shown = described(job, await bench.jobs.progress(job))
        assert shown.selection is not None
        assert (shown.counts.dropped, shown.selection.kept) == (6, 2)
        assert shown.selection.dropped == {
            "at_least.reward": 2,
            "closed": 1,
            "contamination": 1,
            "duplicates": 1,
            "best_of": 1,
        }

    (tmp_path / "service").mkdir()
    on_bench(tmp_path / "service", servable_model_folder, lambda _: "", scenario)


def void(_: object) -> None:
    """Nothing, of what a lambda may not return."""


def test_units_leave_the_ranking_to_the_end_where_copies_are_looked_for() -> None:
    rows = [row(0, -2.0), row(1, -1.0)]
    assert dropped(rows, n=1, best_of=2) == {0: "best_of: place 2 of 2 by reward"}
    assert dropped(rows, n=1, best_of=2, duplicates={"compare": "explanation"}) == {}


def test_a_test_set_that_is_none_fails_the_dataset_and_names_the_line(
    tmp_path: Path, servable_model_folder: Path
) -> None:
    async def scenario(bench: Bench) -> None:
        file = await bench.files.make("tests.jsonl", "user_data", lambda stream: void(stream.write(b"{}\n")))
        with pytest.raises(JobRejected, match=r"tests\.jsonl:1: .*mend this test set"):
            await job_over(bench, given(), contamination={"file_ids": [file.id]})

    on_bench(tmp_path, servable_model_folder, lambda _: "", scenario)
