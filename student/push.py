"""`rlt push`: a folder of rows with its card, onto the Hugging Face hub, as one commit.

What is listed is what is sent: every file of the folder, or nothing, since a commit is whole or not made. Private
unless `--public` is said, for a dataset that is there already too. The token is `HF_TOKEN` or what `hf auth login`
left; the hub is `HF_ENDPOINT`. Left out: removing what lies on the hub under other names.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from huggingface_hub import CommitOperationAdd, DatasetCard, HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

from student.cards.card import CARD
from student.configs import PushConfig
from student.errors import OutputError
from student.rows import first_line

_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
UNFINISHED = (".tmp", ".partial")
"""How the names of files end that are being written."""


def main(config: PushConfig) -> None:
    """Carries out `rlt push`; raises OutputError where the folder is not one to publish, or the hub refuses it."""
    folder = Path(config.folder)
    if not _REPO.fullmatch(config.repo):
        raise OutputError(f"repo: {config.repo!r} is no dataset's name on the hub; give OWNER/NAME")
    check_card(folder)
    files = files_of(folder)
    address = f"{endpoint()}/datasets/{config.repo}"
    total = sum(path.stat().st_size for path in files)
    for path in files:
        print(f"{path.stat().st_size:>15,}  {path.relative_to(folder)}")
    print(f"{total:>15,}  bytes in {len(files)} files, {'public' if config.public else 'private'}, for {address}")
    if config.dry_run:
        print("nothing was sent (--dry-run)")
        return
    print(f"{address}: {send(config, folder, files)}")


def check_card(folder: Path) -> None:
    """Raises OutputError where the folder has no card, or one that names no licence: the README of an export alone."""
    if not folder.is_dir():
        raise OutputError(f"{folder}: no such folder; name one of `rlt select` or `rlt export`")
    remedy = "push a folder of `rlt select` or an export of one, or write a card"
    if not (folder / CARD).is_file():
        raise OutputError(f"{folder}: has no card ({CARD}); {remedy}")
    try:
        text = (folder / CARD).read_text(encoding="utf-8")
        licence = DatasetCard(text).data.get("license") if text.startswith("---") else None
    # The boundary to a YAML parser that raises its own errors, of a library that is not ours to name.
    except Exception as error:
        raise OutputError(
            f"{folder / CARD}: its front matter is not readable ({first_line(error)}); mend it"
        ) from error
    if not licence:
        raise OutputError(f"{folder / CARD}: is no card, its front matter names no license; {remedy}")


def files_of(folder: Path) -> list[Path]:
    """Every file of the folder, in order; raises OutputError for what does not belong on the hub."""
    files = sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    for path in files:
        if path.is_symlink() or not path.is_file():
            raise OutputError(f"{path}: is no regular file; put a copy there, or remove it")
        if path.name.endswith(UNFINISHED):
            raise OutputError(f"{path}: is not finished; run the command that makes the folder again")
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            raise OutputError(f"{path}: is hidden; remove it, it would be published")
    return files


def endpoint() -> str:
    """The hub's address."""
    return os.environ.get("HF_ENDPOINT", constants.ENDPOINT).rstrip("/")


def send(config: PushConfig, folder: Path, files: Sequence[Path]) -> str:
    """Makes the dataset where it is not there, and the commit; returns what was done, for people."""
    token = get_token()
    if not token:
        raise OutputError("no token for the hub; set HF_TOKEN to one that may write, or run `hf auth login`")
    api = HfApi(endpoint(), token=token)
    with _told(config.repo, token):
        private = _private(api, config)
        made = [CommitOperationAdd(str(path.relative_to(folder)), path) for path in files]
        commit = api.create_commit(config.repo, made, commit_message="Rows and their card, by rlt", repo_type="dataset")
    return f"{len(files)} files in commit {commit.oid[:12]}, {'private' if private else 'public'}"


def _private(api: HfApi, config: PushConfig) -> bool:
    """Whether the dataset is; made where it is not there. Raises OutputError where it is public and may not be."""
    try:
        private = bool(api.dataset_info(config.repo, timeout=30).private)
    except RepositoryNotFoundError:
        api.create_repo(config.repo, repo_type="dataset", private=not config.public)
        return not config.public
    if not private and not config.public:
        raise OutputError(f"{config.repo}: is public on the hub; say --public, or push to another --repo")
    return private


@contextmanager
def _told(repo: str, token: str) -> Iterator[None]:
    """The boundary to the hub's client: whatever it raises becomes one line that says what to do, without the token."""
    try:
        yield
    except OutputError:
        raise
    except Exception as error:
        reason = first_line(_cause(error)).replace(token, "TOKEN")
        raise OutputError(f"{repo}: {_complaint(error)} ({reason})") from error


def _cause(error: BaseException) -> BaseException:
    """The error of HTTP or of the network that it comes from, where there is one."""
    while error.__cause__ is not None and not isinstance(error, httpx.HTTPError):
        error = error.__cause__
    return error


def _complaint(error: Exception) -> str:
    found: Any = _cause(error)
    if isinstance(found, OfflineModeIsEnabled):
        return "the hub may not be reached; unset HF_HUB_OFFLINE"
    if isinstance(found, HfHubHTTPError):
        remedies = {
            401: "the hub does not take the token; set HF_TOKEN to a valid one that may write",
            403: "the token may not write there; set HF_TOKEN to one that may, or give another --repo",
        }
        return remedies.get(found.response.status_code, "the hub refuses it; mend what it says, then run this again")
    if isinstance(found, httpx.HTTPError):
        return f"{endpoint()} cannot be reached; check the connection and HF_ENDPOINT, then run this again"
    return "it cannot be sent; mend what the client says, then run this again"
