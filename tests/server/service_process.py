"""A real `rlt serve` in a process of its own, for tests: started on a folder and a port, spoken to over HTTP, ended."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from server.state.database import Database
from server.state.keys import Keys

START_SECONDS = 300
END_SECONDS = 60


class Service:
    """`rlt serve` with these settings; `data` and `port` stay the same over restarts."""

    def __init__(self, folder: Path, port: int, settings: dict[str, Any], environment: dict[str, str]) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.url = f"http://127.0.0.1:{port}"
        self.key = "no-key-needed"
        """What to send as the bearer key: of no account until `create_key` was called."""
        self.log = folder / "service.log"
        self.command = [sys.executable, "-m", "student.cli", "serve", "--port", str(port), "--data", str(self.data)]
        self.command += flags(settings)
        self.environment = os.environ | environment
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def headers(self) -> dict[str, str]:
        """What every request carries."""
        return {"authorization": f"Bearer {self.key}"}

    def client(self) -> httpx.Client:
        """A client of the service, with its key."""
        return httpx.Client(base_url=self.url, headers=self.headers, timeout=60)

    def start(self, ready: bool = True) -> "Service":
        """Starts it, and waits until it is ready unless told otherwise."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, cwd=self.folder, env=self.environment, stdout=log, stderr=log)
        if ready:
            self.await_ready()
        return self

    def await_ready(self) -> None:
        """Returns once /health/ready answers 200."""
        assert self.process is not None
        until = time.monotonic() + START_SECONDS
        while self.process.poll() is None and time.monotonic() < until:
            try:
                if httpx.get(f"{self.url}/health/ready", timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        self.end(signal.SIGKILL)
        raise AssertionError(f"the service is not ready:\n{self.output()}")

    def output(self) -> str:
        """All that it printed and logged so far."""
        return self.log.read_text(encoding="utf-8")

    def send(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ends it and returns its exit status; what does not end in a minute is killed."""
        assert self.process is not None
        if self.process.poll() is None:
            self.send(number)
        try:
            return self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def create_key(self, *scopes: str) -> str:
        """A new key with these scopes, by the way `rlt keys create` takes; `key` stays."""
        return asyncio.run(self._create_key(scopes or ("explain", "datasets", "admin")))

    async def _create_key(self, scopes: Sequence[str]) -> str:
        database = await Database.open(self.environment.get("RLT_DATABASE_URL"), self.data)
        try:
            _, text = await (await Keys.open(database, self.data)).create("test", scopes)
        finally:
            await database.close()
        return text


def flags(settings: dict[str, Any], prefix: str = "--") -> list[str]:
    """Settings as flags; a group is a dictionary.

    >>> flags({"units": 2, "limits": {"body_bytes": 9}, "score_teacher": False, "engine_urls": ["a", "b"]})
    ['--units', '2', '--limits.body-bytes', '9', '--no-score-teacher', '--engine-urls', 'a', '--engine-urls', 'b']
    """
    words: list[str] = []
    for name, value in settings.items():
        flag = prefix + name.replace("_", "-")
        if isinstance(value, dict):
            words += flags(value, f"{flag}.")
        elif isinstance(value, bool):
            words.append(flag if value else f"{prefix}no-{name.replace('_', '-')}")
        elif isinstance(value, list | tuple):
            words += [word for each in value for word in (flag, str(each))]
        elif value is not None:
            words += [flag, str(value)]
    return words
