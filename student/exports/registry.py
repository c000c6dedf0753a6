"""The formats by the names that `rlt export --format` takes (student.configs.ExportFormat)."""

from student.configs import ExportFormat
from student.exports.conversations import BESPOKE_STRATOS, LLAMAFACTORY_SHAREGPT, Messages, PromptCompletion
from student.exports.formats import Format

FORMATS: dict[ExportFormat, Format] = {
    "trl-prompt-completion": PromptCompletion(),
    "trl-messages": Messages(),
    "bespoke-stratos": BESPOKE_STRATOS,
    "llamafactory-sharegpt": LLAMAFACTORY_SHAREGPT,
}
