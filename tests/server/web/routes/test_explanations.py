"""POST /v1/explanations over a real port: what is made, in which order, what is refused, and what ends it."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.in_process import Script, Served, on_a_port
from tests.server.service_process import Service

ASKED = {
    "question": "Ann has 3 apples and buys 4 more. How many apples does she have?",
    "solution": "The answer is \\boxed{7}.",
    "temperature": 1.0,
    "max_tokens": 12,
    "seed": 5,
}
PATH = "/v1/explanations"
SCRIPT = "She has 3.\n\nShe buys 4, so 7.<|end_of_explanation|>"


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[httpx.Client]:
    with service.client() as found:
        yield found


@pytest.fixture
def held(servable_model_folder: Path, tmp_path: Path) -> Iterator[Served]:
    """A service whose teacher writes nothing until it is let go; two places, one may wait, four seconds at most."""
    script = Script(servable_model_folder, SCRIPT)
    with on_a_port(tmp_path, script, running=2, waiting=1, request_seconds=4) as served:
        served.hold()
        yield served
        served.let_go()


def events_of(text: str) -> list[tuple[str, Any]]:
    """Server-sent events as (name, data)."""
    blocks = [block.split("\n") for block in text.strip().split("\n\n") if not block.startswith(":")]
    return [(block[0].removeprefix("event: "), json.loads(block[1].removeprefix("data: "))) for block in blocks]


def figure(url: str, name: str) -> float:
    """One of the figures at /metrics."""
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))


def await_figure(url: str, name: str, value: float) -> None:
    """Returns once the figure has this value; fails after ten seconds."""
    until = time.monotonic() + 10
    while (seen := figure(url, name)) != value:
        assert time.monotonic() < until, f"{name} is {seen}, not {value}"
        time.sleep(0.02)


def test_the_same_seed_gives_the_same_explanations_and_each_names_its_own(client: httpx.Client) -> None:
    first, again = (client.post(PATH, json=ASKED | {"n": 3}).json() for _ in range(2))
    assert first["explanations"] == again["explanations"]
    assert [made["index"] for made in first["explanations"]] == [0, 1, 2]
    assert len({made["seed"] for made in first["explanations"]}) == 3
    assert len({made["teacher_digest"] for made in first["explanations"]}) == 1
    tokens = sum(made["tokens"] for made in first["explanations"])
    assert first["usage"]["completion_tokens"] == tokens
    assert first["usage"]["total_tokens"] == tokens + first["usage"]["prompt_tokens"]


def test_without_a_seed_each_answer_is_another_one(client: httpx.Client) -> None:
    unseeded = {name: value for name, value in ASKED.items() if name != "seed"}
    first, second = (client.post(PATH, json=unseeded).json()["explanations"][0]["seed"] for _ in range(2))
    assert first != second


@pytest.mark.parametrize(("rank_by", "sign"), [("reward", -1), ("rss", -1), ("rkl", 1)])
def test_the_best_n_come_back_in_the_order_of_the_ranking(client: httpx.Client, rank_by: str, sign: int) -> None:
    every = client.post(PATH, json=ASKED | {"n": 5, "return_scores": True}).json()
    best = client.post(PATH, json=ASKED | {"n": 2, "best_of": 5, "rank_by": rank_by}).json()
    ranked = sorted(every["explanations"], key=lambda made: sign * made["score"][rank_by])
    assert [made["index"] for made in best["explanations"]] == [made["index"] for made in ranked[:2]]
    assert best["usage"] == every["usage"]  # all that was sampled is paid for


def test_a_stream_joined_is_the_whole_answer(client: httpx.Client) -> None:
    whole = client.post(PATH, json=ASKED | {"n": 2}).json()
    response = client.post(PATH, json=ASKED | {"n": 2, "stream": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    events = events_of(response.text)
    joined = {0: "", 1: ""}
    for name, data in events:
        if name == "delta":
            joined[data["index"]] += data["text"]
    made = sorted((data for name, data in events if name == "explanation"), key=lambda data: data["index"])
    assert made == whole["explanations"]
    assert [joined[0], joined[1]] == [each["explanation"] for each in made]
    assert events[-1][0] == "done"
    assert events[-1][1]["usage"] == whole["usage"]


def test_a_ranked_stream_ends_with_the_best_in_order(client: httpx.Client) -> None:
    asked = ASKED | {"n": 2, "best_of": 4}
    whole = client.post(PATH, json=asked).json()
    events = events_of(client.post(PATH, json=asked | {"stream": True}).text)
    assert [data for name, data in events if name == "explanation"] == whole["explanations"]
    assert [name for name, _ in events][-3:] == ["explanation", "explanation", "done"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("change", "status", "param", "code"),
    [
        ({"model": "gpt-4"}, 404, "model", "model_not_found"),
        ({"n": 65}, 422, "n", "invalid_value"),
        ({"best_of": 65}, 422, "best_of", "invalid_value"),
        ({"max_tokens": 20_000}, 422, "max_tokens", "invalid_value"),
        ({"question": "apples " * 1000}, 422, "question", "context_length_exceeded"),
        ({"solution": "x" * 400_001}, 422, "solution", "invalid_value"),
        ({"solution": "a <|im_end|> token"}, 422, "solution", "invalid_value"),
        ({"temperature": "warm"}, 422, "temperature", "invalid_value"),
    ],
)
def test_what_cannot_be_done_has_its_own_status_streamed_or_not(
    client: httpx.Client, change: dict[str, Any], status: int, param: str, code: str, stream: bool
) -> None:
    response = client.post(PATH, json=ASKED | {"stream": stream} | change)
    assert (response.status_code, response.json()["error"]["param"]) == (status, param)
    assert response.json()["error"]["code"] == code


def test_a_service_without_a_student_says_so_where_scores_are_wanted(held: Served) -> None:
    response = httpx.post(held.url + PATH, json=ASKED | {"best_of": 2})
    assert (response.status_code, response.json()["error"]["code"]) == (503, "no_student")
    assert response.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("stream", [False, True])
def test_the_work_of_a_caller_who_leaves_is_ended(held: Served, stream: bool) -> None:
    with ThreadPoolExecutor(1) as callers:
        leaving = callers.submit(httpx.post, held.url + PATH, json=ASKED | {"n": 2, "stream": stream}, timeout=1)
        await_figure(held.url, "rlt_running", 2)
        assert isinstance(leaving.exception(), httpx.ReadTimeout)
    await_figure(held.url, "rlt_running", 0)
    assert held.engine.running == 0
    assert figure(held.url, "rlt_explanations_total") == 0


def test_who_waits_and_leaves_gives_the_place_in_the_line_to_the_next(held: Served) -> None:
    with ThreadPoolExecutor(2) as callers:
        first = callers.submit(httpx.post, held.url + PATH, json=ASKED | {"n": 2}, timeout=20)
        await_figure(held.url, "rlt_running", 2)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(held.url + PATH, json=ASKED, timeout=0.3)
        await_figure(held.url, "rlt_waiting", 0)
        assert figure(held.url, "rlt_callers_gone_total") == 1
        second = callers.submit(httpx.post, held.url + PATH, json=ASKED, timeout=20)
        await_figure(held.url, "rlt_waiting", 1)
        held.let_go()
        assert [first.result().status_code, second.result().status_code] == [200, 200]


@pytest.mark.parametrize("stream", [False, True])
def test_one_more_than_may_wait_is_turned_away(held: Served, stream: bool) -> None:
    with ThreadPoolExecutor(2) as callers:
        running = callers.submit(httpx.post, held.url + PATH, json=ASKED | {"n": 2}, timeout=20)
        await_figure(held.url, "rlt_running", 2)
        waiting = callers.submit(httpx.post, held.url + PATH, json=ASKED, timeout=20)
        await_figure(held.url, "rlt_waiting", 1)
        refused = httpx.post(held.url + PATH, json=ASKED | {"stream": stream})
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "overloaded")
        assert int(refused.headers["retry-after"]) >= 1
        held.let_go()
        assert [running.result().status_code, waiting.result().status_code] == [200, 200]


def test_what_takes_longer_than_the_service_allows_is_504(held: Served) -> None:
    response = httpx.post(held.url + PATH, json=ASKED, timeout=20)
    assert (response.status_code, response.json()["error"]["code"]) == (504, "generation_timeout")
    assert held.engine.running == 0


def test_a_stream_that_takes_longer_says_so_in_an_event(held: Served) -> None:
    events = events_of(httpx.post(held.url + PATH, json=ASKED | {"stream": True}, timeout=20).text)
    assert [(name, data["error"]["code"]) for name, data in events] == [("error", "generation_timeout")]
    assert events[0][1]["status"] == 504
    await_figure(held.url, "rlt_running", 0)


def test_a_stream_is_silent_for_no_longer_than_a_ping(held: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.web.events.PING_SECONDS", 0.2)
    with httpx.stream("POST", held.url + PATH, json=ASKED | {"stream": True}) as response:
        lines = response.iter_lines()
        assert [next(lines), next(lines), next(lines)] == [": ping", "", ": ping"]
        held.let_go()
        assert "event: done" in list(lines)
