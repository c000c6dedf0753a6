"""The lines of a batch: requests as they are read and checked, outcomes as they are written to the two files."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from server.jobs.unit_inputs import Item
from server.state.ids import new_id
from server.web.openai_objects import BatchError
from student.rows import bounded_lines, parse_line

LINE_SCHEMA = pa.schema([("custom_id", pa.string()), ("body", pa.string())])
"""Of a request that is to be carried out: `body` is JSON."""
OUTCOME_SCHEMA = pa.schema(
    [
        ("custom_id", pa.string()),
        ("line", pa.string()),
        ("failure", pa.string()),
        ("prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
    ]
)
"""Of a shard: `line` is that of the output or error file as it will stand there."""
SHOWN_ERRORS = 100
"""Bad lines that are told one by one."""
LONGEST_CUSTOM_ID = 512
LINE_FIELDS = {"custom_id", "method", "url", "body"}


@dataclass(frozen=True)
class Outcome:
    """What became of a line."""

    custom_id: str
    line: str
    failure: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass
class LineReader:
    """Reads the lines of a batch file; `errors` says afterwards what is wrong with it."""

    endpoint: str
    longest: int
    errors: list[BatchError] = field(default_factory=list)
    _custom_ids: set[str] = field(default_factory=set)

    def read(self, file: BinaryIO) -> Iterator[Item]:
        """The requests, until enough is found wrong; blank lines are passed over."""
        requests = 0
        for number, line in enumerate(bounded_lines(file), start=1):
            if line is not None and not line.strip():
                continue
            requests += 1
            if requests > self.longest:
                self._refuse("too_many_requests", None, f"more than {self.longest} requests; make several batches")
                return
            item = self._item(number, line)
            if item is not None:
                yield item
            if len(self.errors) >= SHOWN_ERRORS:
                return
        if not requests:
            self._refuse("empty_file", None, "the file holds no request; upload one with a request a line")

    def _item(self, number: int, line: bytes | None) -> Item | None:
        """The request on a line; None where it is none, which is then noted."""
        values = parse_line(line)
        if isinstance(values, str):
            self._refuse("invalid_json_line", number, values)
            return None
        noted = len(self.errors)
        self._check_fields(number, values)
        if len(self.errors) > noted:
            return None
        return {"custom_id": values["custom_id"], "body": json.dumps(values["body"])}

    def _check_fields(self, number: int, values: dict[str, Any]) -> None:
        for name in sorted(LINE_FIELDS - values.keys()):
            self._refuse("missing_required_parameter", number, f"{name}: is required", name)
            return
        custom_id, url, body = values["custom_id"], values["url"], values["body"]
        if not isinstance(custom_id, str) or not 0 < len(custom_id) <= LONGEST_CUSTOM_ID:
            self._refuse("invalid_custom_id", number, f"custom_id: 1 to {LONGEST_CUSTOM_ID} characters", "custom_id")
        elif custom_id in self._custom_ids:
            self._refuse("duplicate_custom_id", number, f"custom_id: {custom_id[:80]!r} is used twice", "custom_id")
        elif values["method"] != "POST":
            self._refuse("invalid_method", number, f"method: must be 'POST', got {values['method']!r:.80}", "method")
        elif url != self.endpoint:
            self._refuse("invalid_url", number, f"url: must be the batch's {self.endpoint!r}, got {url!r:.80}", "url")
        elif not isinstance(body, dict):
            self._refuse("invalid_body", number, "body: must be an object, the body of the request", "body")
        elif body.get("stream"):
            self._refuse("invalid_body", number, "body.stream: a batch does not stream; leave it out", "body.stream")
        else:
            self._custom_ids.add(custom_id)

    def _refuse(self, code: str, line: int | None, message: str, param: str | None = None) -> None:
        self.errors.append(BatchError(code=code, line=line, message=message, param=param))


class Results:
    """Outcomes on their way into the two files, which are made with their first line."""

    def __init__(self, folder: Path) -> None:
        self.output = folder / "output.jsonl"
        self.error = folder / "error.jsonl"
        self._prompt_tokens = 0
        self._completion_tokens = 0

    @property
    def usage(self) -> dict[str, int]:
        """Tokens of all lines so far."""
        return {"input_tokens": self._prompt_tokens, "output_tokens": self._completion_tokens}

    def add(self, outcomes: Sequence[Outcome]) -> None:
        """Appends the lines, each to the file it belongs to."""
        for path, failed in ((self.output, False), (self.error, True)):
            lines = [outcome.line + "\n" for outcome in outcomes if (outcome.failure is not None) == failed]
            if lines:
                with path.open("a", encoding="utf-8", newline="") as file:
                    file.writelines(lines)
        self._prompt_tokens += sum(outcome.prompt_tokens for outcome in outcomes)
        self._completion_tokens += sum(outcome.completion_tokens for outcome in outcomes)


NEVER = {
    "expired": ("batch_expired", "This request could not be executed before the completion window expired."),
    "cancelled": ("batch_cancelled", "This request was not executed before the batch was cancelled."),
    "failed": ("unit_failed", "This request could not be executed, after several attempts."),
}
"""What is said of a line that was never run, by how the batch ended."""


def never_run(line: Item, code: str, message: str) -> Outcome:
    """The outcome of a line that there is no response to."""
    values = {"id": new_id("batch_req_"), "custom_id": line["custom_id"], "response": None}
    return Outcome(line["custom_id"], _json(values | {"error": {"code": code, "message": message}}), code)


def response_line(line: Item, status: int, body: dict[str, Any]) -> str:
    """The line of the output or error file that tells the response to a line."""
    response_values = {"status_code": status, "request_id": new_id("req_"), "body": body}
    values = {"id": new_id("batch_req_"), "custom_id": line["custom_id"], "response": response_values, "error": None}
    return _json(values)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
