"""TRL's formats of supervised fine-tuning and of self-distillation.

A row has texts or message lists under the names that TRL looks at, never both, and a file of messages has no `prompt`:
TRL would guess its kind, or ask for a `completion` (GC-1, GC-2). TRL 1.16 cuts rows at 1,024 tokens by default, so the
commands here say how long a row may be.
"""

from collections.abc import Mapping

import pyarrow as pa

from student.exports.arrow_text import column, joined, turns
from student.exports.formats import Context, Format, Options, origin, prompt_turns, readme, written_turns

# The folder by its whole path: `datasets` 5 cannot load ".", and says that dataset_name is None.
SFT = 'trl sft --dataset_name "$PWD" --model_name_or_path STUDENT --output_dir trained --max_length 16384'
SDFT = """python - <<'END'
import os
from datasets import load_dataset
from trl.experimental.sdft import SDFTConfig, SDFTTrainer
rows = load_dataset(os.getcwd(), split="train")
SDFTTrainer(model="STUDENT", args=SDFTConfig(output_dir="trained"), train_dataset=rows).train()
END"""


class TrlPromptCompletion(Format):
    """TRL learns the completion alone by default (GC-4): the format that trains what `rlt distill` trains."""

    name = "trl-prompt-completion"
    purpose = "TRL's SFTTrainer, which learns the completion only"

    def convert(self, lessons: pa.Table, options: Options) -> pa.Table:
        """`prompt` and `completion`, lists of messages."""
        made = {"prompt": prompt_turns(lessons), "completion": written_turns(lessons)}
        return pa.table({**made, **origin(lessons, options)})

    def glue(self, context: Context) -> Mapping[str, str]:
        """The command."""
        return {"README.md": readme(self, context, SFT)}


class TrlPromptCompletionText(Format):
    """The same as texts, for a model without a chat template, or with that of `--student` written out.

    Without one the completion begins with a space of its own (GC-7): behind a colon no tokenizer merges it into the
    prompt, where a line end would be merged with the mark before it.
    """

    name = "trl-prompt-completion-text"
    purpose = "the same as plain texts, for models without a chat template"

    def convert(self, lessons: pa.Table, options: Options) -> pa.Table:
        """`prompt` and `completion`, texts; TRL adds the end token."""
        prompt, written = self.texts(lessons, options)
        return pa.table({"prompt": prompt, "completion": written, **origin(lessons, options)})

    def texts(self, lessons: pa.Table, options: Options) -> tuple[pa.Array, pa.Array]:
        """What its two columns hold; the beginning-of-text token is left to a tokenizer that adds it."""
        question, written = column(lessons, "question"), column(lessons, "written")
        if options.chat is not None:
            before = options.chat.before.removeprefix(options.chat.added)
            return joined(before, question, options.chat.after), written
        prompt = joined(options.tags.student_system, "\n\nQuestion: ", question, "\n\nResponse:")
        return prompt, joined(" ", written)

    def glue(self, context: Context) -> Mapping[str, str]:
        """The command."""
        return {"README.md": readme(self, context, SFT)}


class TrlMessages(Format):
    """One list of messages; TRL learns all of it unless it is told `assistant_only_loss`."""

    name = "trl-messages"
    purpose = "whoever reads chat messages: TRL, verl's SFT, prime-rl"

    def convert(self, lessons: pa.Table, options: Options) -> pa.Table:
        """`messages`."""
        return pa.table({"messages": message_turns(lessons), **origin(lessons, options)})

    def glue(self, context: Context) -> Mapping[str, str]:
        """The command, and what it needs of the template."""
        remark = (
            "`assistant_only_loss` needs a chat template with `{% generation %}`; without it TRL learns system message "
            "and question too. Where the template has none, export trl-prompt-completion."
        )
        return {"README.md": readme(self, context, f"{SFT} --assistant_only_loss true", remark)}


def message_turns(lessons: pa.Table) -> pa.Array:
    """System message, question and what the student learns to write, as one conversation."""
    roles = {"system": "system", "user": "question", "assistant": "written"}
    return turns([(role, column(lessons, name)) for role, name in roles.items()])


class TrlSdft(Format):
    """The prompt, and apart from it what only the student as its own teacher is shown: thought and solution."""

    name = "trl-sdft"
    purpose = "TRL's SDFTTrainer (experimental): the explanation as privileged context of the student's own teacher"

    def convert(self, lessons: pa.Table, options: Options) -> pa.Table:
        """`prompt`, a list of messages, and `privileged_context`, a text."""
        made = {"prompt": prompt_turns(lessons), "privileged_context": column(lessons, "written")}
        return pa.table({**made, **origin(lessons, options)})

    def glue(self, context: Context) -> Mapping[str, str]:
        """The command."""
        return {"README.md": readme(self, context, SDFT)}
