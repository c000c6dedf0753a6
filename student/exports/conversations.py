"""The formats of supervised fine-tuning: a conversation a row.

No row mixes texts and message lists under the names that TRL looks at, and no file of messages has a `prompt`: TRL
would guess its kind, or ask for a `completion` (export-formats GC-1, GC-2).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from student.configs import ExportOptions
from student.exports.arrow_text import turns, turns_type
from student.exports.formats import column, prompt_turns, schema_of, with_provenance

PROMPT_COMPLETION = schema_of(("prompt", turns_type()), ("completion", turns_type()))
MESSAGES = schema_of(("messages", turns_type()))
SHAREGPT = schema_of(("system", pa.string()), ("conversations", turns_type("from", "value")))
INPUT_OUTPUT = schema_of(("input", turns_type()), ("output", turns_type()))
ALPACA = schema_of(("instruction", pa.string()), ("output", pa.string()), ("system", pa.string()))
AXOLOTL = """\
chat_template: tokenizer_default
datasets:
  - path: {data}
    ds_type: {kind}
    type: chat_template
    field_messages: messages
"""
DATASET = "rlt"
"""The name under which LLaMA-Factory finds the data."""


@dataclass(frozen=True)
class PromptCompletion:
    """TRL learns the completion alone by default, so this is the format that trains what `rlt distill` trains."""

    name: str = "trl-prompt-completion"
    purpose: str = "TRL's SFTTrainer, which learns the completion only"
    schema: pa.Schema = PROMPT_COMPLETION
    whole_problems: bool = False

    def convert(self, lessons: pa.Table, options: ExportOptions) -> pa.Table:
        completion = turns([("assistant", column(lessons, "written"))])
        return with_provenance(lessons, self.schema, prompt_turns(lessons), completion)

    def glue(self, data: str) -> Mapping[str, str]:
        return {}


@dataclass(frozen=True)
class Messages:
    """One list of messages; TRL learns all of it unless it is told `assistant_only_loss`."""

    name: str = "trl-messages"
    axolotl: bool = False
    """The part of axolotl's configuration that reads the data is written beside them."""
    purpose: str = "whoever reads chat messages: TRL, axolotl's chat_template, verl's SFT, prime-rl"
    schema: pa.Schema = MESSAGES
    whole_problems: bool = False

    def convert(self, lessons: pa.Table, options: ExportOptions) -> pa.Table:
        roles = {"system": "system", "user": "question", "assistant": "written"}
        spoken = [(role, column(lessons, name)) for role, name in roles.items()]
        return with_provenance(lessons, self.schema, turns(spoken))

    def glue(self, data: str) -> Mapping[str, str]:
        if not self.axolotl:
            return {}
        kind = data.rpartition(".")[2].replace("jsonl", "json")
        return {"axolotl.yaml": AXOLOTL.format(data=data, kind=kind)}


@dataclass(frozen=True)
class InputOutput:
    """OpenRLHF joins the two lists of messages and learns the second."""

    name: str = "openrlhf"
    purpose: str = "OpenRLHF's SFT, with `--data.apply_chat_template` and the keys input and output"
    schema: pa.Schema = INPUT_OUTPUT
    whole_problems: bool = False

    def convert(self, lessons: pa.Table, options: ExportOptions) -> pa.Table:
        written = turns([("assistant", column(lessons, "written"))])
        return with_provenance(lessons, self.schema, prompt_turns(lessons), written)

    def glue(self, data: str) -> Mapping[str, str]:
        return {}


@dataclass(frozen=True)
class Alpaca:
    """Instruction, output and system message as texts."""

    name: str = "llamafactory-alpaca"
    purpose: str = "LLaMA-Factory, as the dataset `rlt`, in texts"
    schema: pa.Schema = ALPACA
    whole_problems: bool = False

    def convert(self, lessons: pa.Table, options: ExportOptions) -> pa.Table:
        texts = [column(lessons, name) for name in ("question", "written", "system")]
        return with_provenance(lessons, self.schema, *texts)

    def glue(self, data: str) -> Mapping[str, str]:
        columns = {"prompt": "instruction", "response": "output", "system": "system"}
        return dataset_info({"file_name": data, "columns": columns})


@dataclass(frozen=True)
class ShareGpt:
    """`conversations` of `from` and `value` with the system message in a column of its own."""

    name: str
    purpose: str
    user: str
    assistant: str
    declared: bool = False
    """LLaMA-Factory's dataset_info.json is written beside the data."""
    schema: pa.Schema = SHAREGPT
    whole_problems: bool = False

    def convert(self, lessons: pa.Table, options: ExportOptions) -> pa.Table:
        spoken = [(self.user, column(lessons, "question")), (self.assistant, column(lessons, "written"))]
        return with_provenance(lessons, self.schema, column(lessons, "system"), turns(spoken, "from", "value"))

    def glue(self, data: str) -> Mapping[str, str]:
        if not self.declared:
            return {}
        columns = {"messages": "conversations", "system": "system"}
        return dataset_info({"file_name": data, "formatting": "sharegpt", "columns": columns})


def dataset_info(entry: Mapping[str, object]) -> dict[str, str]:
    """LLaMA-Factory's declaration of the data."""
    return {"dataset_info.json": json.dumps({DATASET: entry}, indent=2) + "\n"}


BESPOKE_STRATOS = ShareGpt(
    "bespoke-stratos", "trainers of Sky-T1, Bespoke-Stratos and OpenThoughts", user="user", assistant="assistant"
)
LLAMAFACTORY_SHAREGPT = ShareGpt(
    "llamafactory-sharegpt", "LLaMA-Factory, as the dataset `rlt`", user="human", assistant="gpt", declared=True
)
AXOLOTL_CHAT = Messages(name="axolotl-chat", axolotl=True, purpose="axolotl, with the part of its YAML that reads it")
