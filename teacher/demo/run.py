"""`rlt demo`: runs the seeds, in this process or several at a time, then writes the report.

A demo that was stopped goes on by the same command: seeds and phases that are done are passed over, and every verb goes
on from its own files.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from student.config import remember
from student.errors import RltError
from teacher.configs import DemoConfig
from teacher.demo.ablations import Ablations
from teacher.demo.chain import Chain
from teacher.demo.phases import Ledger, run_phases
from teacher.demo.report import closing_table, write_report
from teacher.demo.results import collect, seed_folder, write_json
from teacher.demo.settings import read_recipe
from teacher.errors import TeacherError

START_UP = "start-up"
"""The phase that loading torch and its kin is charged to, with the first seed of a process."""


def main(config: DemoConfig) -> None:
    """Carries out `rlt demo`; raises RltError where something must be mended first."""
    recipe = read_recipe(config.recipe)
    seeds = range(config.first_seed, config.first_seed + config.seeds)
    if config.jobs > 1 and len(seeds) > 1:
        run_in_parallel(config, seeds)
    else:
        for seed in seeds:
            run_seed(config, seed)
    report = collect(config, recipe, seeds)
    write_json(report, Path(config.out) / "report.json")
    page = write_report(report, Path(config.out) / "report.html")
    print(f"\n{closing_table(report)}\n\nThe report: {page}")


def run_seed(config: DemoConfig, seed: int) -> None:
    """Runs what is owed of one seed, in this process."""
    recipe, folder = read_recipe(config.recipe), seed_folder(config, seed)
    remember(recipe.placed(folder, seed), folder / "recipe.json")
    ledger = Ledger(folder)
    if seed == config.first_seed:
        ledger.charge(START_UP, time.process_time(), time.process_time())
    chain = Chain(recipe.placed(folder, seed), seed, ledger.note)
    phases = chain.phases()
    if config.full:
        phases += Ablations(chain, recipe, folder).phases()
    run_phases(folder, ledger, phases, _title(config, seed))


def _title(config: DemoConfig, seed: int) -> str:
    """What the lines of a seed begin with: its number, and its place where there are several."""
    return f"seed {seed}" if config.seeds == 1 else f"seed {seed} ({seed - config.first_seed + 1} of {config.seeds})"


def run_in_parallel(config: DemoConfig, seeds: Sequence[int]) -> None:
    """Runs each seed in a process of its own, `config.jobs` at a time; raises TeacherError where one fails.

    When this process ends early the others are asked to save and stop.
    """
    owed, running = list(seeds), dict[int, SpawnProcess]()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        while owed or running:
            while owed and len(running) < config.jobs:
                seed = owed.pop(0)
                running[seed] = _started(config, seed)
            wait([process.sentinel for process in running.values()])
            for seed in [seed for seed, process in running.items() if not process.is_alive()]:
                if code := running.pop(seed).exitcode:
                    raise TeacherError(f"seed {seed} ended with status {code}, see above; the same command goes on")
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.join()


def _started(config: DemoConfig, seed: int) -> SpawnProcess:
    """A process that runs one seed, with one thread and without progress bars, which would write over each other."""
    settings = {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    process = get_context("spawn").Process(target=_seed_process, args=(config, seed))
    process.start()
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value
    return process


def _seed_process(config: DemoConfig, seed: int) -> None:
    """The boundary of a seed's process: what a person can mend is one line, as in the `rlt` command."""
    try:
        run_seed(config.model_copy(update={"first_seed": seed, "seeds": 1}), seed)
    except RltError as error:
        print(f"rlt demo: seed {seed}: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
