"""Where this process holds what it only needs for a moment: in the data folder, since /tmp is memory on many machines.

Uploads on their way, copies of a dataset's source, the two files of a batch while they are written: half a gigabyte
each, which a container with a memory limit would die of.
"""

import shutil
import tempfile
import time
from pathlib import Path

FOLDER = "tmp"
LEFT_SECONDS = 24 * 3600


def hold_temporary_files_in(data: Path) -> None:
    """Has `tempfile` use the folder `tmp` in `data`, for all of this process; children keep their own.

    What a killed process left there is removed once it is a day old.
    """
    folder = (data / FOLDER).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.lstat().st_mtime < time.time() - LEFT_SECONDS:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    tempfile.tempdir = str(folder)
