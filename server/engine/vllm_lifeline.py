"""What of ours runs inside vLLM's own processes: no process outlives the service, and new weights take hold everywhere.

vLLM is three kinds of process (API server, EngineCore, Worker), and a kill -9 of one leaves the others alive with their
memory. The kernel can be asked to end a process with its parent (PR_SET_PDEATHSIG): the API server asks as its first
act (`python -m server.engine.vllm_lifeline`, which then is vLLM's own entry point), the others as vLLM loads its
plugins, of which `register` is one (pyproject.toml). It acts only where RLT_VLLM_LIFELINE is set, so any other vLLM of
the same environment is left alone. Linux only, as vLLM is. The signal comes when the parent's *thread* ends that
started the child; vLLM starts its children from main threads.

`Reloading` is given to vLLM as --worker-extension-cls, its public way of adding a method that `collective_rpc` calls.
"""

import ctypes
import multiprocessing
import os
import runpy
import signal
import sys
from typing import Any

from server.engine.weights import misfit

VARIABLE = "RLT_VLLM_LIFELINE"
"""Set for a vLLM that the service starts; its value is the service's process id."""
_PR_SET_PDEATHSIG = 1


def register() -> None:
    """Ties this process to its parent, where the service started this vLLM; called by vLLM in each of its processes.

    One that multiprocessing did not start is the API server, tied already, or a helper that lives for a second: vLLM
    looks at a model's class in one, the first time that a machine meets it.
    """
    parent = multiprocessing.parent_process()
    if VARIABLE in os.environ and sys.platform == "linux" and parent is not None and parent.pid is not None:
        _die_with(parent.pid)


def _die_with(parent: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the request
        os.kill(os.getpid(), signal.SIGKILL)


class Reloading:
    """Mixed into vLLM's worker. Its methods never raise: what a worker raises ends the whole engine."""

    rlt_exchanges = 0

    def rlt_weights(self) -> dict[str, Any]:
        """`weights`: where the present ones came from; `exchanges`: how often this process was given others."""
        worker: Any = self
        return {"weights": worker.model_runner.model_config.model, "exchanges": self.rlt_exchanges}

    def rlt_reload(self, folder: str) -> dict[str, Any]:
        """Puts the weights of `folder` in place of the present ones; `error` says why they stayed."""
        present = self.rlt_weights()["weights"]
        error = misfit(present, folder)
        if error is None:
            try:
                _load(self, folder)
            except Exception as failure:  # noqa: BLE001 - anything raised here would end the engine
                error = f"model {folder!r}: cannot be loaded ({failure})"
                _load(self, present)
        self.rlt_exchanges += error is None
        return self.rlt_weights() | ({"error": error} if error else {})


def _load(worker: Any, folder: str) -> None:
    """vLLM's own reload, which leaves one thing out on a CPU: a head that is tied to the embedding.

    It was packed for oneDNN at the first load and would go on with those weights (vLLM 0.31; student/vllm_sync.py): it
    is packed again.
    """
    worker.reload_weights(weights_path=folder)
    if worker.device.type == "cpu":
        head = getattr(worker.model_runner.get_model(), "lm_head", None)
        if head is not None and hasattr(head, "quant_method"):
            head.quant_method.process_weights_after_loading(head)


if __name__ == "__main__":
    _die_with(int(os.environ[VARIABLE]))
    runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__", alter_sys=True)
