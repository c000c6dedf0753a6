"""Batches: every line of one that ended is in one of its two files, once, however it ended."""

import json
import re
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from server.batches.batch_lines import NEVER, SHOWN_ERRORS, LineReader
from server.batches.batches import BatchSpec, described
from server.configs import Limits
from server.engine.protocol import Generation
from server.state.tables import Job
from tests.server.kinds import Bench, on_bench

LINES = 5


def request_line(custom_id: str, **body: Any) -> dict[str, Any]:
    body = {"question": "1 + 1?", "solution": "2", "seed": 1} | body
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/explanations", "body": body}


async def batch(bench: Bench, **values: Any) -> Job:
    """A batch of five lines in units of two, the last of which cannot be carried out; its units 0 and 2 were run."""
    lines = [request_line(str(n)) for n in range(LINES - 1)] + [request_line("4", model="nobody")]
    text = "".join(json.dumps(each) + "\n" for each in lines).encode()
    file = await bench.files.make("lines.jsonl", "batch", lambda stream: stream.write(text) and None)
    spec = BatchSpec(
        endpoint="/v1/explanations",
        input_file_id=file.id,
        completion_window="24h",
        metadata=None,
        unit_lines=2,
        limits=Limits(),
        output_file_id="file-output",
        error_file_id="file-error",
        output_seconds=3600,
    )
    job = await bench.jobs.create("batch", spec.model_dump(mode="json"), "batch_1", expires_at=2_000_000_000)
    job = await bench.prepared(job, bench.batches)
    assert (job.units, job.items) == (3, LINES)
    await bench.run(job, bench.batches, [0, 2])
    for name, value in values.items():
        setattr(job, name, value)
    return job


async def kept(bench: Bench, file_id: str | None) -> dict[str, dict[str, Any]]:
    if file_id is None:
        return {}
    lines = (await bench.storage.read(f"files/{file_id}")).decode().splitlines()
    return {each["custom_id"]: each for each in map(json.loads, lines)}


@pytest.mark.parametrize(
    ("values", "cancelled", "code"),
    [
        ({"status": "finalizing"}, False, "unit_failed"),
        ({"status": "cancelling", "cancelling_at": 1_999_999_999}, True, "batch_cancelled"),
        ({"status": "cancelling", "cancelling_at": 2_000_000_000}, True, "batch_expired"),
    ],
)
def test_lines_that_were_never_run_are_told_by_how_the_batch_ended(
    values: dict[str, Any], cancelled: bool, code: str, tmp_path: Path, tiny_model_folder: Path
) -> None:
    async def scenario(bench: Bench) -> None:
        job = await batch(bench, **values)
        if not cancelled:
            await bench.unit(job, 1, error="it broke", rows=2, failed=2)
        job.result = await bench.batches.finish(job, cancelled)
        done, rest = [await kept(bench, job.result[name]) for name in ("output_file_id", "error_file_id")]
        assert set(done) == {"0", "1"}
        assert {name: line["error"] and line["error"]["code"] for name, line in rest.items()} == {
            "2": code,
            "3": code,
            "4": None,
        }
        assert rest["4"]["response"]["status_code"] == 404
        assert rest["2"]["response"] is None

        again = await bench.batches.finish(job, cancelled)  # as after a crash: the same two files
        assert again == job.result
        files, _ = await bench.files.page()
        assert {file.id for file in files if file.purpose == "batch_output"} == {"file-output", "file-error"}
        assert all(file.expires_at is not None for file in files if file.purpose == "batch_output")
        usage = described(job, await bench.jobs.progress(job)).usage
        assert usage is not None
        assert usage.output_tokens == 2 * done["0"]["response"]["body"]["usage"]["completion_tokens"]

    on_bench(tmp_path, tiny_model_folder, says_so, scenario)


def says_so(asked: Generation) -> str:
    return "so 2"


def reader_of(*lines: dict[str, Any] | bytes, longest: int = 100) -> tuple[LineReader, list[str]]:
    reader = LineReader("/v1/explanations", longest)
    text = b"".join((each if isinstance(each, bytes) else json.dumps(each).encode()) + b"\n" for each in lines)
    return reader, [item["custom_id"] for item in reader.read(BytesIO(text))]


def test_lines_are_read_in_order_and_blank_ones_passed_over() -> None:
    reader, ids = reader_of(request_line("b"), b"", request_line("a"), b"  ")
    assert (ids, reader.errors) == (["b", "a"], [])


def test_more_lines_than_are_taken_are_refused() -> None:
    assert not reader_of(*(request_line(str(n)) for n in range(3)), longest=3)[0].errors
    reader, _ = reader_of(*(request_line(str(n)) for n in range(4)), longest=3)
    assert [error.code for error in reader.errors] == ["too_many_requests"]


def test_of_many_bad_lines_the_first_hundred_are_told() -> None:
    reader, ids = reader_of(*[b"{torn"] * 500, longest=1000)
    assert (ids, len(reader.errors)) == ([], SHOWN_ERRORS)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"\xff", "invalid_json_line"),
        (b'"text"', "invalid_json_line"),
        (b"[" * 100_000, "invalid_json_line"),
        ({"custom_id": 7}, "missing_required_parameter"),
        ({**request_line("a"), "custom_id": 7}, "invalid_custom_id"),
        ({**request_line("a"), "custom_id": "x" * 513}, "invalid_custom_id"),
        ({**request_line("a"), "method": ["POST"]}, "invalid_method"),
        ({**request_line("a"), "url": "/v1/chat/completions"}, "invalid_url"),
        ({**request_line("a"), "body": [1]}, "invalid_body"),
    ],
)
def test_a_line_that_is_no_request_is_told_by_its_number(line: dict[str, Any] | bytes, code: str) -> None:
    reader, ids = reader_of(request_line("first"), line)
    assert ids == ["first"]
    assert [(error.line, error.code) for error in reader.errors] == [(2, code)]


def test_every_code_that_a_batch_may_tell_is_documented() -> None:
    root = Path(__file__).parents[3]
    source = (root / "server" / "batches" / "batch_lines.py").read_text(encoding="utf-8")
    codes = set(re.findall(r'_refuse\("(\w+)"', source)) | {code for code, _ in NEVER.values()}
    assert len(codes) >= 11
    page = (root / "docs" / "datasets.md").read_text(encoding="utf-8")
    assert {code for code in codes if f"`{code}`" not in page} == set()
