"""Runs of training in a folder of this machine, read as they are written; nothing is ever written or started here."""

import asyncio
import time
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from fastapi import APIRouter, Query, Request
from pydantic import Field

from server.configs import ServeConfig
from server.errors import NotFound
from server.service import Parts
from server.web.access import needs
from server.wire import Answer
from student.run_reading.folders import RunFolder, find, run_folders
from student.run_reading.runs import Run, RunSummary, read_run, read_run_samples, summary
from student.run_reading.samples import Samples

router = APIRouter(prefix="/v1/admin/runs", tags=["admin"], dependencies=[needs("admin")])
MOST_RUNS = 500
POINTS = 400
"""Points of a series, if nothing else is asked for."""
T = TypeVar("T")
MOST_STEPS = 20
"""Steps whose explanations are asked for at a time."""


class RunList(Answer):
    """Runs, those that were written last first."""

    object: Literal["list"] = "list"
    folder: str
    """Where they were looked for."""
    data: list[RunSummary]
    has_more: bool
    """There are older ones that are not listed."""


@router.get("", summary="List training runs")
async def list_runs(request: Request) -> RunList:
    """Every folder with a metrics.jsonl at or below `--runs`, with its state."""
    root = _root(request)
    return await asyncio.to_thread(_listed, root)


@router.get("/{run}", summary="One training run")
async def get_run(request: Request, run: str, points: Annotated[int, Query(ge=2, le=2000)] = POINTS) -> Run:
    """Its settings, its figures by step thinned to at most `points` points a series, what befell it, its report."""
    found = await asyncio.to_thread(_read, _root(request), run, points)
    return _there(found, run)


@router.get("/{run}/samples", summary="Explanations of a training run")
async def get_run_samples(
    request: Request,
    run: str,
    step: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Query(max_length=MOST_STEPS)] = (),
    problem: Annotated[str | None, Query(max_length=100)] = None,
) -> Samples:
    """Steps and problems of which explanations were kept (`rlt train --watch.sample-steps`), and the explanations of
    the steps and the problem asked for."""
    found = await asyncio.to_thread(_read_samples, _root(request), run, step, problem)
    return _there(found, run)


def _listed(root: Path) -> RunList:
    now = time.time()
    found = [run for folder in run_folders(root) if (run := summary(folder, now)) is not None]
    found.sort(key=lambda run: run.updated_at, reverse=True)
    return RunList(folder=str(root), data=found[:MOST_RUNS], has_more=len(found) > MOST_RUNS)


def _read(root: Path, run: str, points: int) -> Run | None:
    folder = find(root, run)
    return None if folder is None else read_run(folder, time.time(), points)


def _read_samples(root: Path, run: str, steps: tuple[int, ...], problem: str | None) -> Samples | None:
    folder: RunFolder | None = find(root, run)
    return None if folder is None else read_run_samples(folder, steps, problem)


def _there(found: T | None, run: str) -> T:
    if found is None:
        raise NotFound(f"run: there is no {run[:100]!r}; GET /v1/admin/runs lists those that are", param="run")
    return found


def _root(request: Request) -> Path:
    """The folder of runs; raises NotFound where none is set, or it is no folder."""
    parts: Parts = request.app.state.parts
    assert isinstance(parts.config, ServeConfig)
    folder = parts.config.runs
    if folder is None:
        raise NotFound(
            "this service was not told where training runs are; start it with --runs FOLDER, such as --runs demo",
            code="no_runs_folder",
        )
    if not Path(folder).is_dir():
        raise NotFound(
            f"the folder of training runs, {folder!r}, is not there; make it, or start the service with another --runs",
            code="no_runs_folder",
        )
    return Path(folder)
