"""A second address for a vLLM: carries requests to it, counts them, and fails as servers do when a test says so."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

import httpx

Mood = Literal["carry", "drop", "busy"]


class Front:
    """Made by `front`."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.mood: Mood = "carry"
        """drop breaks every answer off in its middle, busy answers 503."""
        self.passages = 0
        """How many were carried."""
        self.most_at_a_time = 0
        self.shift = 0.0
        """Nats added to each log-probability on its way back: a server with another student."""
        self.on_passage: Callable[[list[int]], None] = lambda ids: None
        """Called with the ids of each passage before it is carried; what it raises is answered as 500."""
        self.asked = 0
        self._busy = 0
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self._port = 0
        self._client = httpx.Client(timeout=60, trust_env=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listens; after `stop` at the same port as before."""
        handler = type("Handler", (_Handler,), {"front": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), handler)
        self._server.daemon_threads = True
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        """Refuses connections, and breaks those there are as soon as they are used."""
        if self._server is not None:
            self.mood = "drop"
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def carry(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        """The target's answer."""
        with self._lock:
            self.asked += 1
            self._busy += 1
            self.most_at_a_time = max(self.most_at_a_time, self._busy)
        try:
            if path == "/v1/completions":
                self.on_passage(json.loads(body)["prompt"])
            if self.mood == "busy":
                return 503, b'{"error": {"message": "overloaded"}}'
            answer = self._client.request(method, self.target + path, headers=headers, content=body)
            return answer.status_code, self._shifted(answer.content) if path == "/v1/completions" else answer.content
        except ValueError as error:
            return 500, json.dumps({"error": {"message": str(error)}}).encode()
        finally:
            with self._lock:
                self._busy -= 1
                self.passages += path == "/v1/completions" and self.mood == "carry"

    def _shifted(self, content: bytes) -> bytes:
        if not self.shift:
            return content
        answer: Any = json.loads(content)
        for entry in answer["choices"][0]["prompt_logprobs"][1:]:
            for token in entry.values():
                token["logprob"] -= self.shift
        return json.dumps(answer).encode()


class _Handler(BaseHTTPRequestHandler):
    front: Front
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, body: bytes) -> None:
        names = ("Authorization", "Content-Type")
        headers = {name: self.headers[name] for name in names if name in self.headers}
        status, content = self.front.carry(self.command, self.path, headers, body)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        dropped = self.front.mood == "drop"
        self.wfile.write(content[: len(content) // 2] if dropped else content)
        self.close_connection = dropped

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@contextmanager
def front(target: str) -> Iterator[Front]:
    """A front of the server at `target`, listening."""
    made = Front(target)
    made.start()
    try:
        yield made
    finally:
        made.stop()
