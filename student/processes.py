"""The processes of one run, as torchrun and `accelerate launch` start them: how many they are, and which one writes.

The first one writes every file of a run and says what there is to say; each reads by itself, and whatever may go wrong
while reading goes wrong in all of them. So no process waits for another before the trainer makes them meet. They see
one file system. Loads no torch: the launcher tells each process its place by environment variables.
"""

import os
import sys


def count() -> int:
    """How many processes the run has; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def index() -> int:
    """Which of them this is, from 0."""
    return int(os.environ.get("RANK", "0"))


def index_on_machine() -> int:
    """Which of those on this machine it is, from 0: the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def is_first() -> bool:
    """Whether this is the process that writes the run's files."""
    return index() == 0


def divide_models() -> bool:
    """Whether a model that is trained is divided among them, by FSDP or DeepSpeed; accelerate's configuration says."""
    return any(os.environ.get(f"ACCELERATE_USE_{way}", "").lower() == "true" for way in ("FSDP", "DEEPSPEED"))


def tell(message: str) -> None:
    """Prints a remark on stderr, once for all processes."""
    if is_first():
        print(message, file=sys.stderr)
