"""Layouts that other datasets have, and those of trainers that read messages: OpenRLHF, verl, prime-rl, NeMo-RL."""

from collections.abc import Mapping

import pyarrow as pa

from student.errors import ConfigError
from student.exports.formats import Context, Format, Options, origin, prompt_turns, readme, written_turns
from student.exports.llamafactory import from_value
from student.exports.trl import message_turns


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
            "--data.output_key output --data.apply_chat_template --data.max_len 16384 "
            "--model.model_name_or_path STUDENT"
        )
        return {"README.md": readme(self, context, command)}


class VerlSft(Format):
    """verl reads Parquet and learns the assistant's turns, each put through the template by itself."""

    name = "verl-sft"
    purpose = "verl's SFT trainer (MultiTurnSFTDataset)"
    file_types = ("parquet",)

    def convert(self, lessons: pa.Table, options: Options) -> pa.Table:
        """`messages`."""
        return pa.table({"messages": message_turns(lessons), **origin(lessons, options)})

    def glue(self, context: Context) -> Mapping[str, str]:
        """The command."""
        command = (
            "torchrun --nproc_per_node=1 -m verl.trainer.sft_trainer data.train_files=data.parquet "
            "data.messages_key=messages data.max_length=16384 data.max_token_len_per_gpu=16384 model.path=STUDENT"
        )
        return {"README.md": readme(self, context, command)}


_PRIME_RL = """\
[model]
name = "STUDENT"

[data]
type = "sft"
seq_len = 16384
"""


class PrimeRl(Format):
    """prime-rl takes `messages` where a row has both them and a prompt, so there is nothing else (GC-20)."""

    name = "prime-rl"
    purpose = "prime-rl's SFT, with its TOML; its RL reads the format verifiers"

    def convert(self, lessons: pa.Table, options: Options) -> pa.Table:
        """`messages`."""
        return pa.table({"messages": message_turns(lessons), **origin(lessons, options)})

    def glue(self, context: Context) -> Mapping[str, str]:
        """The TOML and the command."""
        # The folder by its whole path: prime-rl gives the name to `datasets`, which cannot load ".".
        command = 'uv run sft @ sft.toml --data.name "$PWD"'
        return {"sft.toml": _PRIME_RL, "README.md": readme(self, context, command)}


_NEMO_SFT = """\
data:
  train:
    dataset_name: openai_format
    data_path: {data}
    chat_key: messages
  default:
    processor: sft_processor
"""


class NemoRlSft(Format):
    """Messages in NeMo-RL's openai_format."""

    name = "nemo-rl-sft"
    purpose = "NeMo-RL's SFT, with the part of its YAML that reads the data"
    file_types = ("jsonl",)

    def convert(self, lessons: pa.Table, options: Options) -> pa.Table:
        """`messages`."""
        return pa.table({"messages": message_turns(lessons), **origin(lessons, options)})

    def glue(self, context: Context) -> Mapping[str, str]:
        """The YAML and the command."""
        remark = "sft.yaml goes over the `data` of NeMo-RL's own examples/configs/sft.yaml."
        readme_text = readme(self, context, "uv run examples/run_sft.py --config sft.yaml", remark)
        return {"sft.yaml": _NEMO_SFT.format(data=context.data), "README.md": readme_text}
