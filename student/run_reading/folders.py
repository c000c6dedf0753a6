"""Which folders under a root are runs, and their files, opened without ever leaving the root.

A run is known by an id made of its path, so nobody outside names a path. No symbolic link below the root is followed,
not even one that leads back into it, and nothing but a plain file is opened: a pipe would be waited for.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from student.run_files import METRICS
from student.run_reading.lines import shown

DEEPEST = 6
"""Levels of folders below the root in which runs are looked for."""
MOST_FOLDERS = 20_000
"""Folders that are looked into."""


@dataclass(frozen=True)
class RunFolder:
    """A folder that holds metrics.jsonl."""

    root: Path
    """Resolved."""
    names: tuple[str, ...]
    """The way to it from the root."""

    @property
    def id(self) -> str:
        """`run_` and 16 hex digits, the same as long as it lies where it lies.

        >>> RunFolder(Path("demo"), ("seed-0", "teacher")).id
        'run_05e22d799c43228f'
        """
        return "run_" + sha256(os.fsencode("/".join(self.names))).hexdigest()[:16]

    @property
    def name(self) -> str:
        """Its path below the root, for people; the root's own name where it is the root itself."""
        return shown("/".join(self.names) or self.root.name)

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """One of its files; raises OSError where it is missing, no plain file, or behind a link."""
        with os.fdopen(_opened(self.root, (*self.names, name)), "rb") as file:
            yield file


def run_folders(root: Path) -> list[RunFolder]:
    """All runs at and below `root`, in the order of their names, as far as DEEPEST and MOST_FOLDERS reach.

    Inside a run's own folder no other is looked for.
    """
    found = []
    root = root.resolve()
    for looked, (path, folders, files, _) in enumerate(_walk(root)):
        if looked >= MOST_FOLDERS:
            break
        names = Path(path).relative_to(root).parts
        is_run = METRICS in files
        if is_run:
            found.append(RunFolder(root, names))
        deeper = not is_run and len(names) < DEEPEST
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if deeper else []
    return found


def find(root: Path, run_id: str) -> RunFolder | None:
    """The run of that id, or None."""
    return next((folder for folder in run_folders(root) if folder.id == run_id), None)


def _walk(root: Path) -> Iterator[tuple[str, list[str], list[str], int]]:
    """os.fwalk, which follows no link; nothing of a root that is not there."""
    with suppress(FileNotFoundError, NotADirectoryError):
        yield from os.fwalk(root)


def _opened(root: Path, names: tuple[str, ...]) -> int:
    """A descriptor of the file, reached folder by folder."""
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in names[:-1]:
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        file = os.open(names[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise FileNotFoundError(f"{names[-1]}: not a plain file")
    return file
