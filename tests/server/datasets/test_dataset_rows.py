"""Rows of datasets, unit by unit: what was made is kept, what failed is made anew, what no unit has is told."""

import json
from pathlib import Path
from typing import Any

import pytest

from server.datasets.bounds import RowsQuery
from server.datasets.dataset_rows import DatasetRows
from server.datasets.datasets import dataset_spec
from server.engine.protocol import Generation
from server.errors import EngineRefused, EngineUnavailable, Invalid, ServerError
from server.jobs.jobs import JobRejected
from server.state.tables import Unit
from server.wire import DatasetRequest, DatasetSampling
from student.engine import sample_seed
from student.problems import content_id
from tests.server.kinds import Bench, on_bench

PROBLEMS = [{"question": f"{number} + 1?", "solution": str(number + 1)} for number in range(5)]


def seed(number: int, sample: int = 0) -> int:
    problem = PROBLEMS[number]
    return sample_seed(0, content_id(problem["question"], problem["solution"]), sample)


class Moody:
    """Explains by the seed; refuses the seeds in `refused`."""

    def __init__(self) -> None:
        self.refused: set[int] = set()
        self.asked: list[int] = []

    def __call__(self, asked: Generation) -> str:
        self.asked.append(asked.seed)
        if asked.seed in self.refused:
            raise EngineRefused("not this one")
        return f"so {asked.seed % 100}"


def test_a_retry_makes_only_failed_rows_anew_and_copies_the_others(tmp_path: Path, tiny_model_folder: Path) -> None:
    moody = Moody()
    moody.refused = {seed(1), seed(4)}

    async def scenario(bench: Bench) -> None:
        job = await bench.dataset(problems=PROBLEMS)
        assert [outcome.failed for outcome in await bench.run(job, bench.datasets)] == [1, 0, 1]
        before = await bench.rows(job)
        assert [row.error for row in before] == [None, "not this one", None, None, "not this one"]
        moody.refused, moody.asked = {seed(4)}, []
        outcomes = await bench.run(job, bench.datasets, [0, 2])
        assert moody.asked == [seed(1), seed(4)]
        assert [outcome.failed for outcome in outcomes] == [0, 1]
        assert outcomes[1].errors == {"engine_refused": 1}
        after = await bench.rows(job)
        assert after[1].explanation == f"so {seed(1) % 100}"
        assert [row for n, row in enumerate(after) if n != 1] == [row for n, row in enumerate(before) if n != 1]

    on_bench(tmp_path, tiny_model_folder, moody, scenario)


def test_units_have_few_rows_and_tokens_however_many_samples_are_asked_for(
    tmp_path: Path, tiny_model_folder: Path
) -> None:
    async def scenario(bench: Bench) -> None:
        job = await bench.dataset(problems=PROBLEMS, unit_problems=1000, n=200)
        assert (job.units, job.items) == (3, 5)  # 512 rows a unit at most: two problems of 200 samples
        assert [bench.datasets.unit_rows(job, number) for number in range(3)] == [400, 400, 200]
        long = dataset_spec(
            DatasetRequest(source="a/b", n=4, sampling=DatasetSampling(max_tokens=2**17)), "t", "rlt", 32, False
        )
        assert long.unit_problems == 4  # 2^21 tokens

    on_bench(tmp_path, tiny_model_folder, Moody(), scenario)


def test_rows_of_a_unit_that_failed_as_a_whole_are_told_with_its_reason(
    tmp_path: Path, tiny_model_folder: Path
) -> None:
    async def scenario(bench: Bench) -> None:
        job = await bench.dataset(problems=PROBLEMS, n=2)
        await bench.run(job, bench.datasets, [0, 2])
        await bench.unit(job, 1, error="it broke", rows=4, failed=4)
        failed = await bench.rows(job, "failed")
        assert [(row.question, row.sample, row.error) for row in failed] == [
            (f"{number} + 1?", sample, "its unit failed: it broke") for number in (2, 3) for sample in (0, 1)
        ]
        assert len(await bench.rows(job, "ok")) == 6
        await bench.storage.delete("jobs/ds_1/shards/0-1.parquet")
        assert await bench.rows(job, "failed") == failed  # which are looked for where there are some

    on_bench(tmp_path, tiny_model_folder, Moody(), scenario)


def test_an_engine_that_does_not_answer_fails_the_attempt_not_the_row(tmp_path: Path, tiny_model_folder: Path) -> None:
    def gone(asked: Generation) -> str:
        raise EngineUnavailable("no answer")

    async def scenario(bench: Bench) -> None:
        job = await bench.dataset(problems=PROBLEMS)
        with pytest.raises(EngineUnavailable):
            await bench.run(job, bench.datasets)
        assert bench.engine.running == 0

    on_bench(tmp_path, tiny_model_folder, gone, scenario)


def test_a_unit_during_which_weights_were_exchanged_is_made_again(tmp_path: Path, tiny_model_folder: Path) -> None:
    moody = Moody()

    async def scenario(bench: Bench) -> None:
        job = await bench.dataset(problems=PROBLEMS)
        told = iter([("t", 0, "old"), ("t", 2, "new"), ("t", 2, "new"), ("t", 2, "new")])

        async def stamp() -> tuple[tuple[str, int, str], ...]:
            return (next(told), ("another", len(moody.asked), "adapter"))

        bench.teachers.stamp = stamp  # type: ignore[method-assign]
        await bench.run(job, bench.datasets, [0])
        assert moody.asked == [seed(0), seed(1)] * 2

    on_bench(tmp_path, tiny_model_folder, moody, scenario)


def test_a_shard_that_a_retry_replaced_is_looked_up_again(tmp_path: Path, tiny_model_folder: Path) -> None:
    async def scenario(bench: Bench) -> None:
        job = await bench.dataset(problems=PROBLEMS)
        await bench.run(job, bench.datasets)
        listed = await bench.jobs.units(job.id)
        await bench.run(job, bench.datasets, [1])
        await bench.storage.delete(str(listed[1].shard))
        fresh = bench.jobs.units

        async def stale(job_id: str, after: int = -1, limit: int = 100, failed: bool = False) -> list[Unit]:
            return (
                [unit for unit in listed if unit.number > after] if limit == 100 else await fresh(job_id, after, limit)
            )

        bench.jobs.units = stale  # type: ignore[method-assign]
        assert len(await bench.rows(job)) == 5
        bench.jobs.units = fresh  # type: ignore[method-assign]
        await bench.storage.delete_tree(f"jobs/{job.id}/shards")
        with pytest.raises(ServerError, match="unit 0 are gone"):
            await bench.rows(job)

    on_bench(tmp_path, tiny_model_folder, Moody(), scenario)


@pytest.mark.parametrize("after", ["x", "1", "1.", ".1", "-1.0", "1.0.0", "¹.0", "9" * 19 + ".0"])
def test_a_place_that_is_none_is_refused(after: str, tmp_path: Path, tiny_model_folder: Path) -> None:
    async def scenario(bench: Bench) -> None:
        job = await bench.dataset(problems=PROBLEMS)
        with pytest.raises(Invalid) as refused:
            await DatasetRows(job, bench.jobs, bench.storage, bench.datasets).page(RowsQuery(after=after))
        assert refused.value.param == "after"

    on_bench(tmp_path, tiny_model_folder, Moody(), scenario)


def test_local_paths_are_read_where_that_is_allowed_only(tmp_path: Path, tiny_model_folder: Path) -> None:
    source = tmp_path / "problems.jsonl"
    source.write_text("".join(json.dumps(problem) + "\n" for problem in PROBLEMS), encoding="utf-8")

    async def scenario(bench: Bench) -> None:
        asked: dict[str, Any] = {"source": str(source), "limit": 3}
        with pytest.raises(JobRejected, match="no dataset of the hub"):
            await bench.dataset(**asked)

    async def allowed(bench: Bench) -> None:
        job = await bench.dataset(source=str(source), limit=3, local=True)
        assert job.items == 3

    on_bench(tmp_path / "one", tiny_model_folder, Moody(), scenario)
    on_bench(tmp_path / "two", tiny_model_folder, Moody(), allowed)
