"""A vLLM that the service starts, watches and ends itself, on a loopback port that only it knows the key to.

vLLM's own entry point runs in a child process (vllm_lifeline.py), its log goes to a file. A child that dies is started
again on the same port; requests meanwhile are told that the engine is unavailable. On a CPU vLLM must neither compile
(longer than the models that run there need) nor cut a prompt into chunks (a seeded row dies of it: vLLM 0.31, "CPU
Generator does not use offset"). Whoever starts vLLM for the service elsewhere passes the same `arguments`.
"""

import asyncio
import os
import re
import secrets
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from transformers import AutoConfig, GenerationConfig

from server.configs import EngineSettings
from server.engine.protocol import Generation
from server.engine.vllm_lifeline import VARIABLE
from server.engine.vllm_servers import VllmServers
from server.errors import EngineRefused, EngineUnavailable, ServerError
from student.engine import context_tokens, end_ids
from student.errors import RltError
from student.models import load_tokenizer, resolve_device, resolve_dtype

SERVED_NAME = "teacher"
_ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_SERVER_DEV_MODE": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "PYTHONUNBUFFERED": "1",
}
"""What the child reads as it starts; a variable that is set already keeps its value. The cache is GiB, on a CPU."""
_ON_CPU = {"TORCHDYNAMO_DISABLE": "1"}
"""On a GPU compilation pays; here the first request for log-probabilities would wait 20 s for it."""
_TERM_SECONDS = 10


def end_ids_of(model: str) -> list[int]:
    """The tokens that end a text of the model in this folder or of this hub name."""
    try:
        generation = GenerationConfig.from_pretrained(model)
    except OSError:  # a model need not have one
        generation = None
    return end_ids(load_tokenizer(model), generation)


def arguments(model: str, settings: EngineSettings) -> list[str]:
    """vLLM's command line for serving `model`, without address and key."""
    device = resolve_device(settings)
    dtype = str(resolve_dtype(settings, device)).removeprefix("torch.")
    asked = ["--model", model, "--served-model-name", SERVED_NAME, "--dtype", dtype, "--seed", "0"]
    asked += ["--generation-config", "vllm", "--logprobs-mode", "processed_logprobs", "--disable-uvicorn-access-log"]
    asked += ["--worker-extension-cls", "server.engine.vllm_lifeline.Reloading"]
    if settings.context_tokens:
        asked += ["--max-model-len", str(settings.context_tokens)]
    if settings.adapters:
        asked += ["--enable-lora", "--max-loras", str(settings.adapters), "--max-lora-rank", "64"]
    if device.type == "cpu":
        longest = settings.context_tokens or context_tokens(AutoConfig.from_pretrained(model)) or 0
        budget = str(max(longest, 16_384))
        asked += ["--max-num-seqs", str(settings.engine_concurrency)]  # its own choice on a CPU is half of LLM's
        return [*asked, "--enforce-eager", "--no-enable-chunked-prefill", "--max-num-batched-tokens", budget]
    return [*asked, "--gpu-memory-utilization", str(settings.gpu_memory_fraction)]


class VllmChild:
    """The child process: `start`, then `watch` in a task of its own, then `end`."""

    def __init__(self, model: str, settings: EngineSettings, log: Path) -> None:
        self.model = model
        """Whose weights it is started with, the next time too."""
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.key = secrets.token_urlsafe(32)
        self._settings = settings
        self._log = log
        self._log_begins = 0
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """Of the API server; None before the start."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Starts vLLM and returns when it serves; raises ServerError, with the log's last words, where it does not."""
        began = time.monotonic()
        print(f"vLLM is starting on {self.model} (log: {self._log})", file=sys.stderr, flush=True)
        self._log_begins = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self._process = await self._spawn(log)
        try:
            await self._until_ready(began)
        except BaseException:
            await self.end()
            raise
        print(f"vLLM is ready after {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)

    async def watch(self) -> None:
        """Starts vLLM again whenever it has ended, for ever."""
        while True:
            assert self._process is not None, "watched before it was started"
            code = await self._process.wait()
            self._kill_group()
            print(f"vLLM ended by itself ({_ending(code)}); it is started again", file=sys.stderr, flush=True)
            try:
                await self.start()
            except (RltError, OSError) as error:
                print(error, file=sys.stderr, flush=True)
                await asyncio.sleep(5)

    async def end(self) -> None:
        """Ends vLLM and everything it started."""
        if self._process is None:
            return
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), _TERM_SECONDS)
        self._kill_group()
        await self._process.wait()

    async def _spawn(self, log: IO[bytes]) -> asyncio.subprocess.Process:
        address = ["--host", "127.0.0.1", "--port", str(self.port)]
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # a folder named vllm or server where the service was started is not the package
            "-m",
            "server.engine.vllm_lifeline",
            *arguments(self.model, self._settings),
            *address,
            env=self._environment(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C ends the service, and the service ends it
        )

    def _environment(self) -> dict[str, str]:
        """The service's own, without its secrets: vLLM in development mode shows its environment."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RLT_")}
        on_cpu = _ON_CPU if resolve_device(self._settings).type == "cpu" else {}
        environment = _ENVIRONMENT | on_cpu | inherited | {VARIABLE: str(os.getpid()), "VLLM_API_KEY": self.key}
        if self._settings.adapters:
            environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "1"
        if self._settings.threads:  # vLLM would bind as many as there are cores, always to the same ones
            environment |= {"OMP_NUM_THREADS": str(self._settings.threads), "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
        return environment

    def failure(self, what: str) -> str:
        """`what`, with the reason that the log of the last start gives, and the remedy."""
        why = last_error(self._log, self._log_begins)
        return f"{what}: {why}; the whole log is {self._log}; engine 'transformers' does without vLLM"

    async def _until_ready(self, began: float) -> None:
        assert self._process is not None
        while not await self._answers():
            if self._process.returncode is not None:
                raise ServerError(self.failure(f"vLLM did not start ({_ending(self._process.returncode)})"))
            if time.monotonic() - began > self._settings.engine_start_seconds:
                raise ServerError(
                    f"vLLM was not ready after {self._settings.engine_start_seconds:g} s: see {self._log}, "
                    "or give it more by engine_start_seconds"
                )
            await asyncio.sleep(0.1)

    async def _answers(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True

    def _kill_group(self) -> None:
        """Workers that outlived the API server."""
        if self.pid is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)


class ChildEngine(VllmServers):
    """VllmServers on one child, which ends with it."""

    def __init__(self, child: VllmChild, end_ids: Sequence[int], concurrency: int) -> None:
        super().__init__([child.url], end_ids, concurrency, child.key)
        self.child = child
        self._watcher = asyncio.create_task(child.watch())

    async def reload(self, model: str) -> None:
        """New weights, which a child that has to be started again will begin with."""
        await super().reload(model)
        self.child.model = model

    async def close(self) -> None:
        """Ends vLLM."""
        self._watcher.cancel()
        await asyncio.gather(self._watcher, return_exceptions=True)
        await super().close()
        await self.child.end()


async def open_child(model: str, settings: EngineSettings, data: Path) -> ChildEngine:
    """An engine on a vLLM that is started here; raises ServerError where it does not become ready."""
    data.mkdir(parents=True, exist_ok=True)
    child = VllmChild(model, settings, Path(settings.engine_log or data / "vllm.log"))
    ends = await asyncio.to_thread(end_ids_of, model)
    await child.start()
    engine = ChildEngine(child, ends, settings.engine_concurrency)
    try:
        await engine.open()
        await _try_out(engine)
    except BaseException:
        await engine.close()
        raise
    return engine


async def _try_out(engine: ChildEngine) -> None:
    """Samples one token: an attention shape that vLLM has no kernel for is noticed only there."""
    try:
        await engine.generate(Generation([0], seed=0, max_tokens=1, temperature=0.0))
    except (EngineUnavailable, EngineRefused) as error:
        raise ServerError(engine.child.failure("vLLM started, but cannot sample")) from error


def last_error(log: Path, offset: int = 0) -> str:
    """The line of vLLM's log, from `offset` on, that says best why it ended."""
    with log.open("rb") as stream:
        stream.seek(offset)
        lines = stream.read().decode(errors="replace").splitlines()
    lines = [re.sub(r"^\(\w+ pid=\d+\) (ERROR [\d:\- ]+\[[^\]]*\] ?)?", "", line).strip() for line in lines]
    errors = [number for number, line in enumerate(lines) if re.match(r"[\w.]*(Error|Exception)\b.*: .", line)]
    first = next((number for number in errors if "Engine core init" not in lines[number]), None)
    if first is None:
        return next((line for line in reversed(lines) if line), "it said nothing")[:300]
    heading = "validation error" in lines[first]  # pydantic's, the reason stands below it
    return " ".join(lines[first : first + 1 + 2 * heading][heading:])[:300]


def _ending(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
