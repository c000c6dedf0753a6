"""The card of a dataset as HTML: the Markdown that our cards are made of, and no more; all else stays text.

Read are headings, tables, lists, fenced code, paragraphs; in a line code and links to https. The front matter is shown
as it is. Pictures are left out: they stand in the card as data, which a page may not load.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup, escape

from server.console.pages import exact

_CODE_OR_LINK = re.compile(r"`([^`]+)`|\[([^\]]+)\]\((https://[^)\s]+)\)")
_LEFT_OUT = ("# ", "![", "<details>", "</details>")


@dataclass(frozen=True)
class Block:
    """A part of the card."""

    kind: Literal["heading", "table", "list", "code", "text"]
    lines: list[Markup]
    """One of a heading, a text or code; the items of a list."""
    rows: list[list[Markup]]
    """Of a table, the head first."""


def blocks(card: str) -> Iterator[Block]:
    """The parts of a card, without its title, which the page has already.

    >>> [block.kind for block in blocks("---\\na: 1\\n---\\n\\n# T\\n\\n## H\\n\\n- a\\n\\n| a |\\n| --- |\\n| 1 |\\n")]
    ['code', 'heading', 'list', 'table']
    """
    front, fence, body = card.partition("\n---\n")
    if fence and front.startswith("---\n"):
        yield _code(front.removeprefix("---\n"))
    else:
        body = card
    for place, part in enumerate(re.split(r"^```\w*\n(.*?)^```$", body, flags=re.MULTILINE | re.DOTALL)):
        if place % 2:
            yield _code(part)
        else:
            yield from map(_block, filter(_shows, part.strip().split("\n\n")))


def _shows(text: str) -> bool:
    return bool(text.strip()) and not text.strip().startswith(_LEFT_OUT)


def _block(text: str) -> Block:
    lines = text.strip().split("\n")
    if lines[0].startswith("## "):
        return Block("heading", [inline(lines[0].removeprefix("## "))], [])
    if all(line.startswith("|") for line in lines):
        return Block("table", [], [_cells(line) for line in (lines[0], *lines[2:])])
    if all(line.startswith("- ") for line in lines):
        return Block("list", [inline(line.removeprefix("- ")) for line in lines], [])
    return Block("text", [inline(" ".join(lines))], [])


def _code(text: str) -> Block:
    return Block("code", [exact(text.rstrip("\n"))], [])


def _cells(line: str) -> list[Markup]:
    cells: Sequence[str] = line.removeprefix("|").removesuffix("|").split(" | ")
    return [inline(cell.strip()) for cell in cells]


def inline(text: str) -> Markup:
    """A line: code and links; what else looks like HTML or Markdown stays text.

    >>> inline('`a<b` and [x](https://y.z/) <i>')
    Markup('<code>a&lt;b</code> and <a href="https://y.z/">x</a> &lt;i&gt;')
    >>> inline('[x](javascript:alert) [y](https://a"b)')
    Markup('[x](javascript:alert) <a href="https://a&#34;b">y</a>')
    """
    made, after = [], 0
    for found in _CODE_OR_LINK.finditer(text):
        made.append(escape(text[after : found.start()]))
        code, name, address = found.groups()
        template = Markup("<code>{0}</code>") if code else Markup('<a href="{1}">{0}</a>')
        made.append(template.format(code or name, address))
        after = found.end()
    return Markup("").join([*made, escape(text[after:])])
