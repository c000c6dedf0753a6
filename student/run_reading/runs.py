"""A run as a whole, from its folder alone: what it is, how it stands, what it was set to and what it has measured.

    running    metrics.jsonl has grown lately
    paused     a watchdog stopped it        stopped   somebody did         failed   an error did, or it hung
    finished   it has written its report    stale     none of these, and it has been silent for long

Long is STALE_SECONDS, or three times what its log entries take where that is longer. A file that is missing or spoilt
is as if it were not there; only a run without metrics.jsonl is none.
"""

import os
from collections.abc import Mapping
from typing import Any, BinaryIO, Literal

from pydantic import BaseModel, ConfigDict

from student.run_files import EVENTS, HELD_OUT, METRICS, REPORT, SAMPLES, SETTINGS
from student.run_reading.figures import Figures, read_figures
from student.run_reading.folders import RunFolder
from student.run_reading.lines import OBJECT_BYTES, bounded, json_object, last_lines, number, shown, spread_lines
from student.run_reading.samples import Samples, read_samples

State = Literal["running", "paused", "stopped", "failed", "finished", "stale"]
STATES: Mapping[str, State] = {"paused": "paused", "stopped": "stopped", "failed": "failed", "stalled": "failed"}
"""What a run is in after an event that ended it."""
STALE_SECONDS = 600.0
TAIL_BYTES = 128 * 1024
"""How much of the end of metrics.jsonl tells the last entry."""
EVENT_BYTES = 256 * 1024
SAMPLE_BYTES = 64 * 2**20
MOST_EVENTS = 200
LATEST = float(2**37)
"""The last time that is believed, Unix seconds: calendars know no much later ones."""
MOST_CHECKPOINTS = 1000


class RunEvent(BaseModel):
    """What befell a run, as student/run_events.py writes it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    time: float
    """Unix seconds."""
    step: float
    event: str
    """started, paused, stopped, failed or stalled."""
    reason: str
    """Why, in the run's own words; empty where it only started."""
    watch: dict[str, float]
    """The thresholds that were set, where a watchdog fired."""


class HeldOut(BaseModel):
    """The reward on held-out problems at a checkpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    step: float
    reward: float
    best: bool
    """No earlier one was as good: its model was kept."""


class RunSummary(BaseModel):
    """A run and how it stands."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    id: str
    name: str
    """Where its folder lies below the folder of runs."""
    verb: str | None
    """What trains, as far as its settings tell: train, coldstart, warmup or distill."""
    state: State
    reason: str
    """Why it is paused, stopped or failed; else empty."""
    step: float | None
    """Of the last log entry."""
    steps: int | None
    """How many there will be, where the settings say so."""
    reward: float | None
    """The last one that was logged."""
    loss: float | None
    started_at: int | None
    """When it was started last."""
    updated_at: int
    """When metrics.jsonl was written last."""


class Run(RunSummary):
    """A run with all that its folder tells but its explanations."""

    settings: dict[str, Any]
    """As saved, cut where they are absurdly long."""
    report: dict[str, Any] | None
    """Null until it is finished."""
    events: tuple[RunEvent, ...]
    held_out: tuple[HeldOut, ...]
    figures: Figures
    has_samples: bool


class _Files:
    """What is read of a folder whoever asks."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.settings: dict[str, Any] = bounded(self._object(SETTINGS) or {})
        self.report = self._object(REPORT)
        self.events = self._events()

    def _object(self, name: str) -> dict[str, Any] | None:
        try:
            with self.folder.open(name) as file:
                return json_object(file.read(OBJECT_BYTES))
        except OSError:
            return None

    def _objects(self, name: str, most_bytes: int) -> list[dict[str, Any]]:
        """The objects in the last part of a file of lines; none where there is no such file."""
        try:
            with self.folder.open(name) as file:
                return [entry for line in last_lines(file, most_bytes) if (entry := json_object(line)) is not None]
        except OSError:
            return []

    def _events(self) -> list[RunEvent]:
        found = [_event(entry) for entry in self._objects(EVENTS, EVENT_BYTES)]
        return [event for event in found if event is not None][-MOST_EVENTS:]

    def held_out(self) -> list[HeldOut]:
        found = []
        for entry in self._objects(HELD_OUT, EVENT_BYTES)[-MOST_CHECKPOINTS:]:
            step, reward = number(entry.get("step")), number(entry.get("reward"))
            if step is not None and reward is not None:
                found.append(HeldOut(step=step, reward=reward, best=entry.get("best") is True))
        return found

    def has(self, name: str) -> bool:
        try:
            with self.folder.open(name) as file:
                return bool(file.read(1))
        except OSError:
            return False


def summary(folder: RunFolder, now: float) -> RunSummary | None:
    """How a run stands; None where it is gone."""
    try:
        with folder.open(METRICS) as file:
            return _summary(_Files(folder), file, now)
    except OSError:
        return None


def read_run(folder: RunFolder, now: float, points: int) -> Run | None:
    """A run with its series thinned to at most `points`; None where it is gone."""
    files = _Files(folder)
    try:
        with folder.open(METRICS) as file:
            short = _summary(files, file, now)
            file.seek(0)
            figures = read_figures(spread_lines(file), points)
    except OSError:
        return None
    return Run(
        **short.model_dump(),
        settings=files.settings,
        report=None if files.report is None else bounded(files.report),
        events=tuple(files.events),
        held_out=tuple(files.held_out()),
        figures=figures,
        has_samples=files.has(SAMPLES),
    )


def read_run_samples(folder: RunFolder, steps: tuple[int, ...], problem: str | None) -> Samples:
    """Explanations of a run by step and problem, of the last SAMPLE_BYTES of its file; nothing where it has none."""
    try:
        with folder.open(SAMPLES) as file:
            return read_samples(last_lines(file, SAMPLE_BYTES), steps, problem)
    except OSError:
        return read_samples([])


def _summary(files: _Files, metrics: BinaryIO, now: float) -> RunSummary:
    tail = [entry for line in last_lines(metrics, TAIL_BYTES) if (entry := json_object(line)) is not None]
    updated = min(max(0.0, os.fstat(metrics.fileno()).st_mtime), LATEST)
    last = files.events[-1] if files.events else None
    state = _state(files, now - updated > _patience(files.settings, tail))
    starts = [event.time for event in files.events if event.event == "started"]
    return RunSummary(
        id=files.folder.id,
        name=files.folder.name,
        verb=_verb(files.settings),
        state=state,
        reason=last.reason if last is not None and state in STATES.values() else "",
        step=_last(tail, "step"),
        steps=_steps(files.settings),
        reward=_last(tail, "reward"),
        loss=_last(tail, "loss"),
        started_at=int(starts[-1]) if starts else None,
        updated_at=int(updated),
    )


def _state(files: _Files, silent: bool) -> State:
    if files.report is not None:
        return "finished"
    ended = STATES.get(files.events[-1].event) if files.events else None
    return ended or ("stale" if silent else "running")


def _patience(settings: Mapping[str, Any], tail: list[dict[str, Any]]) -> float:
    """Seconds of silence after which a run is stale."""
    steps = [number(entry.get(name)) or 0.0 for entry in tail for name in ("seconds/step", "step_time")]
    return max(STALE_SECONDS, 3 * max(steps, default=0.0) * (_setting(settings, "log_steps") or 1))


def _last(entries: list[dict[str, Any]], name: str) -> float | None:
    found = (number(entry.get(name)) for entry in reversed(entries))
    return next((value for value in found if value is not None), None)


def _verb(settings: Mapping[str, Any]) -> str | None:
    """By the settings that only that verb has."""
    telling = {"formats": "warmup", "explanations": "distill", "grading": "coldstart", "teacher": "train"}
    return next((verb for name, verb in telling.items() if name in settings), None)


def _steps(settings: Mapping[str, Any]) -> int | None:
    steps = _setting(settings, "steps") or _setting(settings, "max_steps")
    return None if steps is None else int(steps)


def _setting(settings: Mapping[str, Any], name: str) -> float | None:
    """A number of the group that says how is trained."""
    groups = (settings.get(group) for group in ("grpo", "sft"))
    return next((found for group in groups if isinstance(group, dict) and (found := number(group.get(name)))), None)


def _event(entry: Mapping[str, Any]) -> RunEvent | None:
    time, step, event = number(entry.get("time")), number(entry.get("step")), shown(entry.get("event"))
    if time is None or not 0 <= time <= LATEST or step is None or event not in ("started", *STATES):
        return None
    watch = entry.get("watch")
    thresholds = {shown(name): number(value) for name, value in watch.items()} if isinstance(watch, dict) else {}
    return RunEvent(
        time=time,
        step=step,
        event=event,
        reason=shown(entry.get("reason")),
        watch={name: value for name, value in thresholds.items() if value is not None},
    )
