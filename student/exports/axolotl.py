"""axolotl's formats, each with the part of its YAML that reads the data."""

from collections.abc import Mapping

import pyarrow as pa

from student.exports.arrow_text import column, joined, listed, turn
from student.exports.formats import Context, Format, Options, origin, pair_origin, prompt_turns, readme
from student.exports.preferences import Paired
from student.exports.trl import message_turns

COMMAND = "axolotl train axolotl.yaml"
_YAML = """\
base_model: STUDENT
sequence_len: 16384
output_dir: trained
learning_rate: 1.0e-5
micro_batch_size: 1
gradient_accumulation_steps: 16
datasets:
  - path: {data}
    ds_type: {kind}
    split: train
"""
_CHAT = """\
    type: chat_template
    field_messages: messages
    roles_to_train: [assistant]
    train_on_eos: turn
"""


def yaml_of(context: Context, rest: str) -> str:
    """A configuration that reads the data; `rest` goes on with what is particular to it."""
    kind = {"jsonl": "json", "parquet": "parquet"}[context.options.file_type]
    return _YAML.format(data=context.data, kind=kind) + rest


class AxolotlChat(Format):
    """Messages, of which the assistant's turn is learnt with its end."""

    name = "axolotl-chat"
    purpose = "axolotl's chat_template, with the part of its YAML that reads the data"

    def convert(self, lessons: pa.Table, options: Options) -> pa.Table:
        """`messages`."""
        return pa.table({"messages": message_turns(lessons), **origin(lessons, options)})

    def glue(self, context: Context) -> Mapping[str, str]:
        """The YAML and the command."""
        thinking = "Qwen3's template takes the thought out of the text with `split_thinking: true`."
        remarks = [thinking] if context.options.settings.tags == "think" else []
        return {"axolotl.yaml": yaml_of(context, _CHAT), "README.md": readme(self, context, COMMAND, *remarks)}


_DPO = """\
    type: chat_template.default
    field_messages: messages
    field_chosen: chosen
    field_rejected: rejected
rl: dpo
"""


class AxolotlPreference(Paired):
    """The question's messages, and two answers, each an object."""

    name = "axolotl-preference"
    purpose = "axolotl's DPO (chat_template.default): the better and the worse explanation of a problem"

    def convert(self, lessons: pa.Table, options: Options) -> pa.Table:
        """`messages`, `chosen` and `rejected`."""
        chosen, rejected = self.sides(lessons, options)
        said = {
            name: turn("assistant", column(side, "written"))
            for name, side in (("chosen", chosen), ("rejected", rejected))
        }
        return pa.table({"messages": prompt_turns(chosen), **said, **pair_origin(chosen, rejected, options)})

    def glue(self, context: Context) -> Mapping[str, str]:
        """The YAML and the command."""
        return {"axolotl.yaml": yaml_of(context, _DPO), "README.md": readme(self, context, COMMAND)}


SEGMENT = ("label", "text")


class AxolotlInputOutput(Format):
    """Texts without any template, each learnt or not, token for token: what comes before and after is the author's job.

    With `--student` the prompt is that student's own template written out and the text ends with its end token.
    """

    name = "axolotl-input-output"
    purpose = "axolotl's input_output: texts that are learnt as they stand, without a template"
    pieces_apart = True

    def convert(self, lessons: pa.Table, options: Options) -> pa.Table:
        """`segments`: the prompt, not learnt, and what the student learns to write."""
        asked, written = self.texts(lessons, options)
        segments = listed([_segment(False, asked), _segment(True, written)])
        return pa.table({"segments": segments, **origin(lessons, options)})

    def texts(self, lessons: pa.Table, options: Options) -> tuple[pa.Array, pa.Array]:
        """The texts of its two segments."""
        before, after, end = f"{options.tags.student_system}\n\n", "\n\n", ""
        if options.chat is not None:
            before, after, end = options.chat.before, options.chat.after, options.chat.end
        return joined(before, column(lessons, "question"), after), joined(column(lessons, "written"), end)

    def glue(self, context: Context) -> Mapping[str, str]:
        """The YAML, the command, and whose template and end token these are."""
        own = "The prompts are the student's own template written out, and each text ends with its end token."
        none = (
            "No student was named (`--student`), so there is no beginning-of-text token and no end token in these "
            "texts: a model trained on them does not learn to stop. Name one."
        )
        remark = none if context.options.chat is None else own
        yaml = yaml_of(context, "    type: input_output\n")
        return {"axolotl.yaml": yaml, "README.md": readme(self, context, COMMAND, remark)}


def _segment(label: bool, texts: pa.Array) -> pa.Array:
    labels = pa.repeat(pa.scalar(label), len(texts))
    return pa.StructArray.from_arrays([labels, texts], list(SEGMENT))
