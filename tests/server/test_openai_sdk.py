"""The stock openai SDK drives the service over a real port: chat, files, batches, and each error by its own class."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types import Batch

from student.engine import sample_seed
from student.problems import Problem, content_id
from tests.server.conftest import service_of
from tests.server.service_process import Service

QUESTION = "Ann has 3 apples and buys 4 more. How many apples does she have?"
SOLUTION = "The answer is \\boxed{7}."
ASKED: Any = {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 12, "temperature": 1.0, "seed": 3}
ENDED = ("completed", "failed", "cancelled", "expired")


@pytest.fixture
def client(service: Service) -> Iterator[OpenAI]:
    with client_of(service) as opened:
        yield opened


def client_of(service: Service, **options: Any) -> OpenAI:
    return OpenAI(base_url=f"{service.url}/v1", api_key=service.key, **options)


@pytest.fixture
def model(client: OpenAI) -> str:
    return client.models.list().data[0].id


def with_solution(**fields: Any) -> dict[str, Any]:
    return {"solution": SOLUTION} | fields


def line(custom_id: str, body: dict[str, Any], url: str = "/v1/explanations", **fields: Any) -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body} | fields


def explanation_line(custom_id: str, **body: Any) -> dict[str, Any]:
    return line(custom_id, {"question": QUESTION, "solution": SOLUTION, "max_tokens": 8, "seed": 1} | body)


def uploaded(client: OpenAI, *lines: dict[str, Any] | str) -> str:
    text = "".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in lines)
    return client.files.create(file=("lines.jsonl", text.encode()), purpose="batch").id


def begun(client: OpenAI, *lines: dict[str, Any] | str, endpoint: Any = "/v1/explanations") -> Batch:
    return client.batches.create(
        input_file_id=uploaded(client, *lines), endpoint=endpoint, completion_window="24h", metadata={"for": "a test"}
    )


def ended(client: OpenAI, batch: Batch) -> Batch:
    while batch.status not in ENDED:
        time.sleep(0.05)
        batch = client.batches.retrieve(batch.id)
    return batch


def outcomes(client: OpenAI, file_id: str | None) -> dict[str, dict[str, Any]]:
    """The lines of an output or error file by custom_id; each id once."""
    if file_id is None:
        return {}
    lines = [json.loads(each) for each in client.files.content(file_id).iter_lines() if each]
    found = {each["custom_id"]: each for each in lines}
    assert len(found) == len(lines)
    return found


def test_a_chat_completion_is_an_explanation_with_our_fields_beside_it(client: OpenAI, model: str) -> None:
    ranked = with_solution(best_of=4, return_scores=True)
    answer = client.chat.completions.create(model=model, n=2, extra_body=ranked, **ASKED)
    assert (answer.object, answer.model) == ("chat.completion", model)
    assert [choice.index for choice in answer.choices] == [0, 1]
    extras = [(choice.model_extra or {})["rlt"] for choice in answer.choices]
    rewards = [extra["score"]["reward"] for extra in extras]
    assert rewards == sorted(rewards, reverse=True)
    problem_id = content_id(QUESTION, SOLUTION)
    assert all(extra["seed"] == sample_seed(3, problem_id, extra["index"]) for extra in extras)
    for choice, extra in zip(answer.choices, extras, strict=True):
        assert choice.finish_reason == ("stop" if extra["closed"] or extra["finished"] else "length")
    assert answer._request_id


def test_usage_counts_every_sample_and_the_prompt_once(client: OpenAI, model: str) -> None:
    every = client.chat.completions.create(model=model, n=4, extra_body=with_solution(), **ASKED)
    best = client.chat.completions.create(model=model, extra_body=with_solution(best_of=4), **ASKED)
    sampled = sum((choice.model_extra or {})["rlt"]["tokens"] for choice in every.choices)
    assert every.usage is not None
    assert every.usage == best.usage
    assert every.usage.completion_tokens == sampled
    assert every.usage.total_tokens == every.usage.prompt_tokens + sampled


def test_it_is_what_explanations_gives_for_the_same_seed(client: OpenAI, model: str) -> None:
    chat = client.chat.completions.create(model=model, n=2, extra_body=with_solution(), **ASKED)
    body = {"question": QUESTION, "solution": SOLUTION, "n": 2, "max_tokens": 12, "temperature": 1.0, "seed": 3}
    ours: Any = client.post("/explanations", body=body, cast_to=object)
    assert [choice.message.content for choice in chat.choices] == [each["explanation"] for each in ours["explanations"]]


def test_a_stream_joined_is_the_whole_answer(client: OpenAI, model: str) -> None:
    asked = {"model": model, "n": 2, "extra_body": with_solution(return_scores=True)} | ASKED
    whole = client.chat.completions.create(**asked)
    texts, ends = ["", ""], {}
    usage = None
    for chunk in client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            if choice.finish_reason is not None:
                ends[choice.index] = (choice.finish_reason, (choice.model_extra or {})["rlt"])
    assert texts == [choice.message.content for choice in whole.choices]
    for choice in whole.choices:
        reason, extra = ends[choice.index]
        told = (choice.model_extra or {})["rlt"]
        assert reason == choice.finish_reason
        assert extra["score"].pop("reward") == pytest.approx(told["score"].pop("reward"), abs=1e-5)
        assert extra["seed"] == told["seed"]
    assert usage == whole.usage


def test_the_message_may_come_in_parts_and_neutral_parameters_are_taken(client: OpenAI, model: str) -> None:
    parts: Any = [{"role": "user", "content": [{"type": "text", "text": QUESTION}]}]
    plain = client.chat.completions.create(model=model, extra_body=with_solution(), **ASKED)
    neutral = {"frequency_penalty": 0, "presence_penalty": 0, "logprobs": False, "user": "me", "stop": None}
    same = client.chat.completions.create(
        model=model, extra_body=with_solution(), **(ASKED | {"messages": parts} | neutral)
    )
    assert same.choices[0].message.content == plain.choices[0].message.content


@pytest.mark.parametrize(
    ("changed", "param", "code"),
    [
        ({"extra_body": {}}, "solution", "missing_required_parameter"),
        ({"messages": [{"role": "system", "content": "be brief"}]}, "messages", "invalid_value"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages.0.content", "invalid_value"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"frequency_penalty": 0.5}, "frequency_penalty", "unsupported_parameter"),
        ({"stop": ["."]}, "stop", "unsupported_parameter"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools", "unsupported_parameter"),
        ({"n": 65}, "n", "invalid_value"),
        ({"temperature": -1}, "temperature", "invalid_value"),
        ({"max_tokens": 20_000}, "max_tokens", "invalid_value"),
        ({"stream": True, "extra_body": with_solution(best_of=2)}, "stream", "invalid_value"),
        ({"extra_body": with_solution(sollution="7")}, "sollution", "invalid_value"),
        ({"messages": [{"role": "user", "content": "word " * 2000}]}, "question", "context_length_exceeded"),
    ],
)
def test_a_request_that_cannot_be_carried_out_is_a_bad_request(
    client: OpenAI, model: str, changed: dict[str, Any], param: str, code: str
) -> None:
    asked = ASKED | {"model": model, "extra_body": with_solution()} | changed
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**asked)
    assert (refused.value.param, refused.value.code) == (param, code)
    assert refused.value.request_id


def test_a_model_that_is_not_served_is_not_found(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client.chat.completions.create(model="gpt-4o", extra_body=with_solution(), **ASKED)
    assert (refused.value.param, refused.value.code) == ("model", "model_not_found")


def test_a_file_comes_back_as_it_was_sent_until_it_is_deleted(client: OpenAI) -> None:
    content = bytes(range(256)) * 5000
    expiry: Any = {"anchor": "created_at", "seconds": 3600}
    file = client.files.create(file=("own data.bin", content), purpose="user_data", expires_after=expiry)
    assert (file.filename, file.bytes, file.purpose) == ("own data.bin", len(content), "user_data")
    assert file.expires_at == pytest.approx(file.created_at + 3600, abs=2)
    assert client.files.wait_for_processing(file.id, max_wait_seconds=5).id == file.id
    assert client.files.content(file.id).read() == content
    with client.files.with_streaming_response.content(file.id) as streamed:
        assert streamed.headers["content-length"] == str(len(content))
        assert b"".join(streamed.iter_bytes()) == content
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)


def test_files_are_listed_page_by_page_in_either_order(client: OpenAI) -> None:
    ids = [client.files.create(file=(f"{n}.txt", b"x"), purpose="evals").id for n in range(5)]
    assert [file.id for file in client.files.list(purpose="evals", limit=2, order="asc")] == ids
    assert [file.id for file in client.files.list(purpose="evals", limit=2)] == ids[::-1]
    for file in ids:
        client.files.delete(file)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"purpose": "nonsense"}, "purpose"),
        ({"expires_after": {"anchor": "created_at", "seconds": 5}}, "expires_after"),
        ({"extra_body": {"nonsense": "1"}}, "nonsense"),
    ],
)
def test_an_upload_that_cannot_be_kept_is_a_bad_request(client: OpenAI, fields: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.files.create(**({"file": ("a.txt", b"x"), "purpose": "evals"} | fields))
    assert refused.value.param == param


def test_a_name_that_is_a_path_names_no_path(client: OpenAI, service: Service) -> None:
    file = client.files.create(file=("../../../escaped.txt", b"x"), purpose="evals")
    assert not list(service.folder.parent.rglob("escaped.txt"))
    assert client.files.content(file.id).read() == b"x"
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve("../batches")
    client.files.delete(file.id)


@pytest.mark.parametrize("endpoint", ["/v1/explanations", "/v1/chat/completions"])
def test_a_batch_answers_every_line_as_its_route_would(client: OpenAI, endpoint: str) -> None:
    chat = endpoint == "/v1/chat/completions"
    good = {"messages": ASKED["messages"]} if chat else {"question": QUESTION}
    good |= {"solution": SOLUTION, "max_tokens": 12, "temperature": 1.0, "seed": 3}
    lines = [line(f"line-{n}", good | {"seed": n}, endpoint) for n in range(40)]
    lines += [line("no solution", {name: good[name] for name in good if name != "solution"}, endpoint)]
    batch = begun(client, *lines, endpoint=endpoint)
    assert (batch.object, batch.endpoint, batch.metadata) == ("batch", endpoint, {"for": "a test"})
    batch = ended(client, batch)
    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert batch.request_counts.model_dump() == {"total": 41, "completed": 40, "failed": 1}
    assert batch.completed_at is not None
    assert batch.usage is not None
    assert batch.usage.output_tokens <= 40 * 12

    done = outcomes(client, batch.output_file_id)
    assert set(done) == {f"line-{n}" for n in range(40)}
    direct: Any = client.post(endpoint.removeprefix("/v1"), body=good, cast_to=object)
    answered = done["line-3"]["response"]["body"]
    name = "choices" if chat else "explanations"
    assert answered[name] == direct[name]
    assert done["line-3"]["error"] is None
    [failed] = outcomes(client, batch.error_file_id).values()
    assert failed["custom_id"] == "no solution"
    assert failed["response"]["status_code"] == (400 if chat else 422)
    assert failed["response"]["body"]["error"]["param"] == "solution"
    assert client.files.retrieve(str(batch.output_file_id)).purpose == "batch_output"


@pytest.mark.parametrize(
    ("lines", "codes"),
    [
        ([explanation_line("a"), explanation_line("b"), explanation_line("a")], [("duplicate_custom_id", 3)]),
        ([explanation_line("a", stream=True)], [("invalid_body", 1)]),
        ([explanation_line("a"), line("b", {}, "/v1/embeddings")], [("invalid_url", 2)]),
        ([explanation_line("a"), "", "{torn", "[1]"], [("invalid_json_line", 3), ("invalid_json_line", 4)]),
        ([{"custom_id": "a", "method": "POST", "url": "/v1/explanations"}], [("missing_required_parameter", 1)]),
        ([line("a", {}, method="GET"), line("", {})], [("invalid_method", 1), ("invalid_custom_id", 2)]),
        (["", ""], [("empty_file", None)]),
    ],
)
def test_a_file_with_a_line_that_is_no_request_fails_whole(
    client: OpenAI, lines: list[dict[str, Any] | str], codes: list[tuple[str, int | None]]
) -> None:
    batch = ended(client, begun(client, *lines))
    assert batch.status == "failed"
    assert batch.errors is not None
    assert [(error.code, error.line) for error in batch.errors.data or []] == codes
    assert (batch.output_file_id, batch.error_file_id) == (None, None)
    assert batch.failed_at is not None


def test_a_batch_of_a_file_that_is_none_is_refused(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.batches.create(input_file_id="file-x", endpoint="/v1/chat/completions", completion_window="24h")
    assert missing.value.param == "input_file_id"
    file = client.files.create(file=("a.jsonl", b"{}"), purpose="evals")
    with pytest.raises(openai.BadRequestError) as refused:
        client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    assert refused.value.code == "invalid_file_purpose"
    endpoint: Any = "/v1/embeddings"
    with pytest.raises(openai.BadRequestError) as refused:
        client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h")
    assert refused.value.param == "endpoint"
    client.files.delete(file.id)


def test_a_cancelled_batch_tells_every_line_once(client: OpenAI) -> None:
    lines = [explanation_line(str(n), max_tokens=300, n=8, seed=n) for n in range(160)]
    batch = begun(client, *lines)
    assert client.batches.cancel(batch.id).status in ("cancelling", "cancelled")
    batch = ended(client, batch)
    assert batch.status == "cancelled"
    assert batch.cancelled_at is not None
    done, never = outcomes(client, batch.output_file_id), outcomes(client, batch.error_file_id)
    if batch.request_counts is not None and batch.request_counts.total:  # else cancelled before the file was read
        assert sorted([*done, *never], key=int) == [str(n) for n in range(160)]
        assert all(each["error"]["code"] == "batch_cancelled" for each in never.values())
    with pytest.raises(openai.BadRequestError) as refused:
        client.batches.cancel(batch.id)
    assert refused.value.code == "wrong_state"


def test_batches_are_listed_newest_first_with_auto_paging(client: OpenAI) -> None:
    ids = [ended(client, begun(client, explanation_line("a"))).id for _ in range(3)]
    listed = [batch.id for batch in client.batches.list(limit=2)]
    assert listed[:3] == ids[::-1]
    assert len(listed) == len(set(listed))


def test_a_batch_sent_again_with_its_key_is_one_batch(client: OpenAI) -> None:
    file = uploaded(client, explanation_line("a"))
    asked: Any = {"endpoint": "/v1/explanations", "completion_window": "24h", "input_file_id": file}
    headers = {"Idempotency-Key": "batch-once"}
    first, again = (client.batches.create(**asked, extra_headers=headers) for _ in range(2))
    assert first.id == again.id


@pytest.fixture(scope="module")
def guarded(servable_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with keys, which tests may kill and start again."""
    settings = {"student": None, "unit_problems": 4, "heartbeat_seconds": 0.5, "takeover_seconds": 2}
    service = service_of(servable_model_folder, tmp_path_factory.mktemp("guarded"), settings, {})
    service.key = service.create_key()
    yield service.start()
    assert service.end() == 0, service.output()


@pytest.mark.slow
def test_a_batch_goes_on_where_the_server_was_killed(guarded: Service, tiny_problems: list[Problem]) -> None:
    client = client_of(guarded, max_retries=8)
    lines = [
        line(problem.id, {"question": problem.question, "solution": problem.solution, "max_tokens": 60, "seed": 0})
        for problem in tiny_problems
    ]
    batch = begun(client, *lines)
    until(lambda: finished(client, batch) > 0)
    guarded.end(signal.SIGKILL)
    guarded.start()
    assert client.batches.retrieve(batch.id).status in ("in_progress", "finalizing", "completed")
    batch = ended(client, batch)
    assert batch.status == "completed"
    assert set(outcomes(client, batch.output_file_id)) == {problem.id for problem in tiny_problems}
    assert batch.error_file_id is None


def finished(client: OpenAI, batch: Batch) -> int:
    counts = client.batches.retrieve(batch.id).request_counts
    return counts.completed if counts is not None else 0


def until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.02)


@pytest.mark.slow
def test_keys_and_scopes_are_told_by_the_sdks_own_classes(guarded: Service) -> None:
    key = guarded.create_key("explain")
    with pytest.raises(openai.AuthenticationError) as refused:
        OpenAI(base_url=f"{guarded.url}/v1", api_key="rlt_wrong").models.list()
    assert refused.value.code == "invalid_api_key"
    with pytest.raises(openai.PermissionDeniedError) as forbidden:
        OpenAI(base_url=f"{guarded.url}/v1", api_key=key).files.list()
    assert forbidden.value.code == "insufficient_scope"
