r"""A cold start: an SFT file and an RL file over one source, no problem in both.

    rows -> side(question) -> sft/   the explanations of some problems, in a format to fine-tune on
                           -> rl/    the other problems, with their ground truths, in a format of RL

The side is a hash of a seed and the question's words, so it depends on no other row and on no order, and a question
that comes twice (another solution, other spacing, case or punctuation) falls to one side. A problem has the id of the
source in both folders. Left out: questions that are near each other but not the same, which
`rlt select --duplicates.compare question` drops beforehand.

The data of RL, one row a problem, wait in a file without a name until those of SFT are written.
"""

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import IO, Literal

import pyarrow as pa

from student.curation.words import words
from student.errors import ConfigError, ProblemError
from student.exports.encoders import Piece
from student.exports.exporter import REPORT, Export, Exporter, Watcher
from student.exports.formats import Format, Options, as_json
from student.exports.names import ExportName, FormatName
from student.exports.registry import FORMATS
from student.exports.sources import COLUMNS, check_rows

Side = Literal["sft", "rl"]
HELD_BYTES = 8 * 2**20
"""Bytes of the RL data that wait in memory; more of them wait on the disk."""


@lru_cache(maxsize=1024)
def side_of(question: str, rl_share: float, seed: int) -> Side:
    """The file that a problem with this question is in; `rl_share` of all questions are in that for RL.

    >>> side_of("What is 1 + 1?", 0.5, seed=0) == side_of("what is  1 + 1", 0.5, seed=0)
    True
    >>> sorted({side_of(f"What is {number}?", 0.5, seed=0) for number in range(9)})
    ['rl', 'sft']
    """
    digest = hashlib.sha256(f"{seed}\n{' '.join(words(question))}".encode("utf-8", "surrogatepass")).digest()
    return "rl" if int.from_bytes(digest[:8], "big") < rl_share * 2**64 else "sft"


class ColdStart:
    """One export of rows into both files."""

    name = "cold-start"
    purpose = "a cold start: an SFT and an RL export of one source that share no problem (--sft-format, --rl-format)"
    reads = COLUMNS

    def __init__(self, options: Options, source: str, watch: Watcher | None = None) -> None:
        if "problem_id" not in options.columns:
            raise ConfigError("format cold-start: both files name their problems; have problem_id among --columns")
        self.options = options
        self._source = source
        self._sft = Exporter(*_part(options.settings.sft_format, options), f"{source} (its SFT part)", watch)
        self._rl = Exporter(*_part(options.settings.rl_format, options), f"{source} (its RL part)")
        self._held: IO[bytes] = tempfile.SpooledTemporaryFile(HELD_BYTES)  # noqa: SIM115 goes with the export
        self._held_name = ""

    @property
    def parts(self) -> dict[str, Exporter]:
        """Both exports by the folder that each has."""
        return {"sft": self._sft, "rl": self._rl}

    @property
    def read(self) -> int:
        """Rows read."""
        return self._sft.read + self._rl.read

    @property
    def ready(self) -> bool:
        """Both files have a row."""
        return self._sft.ready and self._rl.ready

    def add(self, rows: pa.Table) -> Iterator[Piece]:
        """More rows, in order (COLUMNS); the pieces of the SFT data that are ready by then."""
        check_rows(rows, self._source, before=self.read)
        settings = self.options.settings
        sides = [side_of(each, settings.rl_share, settings.split_seed) for each in rows["question"].to_pylist()]
        yield from _within("sft", self._sft.add(rows.filter(pa.array(side == "sft" for side in sides))))
        for name, data in self._rl.add(rows.filter(pa.array(side == "rl" for side in sides))):
            self._held_name = name
            self._held.write(data)

    def end(self) -> Iterator[Piece]:
        """The rest of the SFT folder, the RL folder, and the report; raises ProblemError where a file gets no row."""
        for name, part in self.parts.items():
            if self.read and not part.read:
                raise ProblemError(
                    f"{self._source}: of its {self.read} rows none fell to {name}; take more problems, or another "
                    "--split-seed or --rl-share"
                )
        yield from _within("sft", self._sft.end())
        yield from _within("rl", self._waiting())
        yield from _within("rl", self._rl.end())
        yield "README.md", self._readme().encode()
        yield REPORT, as_json(self.report()).encode()

    def report(self) -> dict[str, object]:
        """What export.json holds: how the problems were split, and the report of each file."""
        settings = self.options.settings
        split = {"by": "the words of the question", "rl_share": settings.rl_share, "seed": settings.split_seed}
        return {
            "format": self.name,
            "read": self.read,
            "split": split,
            **{name: part.report() for name, part in self.parts.items()},
        }

    def _waiting(self) -> Iterator[Piece]:
        self._held.seek(0)
        while data := self._held.read(HELD_BYTES):
            yield self._held_name, data
        self._held.close()

    def _readme(self) -> str:
        lines = [
            "# cold-start",
            "",
            "A student is fine-tuned on `sft`, then trained by RL on `rl`. No question is in both; `rlt_problem_id`",
            "is the problem of a row, as in the source. `export.json` says what was left out, and why.",
            "",
            *(
                f"- `{name}`: {part.counts.written:,} rows, {part.form.purpose} (`{name}/README.md`)"
                for name, part in self.parts.items()
            ),
        ]
        return "\n".join(lines) + "\n"


def _part(name: FormatName, options: Options) -> tuple[Format, Options]:
    """A format, and the options with the kind of file that it takes."""
    form = FORMATS[name]
    kind = options.file_type if options.file_type in form.file_types else form.file_types[0]
    return form, replace(options, file_type=kind)


def _within(folder: Side, pieces: Iterable[Piece]) -> Iterator[Piece]:
    for name, data in pieces:
        yield f"{folder}/{name}", data


def export_of(name: ExportName, options: Options, source: str, watch: Watcher | None = None) -> Export:
    """The export that `rlt export --format` and the service name so."""
    if name == "cold-start":
        return ColdStart(options, source, watch)
    return Exporter(FORMATS[name], options, source, watch)
