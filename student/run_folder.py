"""The folder of a run: its settings, and its report as the mark that it is finished.

Shared by the verbs that train. Settings are written once the inputs are read, so that a mistyped path binds nobody;
report.json is written last, so that a folder which has one is whole. Of several processes the first one writes.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from student import processes
from student.checkpoints import has_saved
from student.config import FREE, Config, remember
from student.run_files import REPORT, SETTINGS


def begin(out: Path, config: Config) -> None:
    """Writes settings.json into `out`; raises OutputError where a run with other settings has begun there.

    A run that has saved nothing yet binds nobody: it failed early, and its error may have asked for other settings.
    """
    remember(config, out / SETTINGS, free=FREE, binding=has_saved(out))


def is_finished(out: Path, config: Config) -> bool:
    """Whether `out` holds the finished run of these very settings; raises OutputError where it holds another's."""
    if not (out / REPORT).exists():
        return False
    remember(config, out / SETTINGS, free=FREE)
    if processes.is_first():
        print(f"{out}: finished already, nothing to do")
    return True


def finish(out: Path, report: Mapping[str, Any]) -> None:
    """Writes report.json, whole or not at all, and prints it on one line."""
    if not processes.is_first():
        return
    _write(out, report)
    print(f"{out}: " + ", ".join(f"{name.replace('_', ' ')} {_shown(value)}" for name, value in report.items()))


def add(out: Path, figures: Mapping[str, Any]) -> None:
    """Adds to the report of a finished run, or replaces there, what was found out later."""
    report = json.loads((out / REPORT).read_text(encoding="utf-8"))
    _write(out, {**report, **figures})


def _write(out: Path, report: Mapping[str, Any]) -> None:
    writing = out / f"{REPORT}.partial"
    writing.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    writing.replace(out / REPORT)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
