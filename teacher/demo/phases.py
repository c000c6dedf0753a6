"""The phases of a seed: run in order, each once, with what it cost on record and the time left on the screen.

phases.json in the seed's folder has an entry a phase. A phase that is done there is passed over by the next run; one
that was cut short goes on from its own files, and its seconds add up. Left out: phases that depend on anything but the
order they stand in.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = "phases.json"
"""What a seed's ledger is called."""
LOG = "log.txt"
"""Where the verbs' own closing lines go, so that the terminal has one line a phase."""


@dataclass(frozen=True)
class Phase:
    """One step of a seed's run; `seconds` is about what it takes, for the time left."""

    name: str
    seconds: float
    run: Callable[[], None]


@dataclass
class Cost:
    """What a phase has taken so far, over all attempts, and whether it is done."""

    cpu_seconds: float = 0.0
    """Of this process, all threads together."""
    wall_seconds: float = 0.0
    done: bool = False


class Ledger:
    """The costs of a seed's phases, kept on the disk."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self.costs: dict[str, Cost] = {}
        if self._path.exists():
            entries = json.loads(self._path.read_text(encoding="utf-8"))
            self.costs = {name: Cost(**entry) for name, entry in entries.items()}
        self._running = ""
        self._noted = (0.0, 0.0)

    def is_done(self, name: str) -> bool:
        """Whether the phase need not run again."""
        return name in self.costs and self.costs[name].done

    @contextmanager
    def measured(self, name: str) -> Iterator[None]:
        """Charges the block to a phase, done once it ends without an error; an error or a Ctrl-C is charged too."""
        self._running = name
        self._noted = (time.process_time(), time.monotonic())
        try:
            yield
        finally:
            self.note()
        self.costs[name].done = True
        self._save()

    def note(self) -> None:
        """Charges the time since the last note to the running phase, so that a kill -9 later on loses none of it."""
        cost = self.costs.setdefault(self._running, Cost())
        cpu, wall = time.process_time(), time.monotonic()
        cost.cpu_seconds += cpu - self._noted[0]
        cost.wall_seconds += wall - self._noted[1]
        self._noted = (cpu, wall)
        self._save()

    def charge(self, name: str, cpu_seconds: float, wall_seconds: float) -> None:
        """Enters a phase that was measured elsewhere, unless it is there already."""
        if name not in self.costs:
            self.costs[name] = Cost(cpu_seconds, wall_seconds, done=True)
            self._save()

    def _save(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        writing = self._path.with_name(f"{FILE}.partial")
        entries = {name: asdict(cost) for name, cost in self.costs.items()}
        writing.write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
        writing.replace(self._path)


def run_phases(folder: Path, ledger: Ledger, phases: Sequence[Phase], title: str) -> None:
    """Runs what is not done yet, one line each on stderr; what the phases print goes to log.txt."""
    clock = Clock(sum(phase.seconds for phase in phases if not ledger.is_done(phase.name)))
    with (folder / LOG).open("a", encoding="utf-8") as log:
        for number, phase in enumerate(phases, start=1):
            if ledger.is_done(phase.name):
                continue
            line = f"{title} · {number}/{len(phases)} {phase.name} · {clock.left()}"
            print(line, file=sys.stderr, flush=True)
            print(f"== {line}", file=log, flush=True)
            with ledger.measured(phase.name), redirect_stdout(log):
                phase.run()
            clock.spend(phase.seconds)


SURE_SECONDS = 20.0
"""After so many seconds' worth of phases the pace seen counts as much as the pace expected."""


class Clock:
    """The time left, from how long what is done took against what it was expected to."""

    def __init__(self, expected: float) -> None:
        self._expected = expected
        self._spent = 0.0
        self._started = time.monotonic()

    def spend(self, expected: float) -> None:
        """A phase that was expected to take so many seconds is over."""
        self._spent += expected

    def left(self) -> str:
        """The time left as m:ss; at first simply what was expected."""
        pace = (time.monotonic() - self._started + SURE_SECONDS) / (self._spent + SURE_SECONDS)
        return f"about {minutes((self._expected - self._spent) * pace)} left"


def minutes(seconds: float) -> str:
    """Seconds as m:ss.

    >>> minutes(59.6), minutes(125)
    ('1:00', '2:05')
    """
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02d}"
