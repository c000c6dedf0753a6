"""Publishing: what arrives is the folder, byte for byte; what must not be published, or cannot be, is one line."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from student.cards.card import About, card_files
from student.configs import PushConfig
from student.errors import OutputError
from student.push import check_card, files_of, main
from tests.student.cards.rows import census_of_rows, row
from tests.student.hub_server import TOKEN, Hub, Repository, hub_server

SECONDS = 120


@pytest.fixture
def hub() -> Iterator[Hub]:
    with hub_server() as served:
        yield served


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a real card, pictures, and rows that are any bytes."""
    made = tmp_path / "selected"
    files = card_files(census_of_rows(row(reward=-1, license="MIT")), About("lessons", 1, 1))
    for name, data in {**files, "rows.parquet": bytes(range(256)) * 300, "manifest.jsonl": b"{}\n" * 9}.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_bytes(data)
    return made


def push(folder: Path, url: str, *flags: str, token: str | None = TOKEN) -> subprocess.CompletedProcess[str]:
    """The command, in a process whose home is empty."""
    home = {"HF_HOME": str(folder.parent / "home"), "HF_ENDPOINT": url, "HF_HUB_DISABLE_XET": "1"}
    environment = {name: value for name, value in os.environ.items() if name not in ("HF_HUB_OFFLINE", "HF_TOKEN")}
    command = [sys.executable, "-m", "student.cli", "push", "--folder", str(folder), "--repo", "ann/lessons", *flags]
    given = environment | home | ({} if token is None else {"HF_TOKEN": token})
    return subprocess.run(command, env=given, capture_output=True, text=True, timeout=SECONDS, check=False)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_arrives_byte_for_byte_in_one_commit_of_a_private_dataset(folder: Path, hub: Hub) -> None:
    done = push(folder, hub.url)
    assert done.returncode == 0, done.stderr
    found = hub.repositories["ann/lessons"]
    assert (found.private, found.commits, found.files) == (True, 1, contents(folder))
    assert f"{hub.url}/datasets/ann/lessons: 5 files in commit 6b86b273ff34, private" in done.stdout
    assert len([asked for asked in hub.asked if asked.startswith("PUT /blobs/")]) == 3  # the rows and two pictures
    assert TOKEN not in done.stdout + done.stderr
    again = push(folder, hub.url)
    assert (again.returncode, found.commits, found.files) == (0, 2, contents(folder))


def test_a_dry_run_lists_every_file_and_reaches_nobody(folder: Path, hub: Hub) -> None:
    done = push(folder, hub.url, "--dry-run", token=None)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    listed = {line.split()[-1]: int(line.split()[0].replace(",", "")) for line in lines[:-2]}
    assert listed == {name: len(data) for name, data in contents(folder).items()}
    assert lines[-2].split()[0] == f"{sum(listed.values()):,}"
    assert "private" in lines[-2]
    assert hub.asked == []


def test_a_public_dataset_takes_a_folder_only_where_that_is_said(folder: Path, hub: Hub) -> None:
    hub.repositories["ann/lessons"] = Repository(private=False)
    done = push(folder, hub.url)
    assert done.returncode == 1
    assert "ann/lessons: is public on the hub; say --public" in done.stderr
    assert hub.repositories["ann/lessons"].commits == 0
    assert push(folder, hub.url, "--public").returncode == 0
    assert hub.repositories["ann/lessons"].files == contents(folder)


@pytest.mark.parametrize(
    ("token", "told"),
    [("hf_another", "the hub does not take the token; set HF_TOKEN"), (None, "no token for the hub; set HF_TOKEN")],
)
def test_without_a_good_token_nothing_is_sent_and_one_line_says_so(
    folder: Path, hub: Hub, token: str | None, told: str
) -> None:
    done = push(folder, hub.url, token=token)
    assert done.returncode == 1
    assert [told in line for line in done.stderr.splitlines()] == [True]
    assert "hf_another" not in done.stdout + done.stderr
    assert hub.repositories == {}


def test_a_namespace_where_the_token_may_not_write_is_told(folder: Path, hub: Hub) -> None:
    done = push(folder, hub.url, "--repo", "others/lessons")
    assert done.returncode == 1
    assert "the token may not write there" in done.stderr.splitlines()[-1]


def test_a_hub_that_fails_midway_is_one_line_and_no_commit(folder: Path, hub: Hub) -> None:
    hub.repositories["ann/lessons"] = Repository(private=True)
    hub.fails_at = "/commit/"
    done = push(folder, hub.url)
    assert done.returncode == 1
    assert "the hub refuses it" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert hub.repositories["ann/lessons"].commits == 0


def test_a_hub_that_is_not_there_is_one_line(folder: Path) -> None:
    with socket.socket() as free:  # bound, but nobody listens
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        done = push(folder, url)
    assert done.returncode == 1
    assert f"{url} cannot be reached; check the connection" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def refused(folder: Path, told: str, repo: str = "ann/lessons") -> None:
    with pytest.raises(OutputError, match=told):
        main(PushConfig(folder=str(folder), repo=repo, dry_run=True))


def test_only_a_folder_with_a_card_is_published(folder: Path) -> None:
    refused(folder / "none", "no such folder")
    card = (folder / "README.md").read_text()
    for text, told in [
        ("# trl-messages", "names no license"),
        ("---\nconfigs: [{config_name: default, data_files: data.parquet}]\n---\n# trl-messages\n", "names no license"),
        ("---\nlicense: [mit\n---\n", "not readable"),
        ("---\n- a list\n---\n", "not readable"),
    ]:
        (folder / "README.md").write_text(text)
        refused(folder, told)
    (folder / "README.md").unlink()
    refused(folder, "has no card")
    (folder / "README.md").write_text(card + "\nFor teaching only.\n")
    check_card(folder)  # a card may be edited


def test_what_does_not_belong_on_the_hub_is_refused_by_name(folder: Path) -> None:
    assert len(files_of(folder)) == 5
    for name, told in [("rows.parquet.tmp", "not finished"), (".env", "hidden"), (".git/config", "hidden")]:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
        refused(folder, told)
        path.unlink()
    (folder / ".git").rmdir()
    (folder / "link").symlink_to(folder / "rows.parquet")
    refused(folder, "no regular file")


@pytest.mark.parametrize("repo", ["lessons", "ann/les sons", "ann/../x", "/ann/x", "https://hub/ann/x", "ann/x/y", ""])
def test_a_name_that_is_none_is_refused(folder: Path, repo: str) -> None:
    refused(folder, "give OWNER/NAME", repo)
