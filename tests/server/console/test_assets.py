"""What browsers load: vendored files unchanged, everything packaged, nothing inline, nothing from elsewhere."""

import hashlib
import re
import tomllib
from pathlib import Path

import pytest

from server.console.pages import ASSETS, FOLDER, TEMPLATES, asset

ROOT = Path(__file__).parent.parent.parent.parent
TEXTS = [*sorted((FOLDER / "templates").glob("*.html")), *sorted((FOLDER / "static").glob("*.*"))]


def test_every_vendored_file_is_the_one_that_its_digest_names() -> None:
    vendor = FOLDER / "static" / "vendor"
    table = re.compile(r"^\| `([\w.-]+)` \|.*`([0-9a-f]{64})` \|$", re.MULTILINE)
    told = dict(table.findall((vendor / "README.md").read_text(encoding="utf-8")))
    there = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in vendor.glob("*.min.*")}
    assert told == there
    assert len(there) == 4
    assert {path.name for path in vendor.glob("*-LICENSE")} == {"htmx-LICENSE", "uPlot-LICENSE"}


def test_everything_the_pages_are_made_of_is_packaged() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    patterns = settings["package-data"]["server"]
    packaged = {path for pattern in patterns for path in (ROOT / "server").glob(pattern)}
    made_of = {path for path in FOLDER.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert len(made_of) > 10
    assert not made_of - packaged


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_nothing_is_inline_or_from_elsewhere(path: Path) -> None:
    """The policy that is sent forbids it; this says so before a browser does."""
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"\sstyle=|<style|\son[a-z]+=|<script(?![^>]*\ssrc=)|javascript:|hx-on|\|\s*safe\b", text)
    assert not re.findall(r"(?:src|href|action|url\(|hx-get|hx-post)=?\"?https?:", text)


def test_templates_escape_what_they_are_given_and_fail_on_what_they_are_not() -> None:
    assert TEMPLATES.from_string("{{ x }} {{ x | exact }}").render(x="<b>\r\n") == "&lt;b&gt;\r\n &lt;b&gt;&#13;\n"
    with pytest.raises(Exception, match="'y' is undefined"):
        TEMPLATES.from_string("{{ y }}").render()


def test_the_address_of_a_file_changes_with_its_content() -> None:
    assert asset("console.css") == f"/console/static/console.css?v={ASSETS['console.css'].digest}"
    assert len({each.digest for each in ASSETS.values()}) == len(ASSETS)
