"""Our own rows to train on, for whoever writes their own loader: as a file, and as a folder of `datasets`."""

from collections.abc import Mapping

import pyarrow as pa

from student.explanations import SCHEMA
from student.exports.encoders import DataFiles, SavedDataset
from student.exports.formats import Context, Format, Options, readme
from student.exports.trl import message_turns

KEPT = tuple(name for name in SCHEMA.names if name not in ("error", "dropped"))
"""Our columns; those that say why a row is not one to train on say nothing here."""


class PlainRows(Format):
    """The rows as every verb of ours reads them again."""

    name = "rows"
    purpose = "loaders of one's own, and `rlt` itself: our columns, only the rows to train on"
    reads = SCHEMA

    def convert(self, lessons: pa.Table, options: Options) -> pa.Table:
        """Our columns."""
        return lessons.select(list(KEPT))


class HfDatasets(Format):
    """What `datasets.load_from_disk` reads; the type of every column is stated."""

    name = "hf-datasets"
    purpose = "`datasets.load_from_disk`: our columns with typed features, and `messages`"
    reads = SCHEMA

    def convert(self, lessons: pa.Table, options: Options) -> pa.Table:
        """Our columns and `messages`."""
        return lessons.select(list(KEPT)).append_column("messages", message_turns(lessons))

    def files(self, schema: pa.Schema, options: Options) -> DataFiles:
        """A folder's files."""
        return SavedDataset(schema, self.name)

    def glue(self, context: Context) -> Mapping[str, str]:
        """How it is loaded."""
        return {"README.md": readme(self, context, "python -c \"print(__import__('datasets').load_from_disk('.'))\"")}
