"""Settings: a frozen model a command, filled from a TOML file and then from the command line.

    defaults  <-  --config FILE.toml (the table named like the verb)  <-  --flags

The one string under a field is its description in `--help` and in the docs. The resolved settings are saved beside the
outputs they made, and a resumed run refuses others. Left out on purpose: environment variables (they hold secrets and
addresses only), and any import of torch.
"""

import argparse
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_settings import BaseSettings, CliSettingsSource, SettingsError

from student import processes
from student.errors import ConfigError, OutputError


class Config(BaseModel):
    """Frozen settings; unknown names are refused, the string under a field describes it."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True, protected_namespaces=()
    )


C = TypeVar("C", bound=Config)
FREE = (
    "threads",
    "estimate",
    "scoring.urls",
    "scoring.in_flight",
    "scoring.retry_seconds",
    "scoring.self_test",
    "watch",
    "retention",
)
"""What a resumed run may change, settings and whole groups: where and how fast it is computed, what is looked at, not
what is made."""


def validated(config_type: type[C], values: dict[str, Any], origin: str) -> C:
    """`values` as a `config_type`; raises ConfigError naming `origin`, the field, the value and what was expected.

    Without an origin the values come from the command line, and a field is spelled as a flag.
    """
    try:
        return config_type.model_validate(merged(_nested_defaults(config_type), values))
    except ValidationError as error:
        raise ConfigError(
            f"{origin}: {_first_complaint(error)}" if origin else _first_complaint(error, "--")
        ) from error


def _nested_defaults(config_type: type[Config]) -> dict[str, Any]:
    """The defaults of fields that are settings themselves, so that a table that sets one of them keeps the others.

    Pydantic alone would fill such a table from its class: `rlt warmup --sft.epochs 1` would lose the warm-up's own lr.
    """
    defaults = {name: field.default for name, field in config_type.model_fields.items()}
    return {name: value.model_dump() for name, value in defaults.items() if isinstance(value, Config)}


def _first_complaint(error: ValidationError, dashes: str = "") -> str:
    """The first complaint in one line; a name that does not exist comes first, since a missing one may be its fault."""
    details = sorted(error.errors(include_url=False), key=lambda detail: detail["type"] != "extra_forbidden")
    first = details[0]
    name = ".".join(str(part) for part in first["loc"])
    field = (dashes + name.replace("_", "-") if dashes else name) if name else "the settings together"
    told = first["type"] in ("missing", "extra_forbidden") or isinstance(first["input"], dict)
    seen = "" if told else f", got {first['input']!r}"
    reason = {
        "missing": "is required",
        "extra_forbidden": "is not a setting of this command (see --help)",
    }.get(first["type"], first["msg"].removeprefix("Value error, "))
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    return f"{field}: {reason}{seen}{more}"


def parse_command(config_type: type[Config], verb: str, arguments: Sequence[str], summary: str) -> Config:
    """The settings of `rlt VERB`, from `--config FILE` and then the flags; `--help` prints the fields and exits."""
    file_parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    file_parser.add_argument("--config")
    chosen, flags = file_parser.parse_known_args(arguments)
    values = read_table(resolve_recipe(chosen.config), verb) if chosen.config else {}
    overrides = _parse_flags(config_type, verb, flags, summary)
    return validated(config_type, merged(values, overrides), chosen.config or "")


def _parse_flags(config_type: type[Config], verb: str, flags: Sequence[str], summary: str) -> dict[str, Any]:
    settings_type = type(config_type.__name__, (config_type, BaseSettings), {"__doc__": summary})
    source: CliSettingsSource[Any] = CliSettingsSource(
        settings_type,
        cli_prog_name=f"rlt {verb}",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_enforce_required=False,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        cli_exit_on_error=False,
    )
    try:
        return source(args=list(flags))()
    except SettingsError as error:
        complaint = str(error).removeprefix("error parsing CLI: ")
        raise ConfigError(f"{complaint}; `rlt {verb} --help` lists the settings") from error


RECIPES = Path(__file__).parent.parent / "teacher" / "recipes"
"""The checked-in recipes; `--config toy` means `toy.toml` here."""


def resolve_recipe(name: str) -> Path:
    """The TOML file that `name` means: a path, or the name of a checked-in recipe."""
    path = Path(name)
    if path.suffix != ".toml" and (RECIPES / f"{name}.toml").is_file():
        return RECIPES / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(recipe.stem for recipe in RECIPES.glob("*.toml")))
        raise ConfigError(f"recipe {name!r}: no such file; give a TOML file or one of the recipes {known}")
    return path


def read_table(path: Path, table: str) -> dict[str, Any]:
    """The table named `table` of a TOML file: the settings of one command (empty where the file has none)."""
    tables = read_toml(path)
    values = tables.get(table, {})
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: {table!r} must be a table of settings, got {values!r}")
    return values


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as tables; raises ConfigError where it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML ({error}); mend it") from error


def merged(values: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """`values` with `overrides` laid over them, table by table.

    >>> merged({"steps": 1, "reward": {"kl_weight": 3, "ss_weight": 1}}, {"reward": {"kl_weight": 5}})
    {'steps': 1, 'reward': {'kl_weight': 5, 'ss_weight': 1}}
    """
    result = dict(values)
    for name, value in overrides.items():
        old = result.get(name)
        result[name] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def remember(config: Config, path: Path, *, free: Sequence[str] = (), binding: bool = True) -> None:
    """Saves the resolved settings as `path`; where it exists already, raises OutputError unless they are the same.

    `free` names the fields and groups that a resumed run may change (where to log, how many threads). Not `binding`,
    settings that are there already are replaced. Of several processes all look, and the first writes.
    """
    values = config.model_dump(mode="json")
    if binding and path.exists():
        _refuse_others(values, path, free)
    if processes.is_first():
        path.parent.mkdir(parents=True, exist_ok=True)
        writing = path.with_name(path.name + ".partial")
        writing.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        writing.replace(path)


def _refuse_others(values: dict[str, Any], path: Path, free: Sequence[str]) -> None:
    old, new = flat(_saved(path)), flat(values)
    differing = {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
    changed = sorted(name for name in differing if not _is_free(name, free))
    if changed:
        shown = ", ".join(f"{name} was {old.get(name)!r}, now {new.get(name)!r}" for name in changed)
        raise OutputError(f"{path}: this run was begun with other settings ({shown}); use them, or write elsewhere")


def _is_free(name: str, free: Sequence[str]) -> bool:
    return any(name == each or name.startswith(f"{each}.") for each in free)


def _saved(path: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise OutputError(f"{path}: damaged ({error}); remove it and what it belongs to, then start anew") from error
    return values


def flat(values: dict[str, Any]) -> dict[str, Any]:
    """Nested settings by their dotted names.

    >>> flat({"steps": 1, "reward": {"kl_weight": 3}})
    {'steps': 1, 'reward.kl_weight': 3}
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        nested = flat(value) if isinstance(value, dict) else {}
        found.update({f"{name}.{inner}": each for inner, each in nested.items()} or {name: value})
    return found
