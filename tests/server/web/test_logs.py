"""Log lines: one form for ours and the libraries', nothing below the level, and no content of anybody's."""

import io
import json
import logging
from typing import Any

import pytest
import structlog
from structlog.contextvars import bind_contextvars

from server.configs import ServiceConfig
from server.web.logs import set_up_logs

pytestmark = pytest.mark.usefixtures("logs_as_before")


def set_up(**settings: Any) -> io.StringIO:
    """A stream that gets the log lines of this process."""
    stream = io.StringIO()
    set_up_logs(ServiceConfig(**settings), stream)
    return stream


def test_lines_of_ours_and_of_libraries_have_one_form_and_the_requests_id() -> None:
    stream = set_up()
    bind_contextvars(request_id="req_1")
    structlog.get_logger("ours").info("hello", rows=3)
    logging.getLogger("sqlalchemy").warning("pool of %s", 5)
    ours, theirs = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (ours["event"], ours["rows"], ours["level"], ours["request_id"]) == ("hello", 3, "info", "req_1")
    assert (theirs["event"], theirs["level"], theirs["request_id"]) == ("pool of 5", "warning", "req_1")
    assert theirs["logger"] == "sqlalchemy"
    assert ours["time"].endswith("Z")


def test_text_is_for_people_and_json_for_machines() -> None:
    stream = set_up(log_format="text")
    structlog.get_logger("ours").info("hello", rows=3)
    assert "hello" in stream.getvalue()
    assert "rows=3" in stream.getvalue()
    with pytest.raises(ValueError):
        json.loads(stream.getvalue())


def test_a_traceback_is_one_json_line() -> None:
    stream = set_up()
    try:
        raise KeyError("lost")
    except KeyError as error:
        structlog.get_logger("ours").error("failed", exc_info=error)
        logging.getLogger("theirs").exception("failed too")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert all("KeyError: 'lost'" in line["exception"] for line in lines)


def test_debug_is_ours_alone_since_libraries_log_what_they_are_sent() -> None:
    stream = set_up(log_level="debug")
    structlog.get_logger("ours").debug("details")
    logging.getLogger("aiosqlite").debug("INSERT 'a secret question'")
    logging.getLogger("httpx").info("GET https://somewhere")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["details"]


def test_what_is_less_severe_than_the_level_is_left_out() -> None:
    stream = set_up(log_level="warning")
    structlog.get_logger("ours").info("hello")
    logging.getLogger("theirs").info("hello")
    structlog.get_logger("ours").warning("look")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["look"]
