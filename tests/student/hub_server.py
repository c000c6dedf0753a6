"""A stand-in for the Hugging Face hub: a real HTTP server with the routes that its client calls to publish a dataset.

Files go the way the hub sends them: small texts in the commit itself, the rest by Git LFS, and a commit takes an LFS
file only where its bytes came and have the SHA-256 that was promised. Left out: Xet, which the client would use if the
hub offered it (HF_HUB_DISABLE_XET=1 says no), reading files, and everything that is no dataset.
"""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml

TOKEN = "hf_theOnlyTokenThatMayWrite"
LFS_SUFFIXES = (".parquet", ".png")


@dataclass
class Repository:
    """A dataset on the hub."""

    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: int = 0


@dataclass
class Hub:
    """What the server holds, and what it was asked."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    fails_at: str | None = None
    """A part of the path of requests that get a 500."""


class _Refused(Exception):
    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.hub.asked.append(f"{self.command} {self.path}")
        try:
            status, found, code = 200, self._found(self.path.partition("?")[0], body), ""
        except _Refused as refused:
            status, found, code = refused.status, {"error": refused.message}, refused.code
        data = json.dumps(found).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        if code:
            self.send_header("x-error-code", code)
            self.send_header("x-error-message", found["error"])
        self.end_headers()
        self.wfile.write(data)

    def _found(self, path: str, body: bytes) -> dict[str, Any]:
        hub = self.hub
        if hub.fails_at is not None and hub.fails_at in path:
            raise _Refused(500, "it burns")
        if path.startswith("/blobs/"):
            hub.blobs[path.removeprefix("/blobs/")] = body
            return {}
        if path == "/api/validate-yaml":
            return _validated(json.loads(body)["content"])
        if self.headers.get("authorization") != f"Bearer {TOKEN}":
            raise _Refused(401, "Invalid credentials in Authorization header")
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path.endswith("/info/lfs/objects/batch"):
            return self._batch(json.loads(body))
        _, api, kind, owner, name, *rest = path.split("/")
        assert (api, kind) == ("api", "datasets"), path
        repository = hub.repositories.get(f"{owner}/{name}")
        if repository is None:
            raise _Refused(404, "Repository not found", "RepoNotFound")
        if not rest:
            return {"id": f"{owner}/{name}", "private": repository.private, "sha": "0" * 40, "siblings": []}
        if rest == ["preupload", "main"]:
            return {"files": [_mode(each["path"]) for each in json.loads(body)["files"]]}
        assert rest == ["commit", "main"], path
        made = self._commit(repository, [json.loads(line) for line in body.splitlines()])
        return {"commitUrl": f"{hub.url}/datasets/{owner}/{name}/commit/{made}", "commitOid": made}

    def _create(self, asked: dict[str, Any]) -> dict[str, Any]:
        assert asked["type"] == "dataset"
        if asked["organization"] == "others":
            raise _Refused(403, "You don't have the rights to create a dataset under the namespace others")
        name = f"{asked['organization']}/{asked['name']}"
        self.hub.repositories[name] = Repository(private=asked.get("visibility") == "private")
        return {"url": f"{self.hub.url}/datasets/{name}"}

    def _batch(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Says where each object may be put."""
        return {
            "transfer": "basic",
            "objects": [
                {
                    **each,
                    "actions": {"upload": {"href": f"{self.hub.url}/blobs/{each['oid']}"}},
                }
                for each in asked["objects"]
            ],
        }

    def _commit(self, repository: Repository, lines: list[dict[str, Any]]) -> str:
        made = {}
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                made[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                data = self.hub.blobs.get(value["oid"])
                if data is None or sha256(data).hexdigest() != value["oid"] or len(data) != value["size"]:
                    raise _Refused(400, f"{value['path']}: its bytes did not come")
                made[value["path"]] = data
            else:
                assert line["key"] == "header"
        repository.files |= made
        repository.commits += 1
        return sha256(str(repository.commits).encode()).hexdigest()[:40]


def _mode(path: str) -> dict[str, Any]:
    return {"path": path, "uploadMode": "lfs" if path.endswith(LFS_SUFFIXES) else "regular", "shouldIgnore": False}


def _validated(content: str) -> dict[str, Any]:
    """What the hub says of a card: front matter that is YAML, with a license."""
    data = yaml.safe_load(content.split("---")[1])
    assert isinstance(data, dict)
    assert data["license"]
    return {"errors": [], "warnings": []}


@contextmanager
def hub_server() -> Iterator[Hub]:
    """The hub, while it is served."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
