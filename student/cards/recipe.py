"""The settings that made some rows, as far as their files lie beside them: of the selection, the scores, the teacher.

Every verb leaves its settings beside what it writes, and they name what it read; so the chain is followed back, file by
file, until one has none beside it.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any

READ_FROM = ("rows", "traces", "more")
"""The settings that name files of rows."""
LONGEST_CHAIN = 8


def recipe_of(rows: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by what they made, the last step first: those of `rows` itself, then of what they were made from."""
    found: dict[str, Any] = {rows.name: settings}
    ahead = list(_sources(settings))
    while ahead and len(found) < LONGEST_CHAIN:
        source = ahead.pop(0)
        made_with = _settings_of(source)
        if made_with is not None and source.name not in found:
            found[source.name] = made_with
            ahead.extend(_sources(made_with))
    return {name: public(each) for name, each in found.items()}


def public(value: Any) -> Any:
    """Settings as strangers may read them: no addresses, of a path from the root only its last part.

    >>> public({"rows": "/home/ann/runs/a.jsonl", "more": ["b/c.jsonl"], "urls": ["http://10.0.0.7:8000"], "limit": 3})
    {'rows': 'a.jsonl', 'more': ['b/c.jsonl'], 'urls': ['(an address)'], 'limit': 3}
    """
    if isinstance(value, Mapping):
        return {name: public(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [public(each) for each in value]
    return public_name(value) if isinstance(value, str) else value


def public_name(name: str) -> str:
    """A name of a model or file without machines and their folders.

    >>> public_name("/home/ann/teacher"), public_name("Qwen/Qwen2.5-7B"), public_name("C:\\\\Users\\\\ann\\\\teacher")
    ('teacher', 'Qwen/Qwen2.5-7B', 'teacher')
    """
    if "://" in name:
        return "(an address)"
    for path in (PurePath(name), PureWindowsPath(name)):
        if path.is_absolute() or name.startswith("~"):
            return path.name
    return name


def _sources(settings: Mapping[str, Any]) -> Iterator[Path]:
    for name in READ_FROM:
        value = settings.get(name)
        named = value if isinstance(value, list | tuple) else [value]
        yield from (Path(each) for each in named if isinstance(each, str) and each)


def _settings_of(source: Path) -> Any:
    """What lies beside a file, or in a folder; None where there is nothing that can be read."""
    inside, beside = source / "settings.json", source.with_name(source.name + ".settings.json")
    try:
        return json.loads((inside if source.is_dir() else beside).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
