"""The promises of the whole: imports run one way, help is light, every setting is explained, every recipe is valid.

What an import loads is asked of fresh interpreters, since this one has loaded everything already.
"""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

import server
import student
import teacher
from student.cli import verbs
from teacher.recipe import read_steps

ROOT = Path(__file__).parent.parent
PACKAGES = ("student", "teacher", "server")
HEAVY = {"torch", "transformers", "vllm", "trl", "datasets"}
LIGHT = (
    "student.config",
    "student.configs",
    "student.errors",
    "student.problems",
    "student.tags",
    "teacher.configs",
    "student.measures.leaks",
)
MAX_BODY_LINES = 60


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported_by(path: Path) -> Iterator[str]:
    """The full names that a file imports, wherever in the file; none of ours is relative (ruff's TID252)."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def in_fresh_python(code: str, **environment: str) -> str:
    """What `code` prints in a new interpreter that inherits nothing about telemetry."""
    switches = ("DO_NOT_TRACK", "HF_HUB_DISABLE_TELEMETRY", "VLLM_NO_USAGE_STATS")
    inherited = {name: value for name, value in os.environ.items() if name not in switches}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, env=inherited | environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def loaded_by(code: str) -> set[str]:
    """The top-level modules that a new interpreter holds after `code`."""
    printed = in_fresh_python(f"{code}\nimport sys, json\nprint(json.dumps(sorted(sys.modules)))")
    return {name.partition(".")[0] for name in json.loads(printed.splitlines()[-1])}


@pytest.mark.parametrize(
    ("package", "siblings"), [("student", {"teacher", "server"}), ("teacher", {"server"}), ("server", set())]
)
def test_no_file_imports_against_the_direction(package: str, siblings: set[str]) -> None:
    wrong = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources(package)
        for name in imported_by(path)
        if name.partition(".")[0] in siblings
    }
    assert not wrong


@pytest.mark.parametrize(("package", "siblings"), [("student", {"teacher", "server"}), ("teacher", {"server"})])
def test_loading_a_whole_package_loads_none_of_those_above_it(package: str, siblings: set[str]) -> None:
    modules = [module_name(path) for path in sources(package) if path.stem != "__main__"]
    assert len(modules) > 3
    loaded = loaded_by("\n".join(f"import {name}" for name in modules))
    assert package in loaded
    assert not loaded & siblings


@pytest.mark.parametrize("module", [*PACKAGES, *LIGHT])
def test_packages_settings_and_problems_load_without_torch(module: str) -> None:
    assert not loaded_by(f"import {module}") & HEAVY


def test_help_loads_neither_torch_nor_vllm() -> None:
    assert not loaded_by("import student.cli; student.cli.main(['--help'])") & HEAVY


def test_the_command_is_installed_and_lists_every_verb() -> None:
    rlt = Path(sys.executable).parent / "rlt"
    printed = subprocess.run([rlt, "--help"], capture_output=True, text=True, check=True).stdout
    assert len(verbs()) >= 9
    assert all(f"\n  {name} " in printed for name in verbs())


@pytest.mark.parametrize("verb", verbs())
def test_the_help_of_a_verb_explains_each_setting_without_torch(verb: str) -> None:
    code = (
        f"import student.cli, sys\ntry: student.cli.main(['{verb}', '--help'])\n"
        f"except SystemExit as end: assert not end.code\nprint({HEAVY} & set(sys.modules))"
    )
    printed = in_fresh_python(code, COLUMNS="120")
    assert printed.splitlines()[-1] == "set()"
    assert verb in printed
    shown = printed.lower().replace("_", "-")  # what is given without a flag stands there in capitals
    assert all(name.replace("_", "-") in shown for name in verbs()[verb].config_type.model_fields)


def nested_configs(config_type: type[BaseModel]) -> set[type[BaseModel]]:
    inner = {
        part
        for field in config_type.model_fields.values()
        for part in (field.annotation, *get_args(field.annotation))
        if isinstance(part, type) and issubclass(part, BaseModel)
    }
    return {config_type}.union(*(nested_configs(part) for part in inner))


def test_every_setting_has_a_description() -> None:
    missing = {
        f"{config_type.__name__}.{name}"
        for verb in verbs().values()
        for config_type in nested_configs(verb.config_type)
        for name, field in config_type.model_fields.items()
        if not (field.description or "").endswith((".", "?"))
    }
    assert not missing


@pytest.mark.parametrize("verb", verbs())
def test_a_verb_names_a_function_that_takes_its_settings(verb: str) -> None:
    module, function = verbs()[verb].function.split(":")
    found = getattr(import_module(module), function)
    assert found.__annotations__["config"] is verbs()[verb].config_type


def test_each_verb_has_its_own_place_in_the_help() -> None:
    places = [verb.place for verb in verbs().values()]
    assert len(set(places)) == len(places)


@pytest.mark.parametrize("recipe", ["toy", "gsm8k-cpu", "gsm8k-gpu", "rlt-7b"])
def test_the_recipes_that_the_documentation_names_are_there(recipe: str) -> None:
    assert (ROOT / "teacher" / "recipes" / f"{recipe}.toml").is_file()


@pytest.mark.parametrize("path", sorted((ROOT / "teacher" / "recipes").glob("*.toml")), ids=lambda path: path.stem)
def test_a_checked_in_recipe_is_valid(path: Path) -> None:
    steps = read_steps(path, problems="problems.jsonl")
    assert [step.name for step in steps] == list(tomllib.loads(path.read_text(encoding="utf-8")))


def test_each_package_promises_these_names_and_holds_them() -> None:
    promised = {package.__name__: set(package.__all__) for package in (student, teacher, server)}
    assert promised == {"student": {"Problem", "RltError", "Tags"}, "teacher": {"TeacherError"}, "server": set()}
    assert all(getattr(package, name) for package in (student, teacher, server) for name in package.__all__)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_glossary_names_only_files_that_exist(package: str) -> None:
    named = re.findall(r"\b[a-z_]+(?:\.py|/)", import_module(package).__doc__ or "")
    siblings = {f"{sibling}/" for sibling in PACKAGES}
    assert not {name for name in named if name not in siblings and not (ROOT / package / name).exists()}


def test_no_file_is_named_for_odds_and_ends() -> None:
    odd = {"utils", "util", "helpers", "helper", "common", "misc"}
    assert not {path for package in (*PACKAGES, "tests") for path in sources(package) if path.stem in odd}


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function after its signature and docstring."""
    statements = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (statements[-1].end_lineno or 0) - statements[0].lineno + 1 if statements else 0


def test_every_function_fits_on_a_screen() -> None:
    long = {
        f"{path.relative_to(ROOT)}: {node.name} has {body_lines(node)} lines"
        for package in (*PACKAGES, "scripts")
        for path in sources(package)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and body_lines(node) > MAX_BODY_LINES
    }
    assert not long


def test_every_module_says_what_it_is_for() -> None:
    silent = {
        path.relative_to(ROOT)
        for package in (*PACKAGES, "scripts")
        for path in sources(package)
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert not silent


def normal(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_library_that_is_imported_is_a_declared_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = project["dependencies"] + [
        line for extra in ("vllm", "deepspeed") for line in project["optional-dependencies"][extra]
    ]
    distributions = {normal(re.split(r"[^\w.-]", line)[0]) for line in declared}
    homes = packages_distributions() | {"vllm": ["vllm"]}
    files = [path for package in PACKAGES for path in sources(package)]
    imported = {name.partition(".")[0] for path in files for name in imported_by(path)}
    others = imported - set(sys.stdlib_module_names) - set(PACKAGES)
    undeclared = {name for name in others if not distributions & {normal(home) for home in homes.get(name, [name])}}
    assert not undeclared


def test_vllm_is_loaded_only_where_it_is_used_since_it_may_not_be_installed() -> None:
    at_the_top = {
        path.relative_to(ROOT)
        for package in PACKAGES
        for path in sources(package)
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if re.match(r"(import|from) vllm\b", ast.unparse(node))
    }
    assert not at_the_top


@pytest.mark.parametrize("package", ["student", "teacher"])
def test_importing_a_package_turns_telemetry_off_before_the_hub_is_loaded(package: str) -> None:
    code = (
        f"import {package}, sys, os; assert 'huggingface_hub' not in sys.modules\n"
        "from huggingface_hub import constants; assert constants.HF_HUB_DISABLE_TELEMETRY\n"
        "assert os.environ['VLLM_NO_USAGE_STATS'] == os.environ['DO_NOT_TRACK'] == '1'"
    )
    in_fresh_python(code)


def test_telemetry_can_still_be_asked_for() -> None:
    assert in_fresh_python("import student, os; print(os.environ['DO_NOT_TRACK'])", DO_NOT_TRACK="0") == "0\n"
