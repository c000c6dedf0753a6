"""Layouts that other datasets have, and OpenRLHF's."""

from collections.abc import Mapping

import pyarrow as pa

from student.errors import ConfigError
from student.exports.formats import Context, Format, Options, origin, prompt_turns, readme, written_turns
from student.exports.llamafactory import from_value


class BespokeStratos(Format):
    """As Sky-T1, Bespoke-Stratos and OpenThoughts are stored: the speakers are user and assistant."""

    name = "bespoke-stratos"
    purpose = "trainers of Sky-T1, Bespoke-Stratos and OpenThoughts"

    def convert(self, lessons: pa.Table, options: Options) -> pa.Table:
        """`system` and `conversations`."""
        return pa.table({**from_value(lessons, "user", "assistant"), **origin(lessons, options)})

    def check(self, options: Options) -> None:
        """Its sections are those of the tag style rlt."""
        if options.settings.tags != "rlt":
            raise ConfigError(f"format {self.name}: its tags are those of the style rlt; leave out --tags")


class Openrlhf(Format):
    """OpenRLHF joins the two lists of messages and learns the second."""

    name = "openrlhf"
    purpose = "OpenRLHF's SFT, with `--data.apply_chat_template` and the keys input and output"

    def convert(self, lessons: pa.Table, options: Options) -> pa.Table:
        """`input` and `output`, lists of messages."""
        made = {"input": prompt_turns(lessons), "output": written_turns(lessons)}
        return pa.table({**made, **origin(lessons, options)})

    def glue(self, context: Context) -> Mapping[str, str]:
        """The command."""
        command = (
            f"python -m openrlhf.cli.train_sft --data.dataset {context.data} --data.input_key input "
            "--data.output_key output --data.apply_chat_template --model.model_name_or_path STUDENT"
        )
        return {"README.md": readme(self, context, command)}
