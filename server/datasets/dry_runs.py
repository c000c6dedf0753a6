"""What a dataset would take, before it is made: a pilot of its problems is explained, and scored where asked for.

    request ─ checked ─> source read once, a uniform draw of it kept ─> a few units of several sizes, timed ─> Estimate

A unit of the pilot is made by the code that makes a job's, from the seeds of the job, and nothing of it is kept: no
job, no file. The source is read through, since only that tells how many problems it has; memory is that of the draw.
What is whole by the deadline is the pilot. Left out: the problems' own bytes, the search for copies at the end.
"""

import asyncio
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory

from server.configs import DryRunSettings, ServeConfig
from server.datasets.dataset_requests import checked_spec
from server.datasets.datasets import DatasetKind, DatasetSpec, read_tests, unmixed
from server.datasets.further import check_share, share
from server.datasets.selection import rules_of
from server.datasets.shards import write_rows
from server.datasets.sources import ProblemReader, open_source, problem_chunks
from server.errors import Invalid, TimedOut, TooMany
from server.jobs.jobs import JobRejected
from server.service import Parts
from server.teaching.teachers import Teachers
from server.web.answering import the_teachers
from server.wire import DatasetRequest
from student.curation.contamination import HeldOut
from student.curation.selection import Rules
from student.estimates import (
    SHORT_SECONDS,
    Batch,
    Estimate,
    Quantity,
    Reservoir,
    batch_sizes,
    packed,
    pilot_size,
    repeats,
    total,
    writing_time,
)
from student.explanations import Explanation
from student.problems import Problem
from student.tags import STYLES

READ_AT_A_TIME = 1000
"""Problems between two looks at the deadline."""
WARM_UP_TOKENS = 2
"""Sampled once before the clock is started: what the engine and the student set up at first."""
BUSY_SECONDS = 10.0


async def dry_run(parts: Parts, body: DatasetRequest, alone: asyncio.Lock) -> Estimate:
    """What the dataset would take; raises what making it would raise at once, Invalid where its source cannot be used,
    TooMany while another dry run has the lock, TimedOut where nothing is known by the deadline."""
    spec = await checked_spec(parts, body)
    if alone.locked():
        raise TooMany(
            "another dry run is under way, and two would measure each other; come again when it has ended",
            retry_after=BUSY_SECONDS,
        )
    settings = settings_of(parts)
    deadline = asyncio.get_running_loop().time() + settings.seconds
    async with alone:
        try:
            async with asyncio.timeout_at(deadline):
                drawn = await _drawn(parts, spec, body, settings)
        except TimeoutError as error:
            raise _too_long(settings, "the source was not read through", "a `limit`, or a file") from error
        pilot = Pilot.of(parts, spec, drawn)
        try:
            async with asyncio.timeout_at(deadline):
                await pilot.run()
        except TimeoutError as error:
            if not pilot.batches:
                raise _too_long(settings, "no problem was explained", "fewer sampling.max_tokens") from error
            pilot.cut_short = True
    return pilot.estimate()


def settings_of(parts: Parts) -> DryRunSettings:
    """What is tried, and for how long."""
    assert isinstance(parts.config, ServeConfig)
    return parts.config.dry_run


def _too_long(settings: DryRunSettings, told: str, remedy: str) -> TimedOut:
    return TimedOut(f"{told} within {settings.seconds:g} s, the longest dry run here (dry_run.seconds); give {remedy}")


@dataclass(frozen=True)
class Drawn:
    """The problems of the pilot, and of how many they were drawn."""

    problems: Sequence[Problem]
    of: int
    rules: Rules
    """By which the dataset's rows are kept."""


async def _drawn(parts: Parts, spec: DatasetSpec, body: DatasetRequest, settings: DryRunSettings) -> Drawn:
    """Reads the source as the job would, and refuses what it would refuse."""
    request, reservoir = spec.request, Reservoir[Problem](settings.at_most, settings.seed)
    with TemporaryDirectory() as folder:
        inline = problem_chunks(body.problems or ())
        rows = await open_source(request, inline, parts.files, Path(folder), spec.local_sources)
        problems = ProblemReader(rows, request.columns, STYLES[spec.tags]).read(request.limit, request.skip_invalid)
        while some := await asyncio.to_thread(_some, problems):
            for problem in some:
                reservoir.add(problem)
        tests = await read_tests(parts.files, request, Path(folder))
    try:
        check_share(request, min(spec.unit_problems, reservoir.seen), reservoir.seen)
    except JobRejected as rejection:
        raise Invalid(str(rejection), param="further.budget_tokens") from rejection
    held_out = await asyncio.to_thread(HeldOut, tests, request.contamination.words) if tests else None
    size = pilot_size(reservoir.seen, settings.share, settings.at_least, settings.at_most)
    return Drawn(reservoir.draw(size), reservoir.seen, rules_of(request, held_out))


def _some(problems: Iterator[Problem]) -> list[Problem]:
    return list(islice(problems, READ_AT_A_TIME))


@dataclass
class Pilot:
    """Units of a dataset that nobody keeps, and how long each took."""

    kind: DatasetKind
    teachers: Teachers
    spec: DatasetSpec
    drawn: Drawn
    units: int
    """That the job will be worked on at a time."""
    groups: list[list[Explanation]] = field(default_factory=list)
    """The rows of each problem."""
    batches: list[Batch] = field(default_factory=list)
    cut_short: bool = False

    @classmethod
    def of(cls, parts: Parts, spec: DatasetSpec, drawn: Drawn) -> "Pilot":
        """A pilot that is not yet run."""
        kind = DatasetKind(parts.storage, parts.files, parts.jobs, parts.teachers, parts.student)
        return cls(kind, the_teachers(parts), spec, drawn, max(1, parts.config.units))

    @property
    def problems_at_a_time(self) -> int:
        """In work together, in the job: those of its units, as far as the engine has places for their rows."""
        places = max(1, self.teachers.engine.places // self.spec.request.samples)
        return min(self.units * self.spec.unit_problems, places, self.drawn.of)

    async def run(self) -> None:
        """Makes the units; cancelled in between, those that are whole remain."""
        await self._made(_with(self.spec, max_tokens=WARM_UP_TOKENS), self.drawn.problems[:1])
        start = 0
        for size in batch_sizes(len(self.drawn.problems), self.problems_at_a_time):
            problems = self.drawn.problems[start : start + size]
            rows = await self._timed(self.spec, problems)
            self.groups.extend([[row for row in rows if row.problem_id == problem.id] for problem in problems])
            start += size
        again, plain = cycle(self.drawn.problems), _with(self.spec)
        for size in repeats(self.problems_at_a_time):
            if sum(batch.seconds for batch in self.batches) > SHORT_SECONDS:
                break
            await self._timed(plain, list(islice(again, size)))

    async def _timed(self, spec: DatasetSpec, problems: Sequence[Problem]) -> list[Explanation]:
        """The rows of a unit; notes how long they, and the shard of them, took."""
        started = time.perf_counter()
        rows = await self._made(spec, problems)
        await asyncio.to_thread(_shard_bytes, rows)
        self.batches.append(Batch(time.perf_counter() - started, tuple(map(_tokens, rows))))
        return rows

    async def _made(self, spec: DatasetSpec, problems: Sequence[Problem]) -> list[Explanation]:
        tokens = share(spec.request, len(problems), self.drawn.of)
        made = await unmixed(
            self.teachers, lambda: self.kind.make(spec, problems, {}, self.drawn.rules, tokens), spec.model
        )
        return [each.row for each in made]

    def estimate(self) -> Estimate:
        """The totals of the dataset."""
        problems, request = self.drawn.of, self.spec.request
        lengths = [[_tokens(row) for row in rows] for rows in self.groups]
        at_a_time = min(self.problems_at_a_time, problems) * request.samples
        return Estimate(
            problems=problems,
            pilot_problems=len(self.groups),
            rows=problems * request.samples,
            tokens=total([sum(each) for each in lengths], problems),
            seconds=writing_time(self.batches, lengths, problems, at_a_time),
            bytes=self._bytes(),
            pilot_tokens=sum(map(sum, lengths)),
            pilot_seconds=sum(batch.seconds for batch in self.batches),
            teacher_digest=self.teachers.known(self.spec.model).digest,
            rows_at_a_time=at_a_time,
            remarks=tuple(self._remarks(at_a_time)),
        )

    def _bytes(self) -> Quantity:
        """Of the shards: a line through that of one problem and that of a unit, over the bytes of their JSONL."""
        plain = [sum(len(row.model_dump_json().encode()) for row in rows) for rows in self.groups]
        unit = self.groups[: self.spec.unit_problems]
        small, full = _shard_bytes(unit[0]), _shard_bytes([row for rows in unit for row in rows])
        empty, more = _shard_bytes([]), sum(plain[1 : len(unit)])
        share = (full - small) / more if more else (small - empty) / plain[0]
        shards = math.ceil(self.drawn.of / self.spec.unit_problems)
        return packed(total(plain, self.drawn.of), share, shards * (small - share * plain[0]))

    def _remarks(self, at_a_time: int) -> Iterator[str]:
        yield (
            f"the time is for {at_a_time} rows at a time, in {self.units} units of {self.spec.unit_problems} problems "
            "that this process works on, beside whatever it did during the pilot; other workers shorten it"
        )
        largest = max(len(batch.lengths) for batch in self.batches)
        if largest < at_a_time:
            yield f"the pilot's largest unit has {largest} rows: the time is read off a fit, not measured"
        if self.cut_short:
            yield (
                f"{len(self.groups)} of the pilot's {len(self.drawn.problems)} problems were explained before the "
                "deadline (dry_run.seconds); what takes longest may be missing among them"
            )
        rows = [row for group in self.groups for row in group]
        if failed := sum(row.error is not None for row in rows):
            yield f"{failed} of the pilot's {len(rows)} rows could not be made; they count as empty"
        yield from self._left_out()

    def _left_out(self) -> Iterator[str]:
        request = self.spec.request
        if request.further is not None:
            unit = batch_sizes(len(self.drawn.problems), self.problems_at_a_time)[0]
            small = share(request, unit, self.drawn.of) < request.sampling.max_tokens
            told = "not in the figures: the pilot's share of budget_tokens is too small" if small else "not in `rows`"
            yield f"further samples are {told}"
        if request.duplicates.compare != "nothing":
            yield "the time of looking for duplicates, at the end, is not in the figures"


def _with(spec: DatasetSpec, max_tokens: int | None = None) -> DatasetSpec:
    """The spec without further samples, and with explanations that are shorter."""
    request = spec.request
    tokens = min(request.sampling.max_tokens, max_tokens or request.sampling.max_tokens)
    sampling = request.sampling.model_copy(update={"max_tokens": tokens})
    return spec.model_copy(update={"request": request.model_copy(update={"further": None, "sampling": sampling})})


def _tokens(row: Explanation) -> int:
    return len(row.token_ids or ())


def _shard_bytes(rows: Sequence[Explanation]) -> int:
    file = BytesIO()
    write_rows(file, rows)
    return file.tell()
