"""Runs are read while they are written, or after somebody spoilt them: nothing raises, leaves the root or grows."""

import io
import json
import os
import random
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from student.problems import content_id
from student.run_reading import lines, runs, samples
from student.run_reading.figures import MOST_SERIES, Figures, read_figures
from student.run_reading.folders import DEEPEST, RunFolder, find, run_folders
from student.run_reading.runs import STALE_SECONDS, Run, read_run, read_run_samples, summary

NOW = 1_790_000_000.0
SPOILT = (
    b"",
    b"\n",
    b"null\n",
    b"[" * 100_000 + b"\n",
    b'{"a":' * 100_000 + b"\n",
    b'{"step": NaN, "reward": Infinity}\n',
    b'{"step": 1e999}\n',
    b'{"step": true}\n',
    b'{"step": ' + b"9" * 5000 + b"}\n",
    b'{"step": -1' + b"0" * 400 + b"}\n",
    b'{"step": {"a": []}, "event": [], "time": 1e300}\n',
    b'{"step": 1, "event": "paused", "time": 1e300, "question": 7, "explanation": {}}\n',
    b'{"step": 2, "event": "paused", "time": 5, "reason": {}, "watch": [1], "reward": "x"}\n',
    b'{"step": 3, "question": "\\ud800", "explanation": "\\udfff", "score": [], "tokens": "x", "\\ud800": 1}\n',
    b"\xff\xfe\x00\n",
    b'{"grpo": [], "sft": {"max_steps": "x"}, "teacher": {}, "a": 1' + b"0" * 300 + b"}\n",
    b"x" * 3_000_000 + b"\n",
    b'{"step": 4, "rew',
)
FILES = ("metrics.jsonl", "settings.json", "events.jsonl", "samples.jsonl", "held_out.jsonl", "report.json")


class Counted(io.FileIO):
    """A file that counts the bytes taken from it."""

    taken = 0

    def readinto(self, buffer: Any) -> int:
        """Reads on."""
        found = super().readinto(buffer) or 0
        self.taken += found
        return found


def run_of(root: Path, name: str = "run", **files: Any) -> Path:
    """A folder with a file for each name: lines for a list, else one object."""
    folder = root / name
    folder.mkdir(parents=True)
    for file, content in ({"metrics": []} | files).items():
        listed = isinstance(content, list)
        text = "".join(json.dumps(each) + "\n" for each in content) if listed else json.dumps(content)
        (folder / f"{file}.{'jsonl' if listed else 'json'}").write_text(text)
    os.utime(folder / "metrics.jsonl", (NOW, NOW))
    return folder


def read(root: Path, now: float = NOW, points: int = 100) -> Run:
    """The only run of a folder."""
    [folder] = run_folders(root)
    found = read_run(folder, now, points)
    assert found is not None
    return found


def figures(*entries: dict[str, Any], points: int = 100) -> Figures:
    return read_figures([json.dumps(entry).encode() + b"\n" for entry in entries], points)


def test_a_run_tells_settings_figures_events_and_what_it_came_to(tmp_path: Path) -> None:
    run_of(
        tmp_path,
        settings={"teacher": "t", "grpo": {"steps": 3, "log_steps": 1}},
        metrics=[{"step": 1, "reward": -2.0, "loss": 0.5}, {"step": 2, "reward": -3.0}, {"step": 3, "reward": -1.0}],
        events=[{"time": NOW - 9, "step": 0, "event": "started"}],
        held_out=[{"step": 2, "reward": -1.5, "best": True}],
        report={"steps": 3},
    )
    found = read(tmp_path)
    assert (found.name, found.verb, found.state, found.step, found.steps) == ("run", "train", "finished", 3, 3)
    assert (found.reward, found.loss, found.started_at, found.updated_at) == (-1.0, 0.5, NOW - 9, NOW)
    [reward, loss] = found.figures.series
    assert (reward.name, reward.values, reward.first, reward.last) == ("reward", (-2, -3, -1), -2, -1)
    assert (reward.least, reward.most, loss.values) == (-3, -1, (0.5, None, None))
    assert found.held_out[0].best
    assert found.report == {"steps": 3}
    assert not found.has_samples


@pytest.mark.parametrize(
    ("event", "silent", "state"),
    [
        (None, 0, "running"),
        (None, STALE_SECONDS + 1, "stale"),
        ("started", 0, "running"),
        ("paused", 0, "paused"),
        ("stopped", STALE_SECONDS + 1, "stopped"),
        ("failed", 0, "failed"),
        ("stalled", 0, "failed"),
    ],
)
def test_the_last_event_says_how_a_run_stands_then_its_silence(
    tmp_path: Path, event: str | None, silent: float, state: str
) -> None:
    first = {"time": NOW, "step": 0, "event": "paused", "reason": "an earlier one"}
    last = {"time": NOW, "step": 1, "event": event, "reason": "why"}
    run_of(tmp_path, metrics=[{"step": 1}], events=[first, last] if event else [])
    found = read(tmp_path, NOW + silent)
    assert found.state == state
    assert found.reason == ("why" if event not in (None, "started") else "")


def test_a_run_whose_steps_take_hours_is_not_stale_after_minutes(tmp_path: Path) -> None:
    run_of(tmp_path, settings={"grpo": {"log_steps": 2}}, metrics=[{"step": 2, "seconds/step": 3000.0}])
    assert read(tmp_path, NOW + 17_000).state == "running"
    assert read(tmp_path, NOW + 19_000).state == "stale"


@pytest.mark.parametrize(
    ("setting", "verb"),
    [("formats", "warmup"), ("explanations", "distill"), ("grading", "coldstart"), ("teacher", "train"), ("x", None)],
)
def test_the_settings_tell_the_verb(tmp_path: Path, setting: str, verb: str | None) -> None:
    run_of(tmp_path, settings={setting: "x"})
    assert read(tmp_path).verb == verb


@pytest.mark.parametrize("spoilt", SPOILT, ids=range(len(SPOILT)))
def test_no_file_that_is_cut_wrong_deep_or_huge_raises_or_is_sent_on_as_it_is(tmp_path: Path, spoilt: bytes) -> None:
    folder = run_of(tmp_path)
    for name in FILES:
        (folder / name).write_bytes(spoilt)
    [found] = run_folders(tmp_path)
    run, kept = read_run(found, NOW, 2), read_run_samples(found, (1, 2, 3), None)
    assert run is not None
    for answer in (run, kept, summary(found, NOW)):
        assert answer is not None
        assert len(answer.model_dump_json().encode()) < 100_000


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_no_error_and_without_metrics_there_is_no_run(tmp_path: Path, name: str) -> None:
    folder = run_of(tmp_path, settings={}, events=[], samples=[], held_out=[], report={})
    [known] = run_folders(tmp_path)
    (folder / name).unlink()
    found = read_run(known, NOW, 2)
    assert (found is None) == (name == "metrics.jsonl")
    assert (summary(known, NOW) is None) == (found is None)
    assert read_run_samples(known, (), None).steps == ()


def test_a_line_that_is_being_written_is_not_counted_as_spoilt() -> None:
    found = read_figures([b'{"step": 1, "x": 1}\n', b"no\n", b'{"step": 0}\n', b'{"step": 2, "x'], 10)
    assert (found.steps, found.entries, found.skipped) == ((1,), 1, 2)


@pytest.mark.parametrize("points", [2, 3, 7, 100])
@pytest.mark.parametrize("entries", [1, 2, 3, 50, 101, 1000])
def test_thinned_points_are_the_means_of_entries_that_follow_each_other(points: int, entries: int) -> None:
    drawn = random.Random(entries)
    values = [drawn.gauss(0, 1) for _ in range(entries)]
    found = figures(*({"step": place, "x": value} for place, value in enumerate(values, 1)), points=points)
    [series] = found.series
    size = found.per_point
    assert len(found.steps) <= points
    assert found.per_point == 1 or 2 * len(found.steps) > points  # no thinner than it must be
    groups = [values[start : start + size] for start in range(0, entries, size)]
    assert series.values == pytest.approx([sum(group) / len(group) for group in groups])
    assert found.steps == tuple(min(start + size, entries) for start in range(0, entries, size))
    assert (series.least, series.most) == (min(values), max(values))
    assert (series.first, series.last) == (values[0], values[-1])


def test_entries_of_one_step_are_one_point_and_series_are_bounded() -> None:
    found = figures({"step": 1, "a": 1.0}, {"step": 1, "b": 2.0}, *({"step": 2, f"n{n}": 1} for n in range(999)))
    assert found.steps == (1, 2)
    assert [series.values for series in found.series][:2] == [(1.0, None), (2.0, None)]
    assert len(found.series) == MOST_SERIES


def test_a_huge_file_is_read_here_and_there_in_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "WHOLE_BYTES", 2**20)
    folder = run_of(tmp_path)
    with (folder / "metrics.jsonl").open("w") as file:
        for step in range(1, 200_001):
            file.write(json.dumps({"step": step, "reward": step / 1000, "pad": "x" * 50}) + "\n")
    tracemalloc.start()
    found = read(tmp_path, points=50)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 4 * 2**20 < (folder / "metrics.jsonl").stat().st_size
    assert found.figures.entries < 20_000
    assert found.figures.skipped == 0
    assert found.figures.steps[-1] == found.step == 200_000
    [reward] = found.figures.series
    means = zip(reward.values, found.figures.steps, strict=True)
    assert all(value is not None and abs(value - step / 1000) < 5 for value, step in means)


def test_a_line_of_many_megabytes_is_not_read_again_from_every_place_in_it(tmp_path: Path) -> None:
    path = run_of(tmp_path) / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2, "pad": "' + b"x" * (lines.WHOLE_BYTES + 1) + b'"}\n{"step": 3}\n')
    with Counted(path) as raw:
        found = list(lines.spread_lines(io.BufferedReader(raw)))
        assert dict.fromkeys(found) == dict.fromkeys([b'{"step": 1}\n', b'{"step": 3}\n'])
        assert raw.taken < 2 * path.stat().st_size


def test_nothing_behind_a_link_is_a_run_or_read(tmp_path: Path) -> None:
    secret, root = tmp_path / "secret", tmp_path / "root"
    run_of(tmp_path, "secret", settings={"key": "secret"}, metrics=[{"step": 1, "secret": 7}])
    honest = run_of(root, "honest", metrics=[{"step": 1}])
    (root / "folder").symlink_to(secret)
    (root / "inner").symlink_to(honest)
    linked = root / "linked"
    linked.mkdir()
    (linked / "metrics.jsonl").symlink_to(secret / "metrics.jsonl")
    (honest / "settings.json").symlink_to(secret / "settings.json")
    os.mkfifo(honest / "samples.jsonl")
    (honest / "events.jsonl").mkdir()
    found = {folder.name: summary(folder, NOW) for folder in run_folders(root)}
    assert set(found) == {"honest", "linked"}
    assert found["linked"] is None
    run = read_run(next(folder for folder in run_folders(root) if folder.name == "honest"), NOW, 2)
    assert run is not None
    assert (run.settings, run.events, run.has_samples) == ({}, (), False)


def test_a_folder_that_becomes_a_link_after_it_was_found_is_not_followed(tmp_path: Path) -> None:
    secret, root = tmp_path / "secret", tmp_path / "root"
    run_of(tmp_path, "secret", metrics=[{"step": 1}])
    run_of(root, "a/b", metrics=[{"step": 1}])
    [known] = run_folders(root)
    (root / "a").rename(root / "was")
    (root / "a").mkdir()
    (root / "a" / "b").symlink_to(secret)
    assert summary(known, NOW) is None
    assert find(root, RunFolder(root, ("..", "secret")).id) is None


def test_runs_are_found_as_deep_as_is_told_and_none_inside_another(tmp_path: Path) -> None:
    for name in ("b", "a/1", "b/checkpoint-1/inner", ".hidden", "/".join("x" * DEEPEST), "/".join("y" * (DEEPEST + 1))):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "metrics.jsonl").write_text("")
    found = run_folders(tmp_path)
    assert [folder.name for folder in found] == ["a/1", "b", "/".join("x" * DEEPEST)]
    assert all(find(tmp_path, folder.id) == folder for folder in found)
    assert find(tmp_path, "run_0") is None
    assert run_folders(tmp_path / "none") == []
    [itself] = run_folders(tmp_path / "b")
    assert itself.name == "b"
    (tmp_path / "link").symlink_to(tmp_path / "b")
    assert [folder.name for folder in run_folders(tmp_path / "link")] == ["b"]  # the root itself may be one


def sample(step: int, question: str, explanation: str = "so", **more: Any) -> dict[str, Any]:
    return {"step": step, "question": question, "solution": "7", "explanation": explanation, "score": {}} | more


def test_samples_are_told_by_step_and_problem(tmp_path: Path) -> None:
    entries = [
        sample(1, "a", "bad", score={"reward": -2.0, "rss": -1.0, "rkl": None}, tokens=3, closed=True),
        sample(1, "b"),
        sample(20, "a", "good", held_out=True),
    ]
    run_of(tmp_path, samples=entries)
    [folder] = run_folders(tmp_path)
    known = read_run_samples(folder, (), None)
    assert (known.steps, known.data, known.more) == ((1, 20), (), False)
    a, b = known.problems
    assert (a.id, a.steps, b.steps) == (content_id("a", "7"), (1, 20), (1,))
    both = read_run_samples(folder, (1, 20), a.id).data
    assert [(each.step, each.explanation, each.held_out) for each in both] == [(1, "bad", False), (20, "good", True)]
    assert (both[0].reward, both[0].rkl, both[0].tokens, both[0].closed) == (-2.0, None, 3, True)
    assert len(read_run_samples(folder, (1,), None).data) == 2
    assert len(read_run_samples(folder, (), b.id).data) == 1


def test_samples_are_bounded_in_number_and_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "MOST_PROBLEMS", 3)
    monkeypatch.setattr(samples, "MOST_SAMPLES", 2)
    monkeypatch.setattr(samples, "LONGEST_EXPLANATION", 10)
    run_of(tmp_path, samples=[sample(1, f"question {number}", "x" * 50) for number in range(5)])
    [folder] = run_folders(tmp_path)
    found = read_run_samples(folder, (1,), None)
    assert (len(found.problems), len(found.data), found.more) == (3, 2, True)
    assert found.data[0].explanation == "x" * 10 + "…"
    monkeypatch.setattr(runs, "SAMPLE_BYTES", 400)
    assert len(read_run_samples(folder, (), None).problems) == 2
