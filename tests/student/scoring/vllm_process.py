"""A real vLLM of the tests' own, on a loopback port and with a key."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

FOLDED = 0.7
"""The temperature in the served student's weights."""
MAX_MODEL_LEN = 900
START_SECONDS = 300
FLAGS = ("--enforce-eager", "--no-enable-chunked-prefill", "--max-num-batched-tokens", "16384")
ENVIRONMENT = {
    "TORCHDYNAMO_DISABLE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "WARNING",
}


@dataclass(frozen=True)
class Vllm:
    """A running server."""

    url: str
    key: str
    pid: int
    """Of the API server; its group holds the others."""


@contextmanager
def serving(model: Path, max_tokens: int, log: Path, dtype: str = "float32") -> Iterator[Vllm]:
    """vLLM with that model under the name "student", ready; it ends with the context."""
    key, port = secrets.token_hex(8), free_port()
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model), *FLAGS]
    command += ["--dtype", dtype, "--served-model-name", "student", "--max-model-len", str(max_tokens)]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    environment = os.environ | ENVIRONMENT | {"VLLM_API_KEY": key}
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process, log)
        yield Vllm(f"http://127.0.0.1:{port}", key, process.pid)
    finally:
        end(process)


def wait_for(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Returns when vLLM answers there."""
    began = time.monotonic()
    while time.monotonic() - began < START_SECONDS:
        assert process.poll() is None, log.read_text(errors="replace")[-3000:]
        with suppress(httpx.HTTPError):
            if httpx.get(address, trust_env=False).status_code == 200:
                return
        time.sleep(0.3)
    raise AssertionError(f"vLLM was not ready after {START_SECONDS} s: {log.read_text(errors='replace')[-3000:]}")


def end(process: "subprocess.Popen[bytes]") -> None:
    """Ends vLLM and the processes it started."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(20)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
