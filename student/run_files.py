"""The files of a run's folder, by name, and how lines are added to them. Loads no torch.

    settings.json    the run's settings                                                   run_folder.py
    metrics.jsonl    what was measured, a line a log entry                                metrics.py
    events.jsonl     when the run started, and what stopped it before its end             run_events.py
    samples.jsonl    some of the explanations sampled in RL, with their rewards           teacher/samples.py
    held_out.jsonl   the reward on held-out problems at each checkpoint                   teacher/held_out.py
    report.json      the mark that the run is finished                                    run_folder.py

Each line is a JSON object with `step`. A run that goes on from a checkpoint drops the lines of later steps, which it
makes anew; events alone are history, and stay. run_reading.py reads them all.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SETTINGS = "settings.json"
METRICS = "metrics.jsonl"
EVENTS = "events.jsonl"
SAMPLES = "samples.jsonl"
HELD_OUT = "held_out.jsonl"
REPORT = "report.json"


def append(path: Path, *entries: Mapping[str, Any]) -> None:
    """Adds a line for each entry, whose numbers must be finite, making the file where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(entry, allow_nan=False) + "\n" for entry in entries)


def keep_until(path: Path, step: int) -> None:
    """Drops the entries of later steps, and a line cut short by a kill; makes the file where it is missing."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    path.parent.mkdir(parents=True, exist_ok=True)
    writing = path.with_name(path.name + ".partial")
    writing.write_text("".join(f"{line}\n" for line in lines if _step(line) <= step), encoding="utf-8")
    writing.replace(path)


def _step(line: str) -> float:
    """The step of an entry; infinite for a line cut short by a kill."""
    try:
        return float(json.loads(line)["step"])
    except ValueError:
        return math.inf
