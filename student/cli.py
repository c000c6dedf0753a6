"""The `rlt` command: finds the verbs that each package declares, reads the settings of one, runs it.

A verb is declared by name in its package's `configs.py` and listed under `rlt.verbs` in pyproject.toml, so this file
knows none of them and `rlt --help` loads neither torch nor vllm.
"""

import errno
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points

from student import processes
from student.config import Config, parse_command
from student.errors import ConfigError, RltError


@dataclass(frozen=True)
class Verb:
    """One word after `rlt`: the settings it takes and the function (`module:name`) that carries it out.

    `place` is its place in the chain from problems to students, in which `--help` lists the verbs. `spreads` says that
    it may be started as several processes, a GPU each.
    """

    place: float
    name: str
    summary: str
    config_type: type[Config]
    function: str
    spreads: bool = False

    def run(self, config: Config) -> None:
        """Loads the verb's module (this is where torch comes in) and carries the verb out."""
        module, function = self.function.split(":")
        getattr(import_module(module), function)(config)


def verbs() -> dict[str, Verb]:
    """Every verb of the installed packages, by name."""
    found = [verb for entry in entry_points(group="rlt.verbs") for verb in entry.load()]
    return {verb.name: verb for verb in sorted(found, key=lambda verb: verb.place)}


def usage(known: dict[str, Verb]) -> str:
    """The text of `rlt --help`."""
    lines = [f"  {verb.name:<10} {verb.summary}" for verb in known.values()]
    return "\n".join(
        [
            "usage: rlt VERB [--config FILE.toml | --config RECIPE] [--setting VALUE ...]",
            "",
            "Train a teacher that explains solutions so that a student understands, then distil students from it.",
            "",
            *lines,
            "",
            "`rlt VERB --help` explains the settings of one verb. `rlt demo` shows the whole chain on one CPU.",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb; returns the exit status: 0 done, 1 something to mend (one line on stderr), 130 interrupted."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    # Threads that wait for each other by spinning steal the core the other one needs: beside another process on two
    # cores, a training step took 5 s instead of 2.5 s. Read as torch is loaded; a value that is set already stays.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # TRL loads vLLM wherever it is installed, which would speak of triton at every start.
    logging.getLogger("vllm").setLevel(logging.ERROR)
    known = verbs()
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage(known))
        return 0
    if arguments[0] not in known:
        print(f"rlt: {arguments[0]!r} is not a verb; choose one of {', '.join(known)}", file=sys.stderr)
        return 2
    return _carry_out(known[arguments[0]], arguments[1:])


def _carry_out(verb: Verb, arguments: Sequence[str]) -> int:
    try:
        _refuse_launcher(verb)
        verb.run(parse_command(verb.config_type, verb.name, arguments, verb.summary))
    except RltError as error:
        return _complain(verb, str(error))
    except OSError as error:
        return _complain(verb, _os_complaint(error))
    except KeyboardInterrupt:
        return _complain(verb, "interrupted; run the same command again to go on where it stopped", status=130)
    return 0


def _refuse_launcher(verb: Verb) -> None:
    """Raises ConfigError where several processes are about to write the same file."""
    if processes.count() > 1 and not verb.spreads:
        raise ConfigError(
            f"started as {processes.count()} processes, and it is for one; start it without torchrun or accelerate"
        )


def _complain(verb: Verb, message: str, status: int = 1) -> int:
    one_of = f" (process {processes.index()} of {processes.count()})" if processes.count() > 1 else ""
    print(f"rlt {verb.name}{one_of}: {' '.join(message.split())}", file=sys.stderr)
    return status


def _os_complaint(error: OSError) -> str:
    remedies = {
        errno.ENOSPC: "free some space or choose another folder, then run the same command again",
        errno.EACCES: "check the permissions or choose another folder",
        errno.EROFS: "choose a folder that can be written",
        errno.ENOENT: "check the path",
    }
    where = f"{error.filename}: " if error.filename else ""
    return (
        f"{where}{error.strerror or error}; {remedies.get(error.errno or 0, 'mend it and run the same command again')}"
    )


if __name__ == "__main__":  # `accelerate launch -m student.cli train ...` runs it on several devices
    sys.exit(main())
