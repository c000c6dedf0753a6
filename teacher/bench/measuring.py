"""One run, measured: CPU seconds and wall time here, peak memory above the models in a process of its own.

    python -m teacher.bench.measuring '{"variant": "ours", "vocabulary": 512, "shape": {...}}'

prints the bytes by which the resident set's peak exceeded what was resident with both models loaded (Linux: 5 written
to /proc/self/clear_refs sets VmHWM back). Nothing is warmed up there, and the allocator is the one that Python found.
"""

import gc
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from teacher.bench.variants import REFERENCE, UNCOLLECTED, Variant, Variants
from teacher.bench.workload import Shape, make_drafts, make_world, with_teacher_logps
from teacher.reward_model import Draft


@dataclass(frozen=True)
class Cost:
    """What one run took."""

    cpu_seconds: float
    wall_seconds: float
    collection_seconds: float = 0.0
    """CPU seconds of these that the reference's garbage collections took."""


def measured(variant: Variant, drafts: Sequence[Draft]) -> tuple[list[float], Cost]:
    """The rewards, and what they cost; garbage of the run before is not counted."""
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    rewards = variant(drafts)
    return rewards, Cost(time.process_time() - cpu, time.perf_counter() - wall)


def peak_bytes(name: str, vocabulary: int, shape: Shape) -> int | None:
    """Memory above the loaded models at its highest; None where the system does not tell."""
    if not Path("/proc/self/clear_refs").exists():
        return None
    job = json.dumps({"variant": name, "vocabulary": vocabulary, "shape": asdict(shape)})
    command = [sys.executable, "-m", "teacher.bench.measuring", job]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    return int(finished.stdout) if finished.returncode == 0 else None


def _own_peak_bytes(name: str, vocabulary: int, shape: Shape) -> int:
    """Of this process. The reference, which reads one explanation at a time, is given the longest alone."""
    torch.set_num_threads(1)
    world = make_world(vocabulary)
    variant = Variants(world)[name]
    drafts = make_drafts(world, shape)
    if name in (REFERENCE, UNCOLLECTED):
        drafts = [max(drafts, key=lambda draft: draft.explained.sampled_tokens)]
    drafts = with_teacher_logps(drafts, [torch.zeros(draft.explained.sampled_tokens) for draft in drafts])
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _status_bytes("VmRSS")
    variant(drafts)
    return _status_bytes("VmHWM") - before


def _status_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    [kilobytes] = [line.split()[1] for line in lines if line.startswith(f"{field}:")]
    return int(kilobytes) * 1024


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    print(_own_peak_bytes(asked["variant"], asked["vocabulary"], Shape(**asked["shape"])))
