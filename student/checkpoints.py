"""Training checkpoints in a run's folder: which one to go on from."""

import json
from pathlib import Path

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR


def has_saved(folder: Path) -> bool:
    """Whether a run has saved anything there that another could go on from: a checkpoint, or its model."""
    return last_checkpoint(folder) is not None or (folder / "config.json").exists()


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole `checkpoint-N` of a run, or None.

    The trainer writes `trainer_state.json` last, so a checkpoint that was cut short lacks it and is passed over.
    """
    found = [path for path in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*") if _is_whole(path)]
    return max(found, key=_step, default=None)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _is_whole(checkpoint: Path) -> bool:
    try:
        return bool(json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return False
