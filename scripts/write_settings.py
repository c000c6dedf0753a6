"""Writes the settings tables of docs/verbs/*.md from the config classes, where each setting is described once.

    .venv/bin/python scripts/write_settings.py            writes what is stale and names it
    .venv/bin/python scripts/write_settings.py --check    writes nothing; exits 1 where a page is stale, and names it

A page docs/verbs/VERB.md has its tables between `<!-- settings -->` and `<!-- /settings -->`: first the verb's own
settings, then those that it shares with other verbs, then its groups (`--reward.kl-weight`). Run it whenever a setting
changes; tests/test_docs.py runs the check. Left out: everything outside the markers, which people write.
"""

import sys
import types
from collections.abc import Iterator, Sequence
from inspect import get_annotations
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_settings import CliPositionalArg

from student.cli import Verb, verbs
from student.config import Config

PAGES = Path(__file__).resolve().parent.parent / "docs" / "verbs"
START, STOP = "<!-- settings -->", "<!-- /settings -->"
NAMES = {str: "text", int: "whole number", float: "number", bool: "switch"}
"""What the types of settings are called for people who do not know Python."""
BOUNDS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
"""The attribute of a pydantic constraint, and its sign."""
POSITIONAL = get_args(CliPositionalArg[str])[1]
"""What pydantic-settings leaves on a field that is given without a name."""

Settings = dict[str, FieldInfo]


def page_of(verb: Verb, text: str, path: Path) -> str:
    """`text`, the page of a verb, with its tables as they should be; exits where it has no markers."""
    before, opened, rest = text.partition(START)
    _, closed, after = rest.partition(STOP)
    if not (opened and closed):
        sys.exit(f"{path}: has no {START} ... {STOP}; put them where the settings belong")
    return f"{before}{START}\n\n{tables(verb)}\n{STOP}{after}"


def tables(verb: Verb) -> str:
    """Every setting of a verb as Markdown, one table a group."""
    own, *shared = plain_groups(verb.config_type)
    parts = [table(own[1])]
    parts += [f"### {heading(config_type)}\n\n{table(fields)}" for config_type, fields in shared]
    return "\n".join([*parts, *group_tables(verb.config_type)])


def group_tables(config_type: type[Config], prefix: str = "--", defaults: Config | None = None) -> Iterator[str]:
    """The tables of the groups among these settings, and of the groups within them."""
    for name, field in config_type.model_fields.items():
        group = group_type(field)
        if group is not None:
            flag = f"{prefix}{kebab(name)}."
            values = field.default if defaults is None else getattr(defaults, name)
            plain = {inner: each for inner, each in group.model_fields.items() if group_type(each) is None}
            yield f"### `{flag}*`\n\n{field.description}\n\n{table(plain, flag, values)}"
            yield from group_tables(group, flag, values)


def group_type(field: FieldInfo) -> type[Config] | None:
    """The class of a setting that is a group of settings, given or not; None for a plain one."""
    choices = [field.annotation, *get_args(field.annotation)]
    return next((each for each in choices if isinstance(each, type) and issubclass(each, Config)), None)


def plain_groups(config_type: type[Config]) -> list[tuple[type[Config], Settings]]:
    """The settings that are no groups themselves by the class that declares them, the verb's own class first."""
    plain = {name: field for name, field in config_type.model_fields.items() if group_type(field) is None}
    groups = [
        (parent, {name: field for name, field in plain.items() if name in get_annotations(parent)})
        for parent in config_type.__mro__
        if issubclass(parent, Config)
    ]
    return [(parent, fields) for parent, fields in groups if fields]


def heading(config_type: type[Config]) -> str:
    """The first line of a class's docstring, as a heading."""
    return (config_type.__doc__ or config_type.__name__).split("\n")[0].rstrip(".")


def table(fields: Settings, prefix: str = "--", defaults: Config | None = None) -> str:
    """Settings as a Markdown table; required ones come first. `defaults` holds the values of a group."""
    rows = [row(name, field, prefix, defaults) for name, field in in_order(fields)]
    lines = ["| setting | type | default | what it is |", "|---|---|---|---|", *rows]
    return "".join(f"{line}\n" for line in lines)


def in_order(fields: Settings) -> list[tuple[str, FieldInfo]]:
    """The settings as declared, but those that must be given before those that need not."""
    return sorted(fields.items(), key=lambda item: not item[1].is_required())


def row(name: str, field: FieldInfo, prefix: str, defaults: Config | None) -> str:
    """One line of a table."""
    label = name.upper() if POSITIONAL in field.metadata else prefix + kebab(name)
    value = field.get_default(call_default_factory=True) if defaults is None else getattr(defaults, name)
    default = "**required**" if field.is_required() else shown_default(value)
    cells = [f"`{label}`", shown_type(field), default, field.description or ""]
    return f"| {' | '.join(' '.join(cell.split()).replace('|', '&#124;') for cell in cells)} |"


def kebab(name: str) -> str:
    """A field's name as it is on the command line.

    >>> kebab("max_prompt_tokens")
    'max-prompt-tokens'
    """
    return name.replace("_", "-")


def shown_type(field: FieldInfo) -> str:
    """A field's type and its bounds for people.

    >>> from student.configs import RewardConfig
    >>> [shown_type(RewardConfig.model_fields[name]) for name in ("kl_estimator", "temperature")]
    ['`k1`, `k3` or `exact`', 'number > 0']
    """
    return " ".join([type_name(field.annotation), *bounds(field)])


def type_name(annotation: Any) -> str:
    """A type for people.

    >>> type_name(int | None), type_name(dict[str, str]), type_name(list[str])
    ('whole number', 'name=value pairs', 'text, any number of times')
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        *others, last = (f"`{choice}`" for choice in arguments)
        return f"{', '.join(others)} or {last}"
    if origin is Annotated:
        return type_name(arguments[0])
    if origin in (Union, types.UnionType):
        return " or ".join(type_name(argument) for argument in arguments if argument is not type(None))
    if origin in (list, tuple):
        return f"{type_name(arguments[0])}, any number of times"
    return "name=value pairs" if origin is dict else NAMES[annotation]


def bounds(field: FieldInfo) -> Iterator[str]:
    """What a number must obey."""
    for constraint in field.metadata:
        yield from (f"{sign} {getattr(constraint, name)}" for name, sign in BOUNDS.items() if hasattr(constraint, name))


def shown_default(value: object) -> str:
    """A default for people.

    >>> [shown_default(value) for value in (None, True, 16_384, "rlt", 1e-5, {}, ("a", "b"))]
    ['unset', 'on', '`16384`', '`rlt`', '`1e-05`', 'none', '`a,b`']
    """
    words = {"None": "unset", "True": "on", "False": "off", "{}": "none", "[]": "none"}
    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return words.get(text, f"`{text}`")


def stale_pages(folder: Path) -> dict[Path, str]:
    """The pages in `folder` whose tables are not those of the config classes, with the text that they should have."""
    stale: dict[Path, str] = {}
    for verb in verbs().values():
        path = folder / f"{verb.name}.md"
        if not path.is_file():
            sys.exit(f"{path}: missing; write a page for the verb, with {START} and {STOP} in it")
        old = path.read_text(encoding="utf-8")
        new = page_of(verb, old, path)
        if new != old:
            stale[path] = new
    return stale


def main(arguments: Sequence[str], folder: Path = PAGES) -> int:
    """Brings every page up to date, or with --check only says which are not; returns the exit status."""
    if list(arguments) not in ([], ["--check"]):
        sys.exit(f"usage: {Path(__file__).name} [--check]")
    stale = stale_pages(folder)
    for path, text in stale.items():
        if arguments:
            print(f"{path}: stale; run scripts/write_settings.py", file=sys.stderr)
        else:
            path.write_text(text, encoding="utf-8")
            print(f"{path}: written")
    return int(bool(arguments and stale))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
