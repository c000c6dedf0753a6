"""A process that holds the lifeline ends with its parent, however that ends; one that does not hold it lives on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from server.engine.vllm_lifeline import VARIABLE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="vLLM and PR_SET_PDEATHSIG are Linux's")

PARENT = """
import multiprocessing, os, pathlib, sys, time
from server.engine.vllm_lifeline import VARIABLE, register
os.environ |= {{VARIABLE: "1"}} if {holds} else {{}}
def child():
    time.sleep({late})
    register()
    pathlib.Path(sys.argv[1]).write_text("registered")
    time.sleep(60)
process = multiprocessing.get_context("fork").Process(target=child)
process.start()
print(process.pid, flush=True)
time.sleep(60)
"""
"""vLLM's processes are multiprocessing's too."""


def orphaned(folder: Path, holds: bool, late: float = 0) -> tuple[int, Path]:
    """The process id of a child whose parent was killed, and the file that it leaves once it has registered."""
    registered = folder / "registered"
    code = PARENT.format(holds=holds, late=late)
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    parent = subprocess.Popen([sys.executable, "-c", code, registered], stdout=subprocess.PIPE, env=environment)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    while not late and not registered.exists():
        time.sleep(0.02)
    parent.kill()
    parent.stdout.close()  # the child holds its other end: reading on would wait for the child
    parent.wait()
    return child, registered


def ended(pid: int, looks: int = 500) -> bool:
    """Whether the process ends within so many looks of 20 ms; a zombie whose new parent does not reap it has ended."""
    for _ in range(looks):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def test_a_process_with_a_lifeline_ends_with_its_parent(tmp_path: Path) -> None:
    child, _ = orphaned(tmp_path, holds=True)
    assert ended(child)


def test_a_process_whose_parent_died_before_it_registered_ends_too(tmp_path: Path) -> None:
    child, registered = orphaned(tmp_path, holds=True, late=0.5)
    assert ended(child)
    assert not registered.exists()


def test_another_vllm_of_the_same_environment_is_left_alone(tmp_path: Path) -> None:
    child, _ = orphaned(tmp_path, holds=False)
    time.sleep(0.3)
    assert not ended(child, looks=1)
    os.kill(child, signal.SIGKILL)


def test_a_helper_that_vllm_starts_as_a_plain_program_is_left_alone() -> None:
    code = "from server.engine.vllm_lifeline import register; register(); print('alive')"
    environment = os.environ | {VARIABLE: "1"}  # its parent is not the service, but vLLM
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "alive\n", done
