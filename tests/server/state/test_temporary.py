"""Temporary files: on the data folder's disk, and not for ever."""

import os
import tempfile
import time
from pathlib import Path

from server.state.temporary import LEFT_SECONDS, hold_temporary_files_in
from tests.server.service_process import Service


def test_temporary_files_lie_in_the_data_folder_and_old_ones_are_removed(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "tmp"
    (folder / "old").mkdir(parents=True)
    (folder / "old" / "copy.jsonl").write_text("x")
    (folder / "young").write_text("x")
    (folder / "oldest").write_text("x")
    yesterday = time.time() - LEFT_SECONDS - 1
    for name in ("old", "oldest"):
        os.utime(folder / name, (yesterday, yesterday))
    hold_temporary_files_in(tmp_path / "data")
    assert [path.name for path in folder.iterdir()] == ["young"]
    with tempfile.TemporaryDirectory() as made:
        assert Path(made).parent == folder


def test_a_service_holds_its_temporary_files_there(service: Service) -> None:
    assert (service.data / "tmp").is_dir()
