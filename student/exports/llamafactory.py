"""LLaMA-Factory's formats, each with the declaration by which it finds the data (dataset_info.json, GC-13).

The declaration says `formatting`, not `format`, and names every column that is to be read (GC-11). All rows have the
same keys (GC-12), and speakers in turn, so none is abnormal (GC-10). A template of a reasoning model puts an empty
thought before an answer that has none between its own tags (GC-14): `without_thought` in export.json counts the rows
whose explanation is empty, and with `--tags rlt` such a template finds no thought of its own at all.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import pyarrow as pa

from student.exports.arrow_text import column, turn, turns
from student.exports.formats import Context, Format, Options, as_json, origin, pair_origin, readme
from student.exports.preferences import Labelled, Paired

DATASET = "rlt"
"""The name under which LLaMA-Factory finds the data."""
_PROMPT = {"prompt": "instruction", "system": "system"}


class _LlamaFactory(Format):
    stage: ClassVar[str] = "sft"
    entry: ClassVar[Mapping[str, Any]]

    def glue(self, context: Context) -> Mapping[str, str]:
        """dataset_info.json and the command."""
        command = (
            f"llamafactory-cli train --stage {self.stage} --do_train true --dataset_dir . --dataset {DATASET} "
            f"--model_name_or_path STUDENT --template TEMPLATE --cutoff_len 16384 --output_dir trained"
        )
        remark = (
            "TEMPLATE is the student's in LLaMA-Factory. Those of reasoning models (qwen3, deepseekr1, ...) add an "
            "empty `<think>` to answers without one: take such a template with `--tags think` only."
        )
        declared = as_json({DATASET: {"file_name": context.data, **self.entry}})
        return {"dataset_info.json": declared, "README.md": readme(self, context, command, remark)}


class LlamafactoryAlpaca(_LlamaFactory):
    """Instruction, output and system message as texts."""

    name = "llamafactory-alpaca"
    purpose = f"LLaMA-Factory, as the dataset `{DATASET}`, in texts"
    entry: ClassVar[Mapping[str, Any]] = {"columns": {**_PROMPT, "response": "output"}}

    def convert(self, lessons: pa.Table, options: Options) -> pa.Table:
        """`instruction`, `output` and `system`."""
        return pa.table({**_asked(lessons), "output": column(lessons, "written"), **origin(lessons, options)})


class LlamafactoryPreference(_LlamaFactory, Paired):
    """Two outputs of an instruction."""

    name = "llamafactory-alpaca-preference"
    purpose = "LLaMA-Factory's DPO and reward models: the better and the worse explanation of a problem"
    stage = "dpo"
    entry: ClassVar[Mapping[str, Any]] = {
        "ranking": True,
        "columns": {**_PROMPT, "chosen": "chosen", "rejected": "rejected"},
    }

    def convert(self, lessons: pa.Table, options: Options) -> pa.Table:
        """`instruction`, `system`, `chosen` and `rejected`."""
        chosen, rejected = self.sides(lessons, options)
        written = {"chosen": column(chosen, "written"), "rejected": column(rejected, "written")}
        return pa.table({**_asked(chosen), **written, **pair_origin(chosen, rejected, options)})


class LlamafactoryKto(_LlamaFactory, Labelled):
    """An output with whether it is a good one."""

    name = "llamafactory-alpaca-kto"
    purpose = "LLaMA-Factory's KTO: each explanation with whether it is a good one"
    stage = "kto"
    entry: ClassVar[Mapping[str, Any]] = {"columns": {**_PROMPT, "response": "output", "kto_tag": "kto_tag"}}

    def convert(self, lessons: pa.Table, options: Options) -> pa.Table:
        """`instruction`, `system`, `output` and `kto_tag`."""
        told, label = self.labelled(lessons, options)
        return pa.table({**_asked(told), "output": column(told, "written"), "kto_tag": label, **origin(told, options)})


def _asked(lessons: pa.Table) -> dict[str, pa.Array]:
    return {"instruction": column(lessons, "question"), "system": column(lessons, "system")}


class LlamafactorySharegpt(_LlamaFactory):
    """Human and gpt in turn."""

    name = "llamafactory-sharegpt"
    purpose = f"LLaMA-Factory, as the dataset `{DATASET}`, in conversations"
    entry: ClassVar[Mapping[str, Any]] = {
        "formatting": "sharegpt",
        "columns": {"messages": "conversations", "system": "system"},
    }

    def convert(self, lessons: pa.Table, options: Options) -> pa.Table:
        """`system` and `conversations`."""
        return pa.table({**from_value(lessons, "human", "gpt"), **origin(lessons, options)})


_TALKED = {"messages": "conversations", "system": "system"}


class LlamafactorySharegptPreference(_LlamaFactory, Paired):
    """A question, and two answers of gpt, each an object."""

    name = "llamafactory-sharegpt-preference"
    purpose = "LLaMA-Factory's DPO and reward models, in conversations"
    stage = "dpo"
    entry: ClassVar[Mapping[str, Any]] = {
        "ranking": True,
        "formatting": "sharegpt",
        "columns": {**_TALKED, "chosen": "chosen", "rejected": "rejected"},
    }

    def convert(self, lessons: pa.Table, options: Options) -> pa.Table:
        """`system`, `conversations` of the question alone, `chosen` and `rejected`."""
        chosen, rejected = self.sides(lessons, options)
        asked = turns([("human", column(chosen, "question"))], "from", "value")
        said = {
            name: turn("gpt", column(side, "written"), "from", "value")
            for name, side in (("chosen", chosen), ("rejected", rejected))
        }
        made = {"system": column(chosen, "system"), "conversations": asked, **said}
        return pa.table({**made, **pair_origin(chosen, rejected, options)})


class LlamafactorySharegptKto(_LlamaFactory, Labelled):
    """Human and gpt, with whether it is a good answer."""

    name = "llamafactory-sharegpt-kto"
    purpose = "LLaMA-Factory's KTO, in conversations"
    stage = "kto"
    entry: ClassVar[Mapping[str, Any]] = {
        "formatting": "sharegpt",
        "columns": {**_TALKED, "kto_tag": "kto_tag"},
    }

    def convert(self, lessons: pa.Table, options: Options) -> pa.Table:
        """`system`, `conversations` and `kto_tag`."""
        told, label = self.labelled(lessons, options)
        return pa.table({**from_value(told, "human", "gpt"), "kto_tag": label, **origin(told, options)})


def from_value(lessons: pa.Table, user: str, assistant: str) -> dict[str, pa.Array]:
    """`system`, and `conversations` whose turns have `from` and `value`."""
    spoken = [(user, column(lessons, "question")), (assistant, column(lessons, "written"))]
    return {"system": column(lessons, "system"), "conversations": turns(spoken, "from", "value")}
