"""Bodies that are too long, too slow or cut off, over a real port."""

import json
import resource
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from tests.server.in_process import on_a_port

LONGEST = 100_000
SECONDS = 0.5
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("bodies")
    with on_a_port(folder, body_bytes=LONGEST, upload_bytes=2 * LONGEST, body_seconds=SECONDS) as found:
        yield found.url


def gigabyte() -> Iterator[bytes]:
    """2^30 bytes, a megabyte at a time."""
    for _ in range(1024):
        yield bytes(2**20)


def code(response: httpx.Response) -> tuple[int, str]:
    """Status and error code."""
    return response.status_code, response.json()["error"]["code"]


def sent_raw(url: str, *parts: bytes, pause: float = 0.0) -> bytes:
    """What comes back where these bytes are sent with pauses, until the connection ends."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
        for part in parts:
            try:
                connection.sendall(part)
            except OSError:
                break
            time.sleep(pause)
        received = b""
        while more := connection.recv(65_536):
            received += more
        return received


@pytest.mark.parametrize("path", ["/v1/explanations", "/v1/files"])
def test_a_gigabyte_that_is_announced_is_refused_before_it_is_sent(url: str, path: str) -> None:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {2**30}\r\n\r\n"
    )
    received = sent_raw(url, head.encode())
    assert received.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in received
    assert json.loads(received.partition(b"\r\n\r\n")[2])["error"]["code"] == "body_too_large"


def test_a_gigabyte_in_chunks_is_refused_at_the_limit_and_never_held(url: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    response = httpx.post(f"{url}/v1/explanations", content=gigabyte(), headers=JSON, timeout=60)
    assert code(response) == (413, "body_too_large")
    assert f"{LONGEST:,} bytes" in response.json()["detail"]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes


def test_a_body_as_long_as_the_limit_is_read(url: str) -> None:
    shell = json.dumps({"question": "", "solution": "2"})
    body = json.dumps({"question": "x" * (LONGEST - len(shell)), "solution": "2"}).encode()
    assert len(body) == LONGEST
    assert code(httpx.post(f"{url}/v1/explanations", content=body, headers=JSON)) == (503, "no_teacher")
    longer = body.replace(b"x", b"xx", 1)
    assert code(httpx.post(f"{url}/v1/explanations", content=longer, headers=JSON)) == (413, "body_too_large")


def test_an_upload_may_be_longer_up_to_its_own_limit(url: str) -> None:
    def upload(size: int) -> httpx.Response:
        file = {"file": ("problems.jsonl", bytes(size))}
        return httpx.post(f"{url}/v1/files", files=file, data={"purpose": "user_data"})

    assert upload(LONGEST + 1).status_code == 200
    assert code(upload(2 * LONGEST + 1)) == (413, "body_too_large")
    assert code(upload(9 * LONGEST)) == (413, "body_too_large")
    form = httpx.post(f"{url}/v1/files", data={"purpose": "x" * LONGEST})  # is held in memory, unlike a file
    assert code(form) == (413, "body_too_large")


def test_a_body_that_dribbles_in_is_given_up(url: str) -> None:
    head = (
        b"POST /v1/scores HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
    )
    received = sent_raw(url, head, *[b"{"] * 20, pause=SECONDS / 5)
    assert received.startswith(b"HTTP/1.1 408 ")
    assert b"did not arrive within 0.5 s" in received


def test_a_body_that_is_cut_off_leaves_the_service_at_work(url: str) -> None:
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port)) as connection:
        connection.sendall(b"POST /v1/scores HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{")
    assert httpx.get(f"{url}/health/live").status_code == 200


def test_a_length_that_is_no_number_is_refused(url: str) -> None:
    received = sent_raw(url, b"POST /v1/scores HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 400 ")


def test_json_ten_thousand_deep_is_refused(url: str) -> None:
    body = b'{"question": "1", "solution": ' + b"[" * 10_000 + b"]" * 10_000 + b"}"
    assert code(httpx.post(f"{url}/v1/scores", content=body, headers=JSON)) == (400, "invalid_body")
