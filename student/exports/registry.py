"""The formats by the names that `rlt export --format` takes (student.configs.ExportFormat)."""

from student.configs import ExportFormat
from student.exports.conversations import (
    AXOLOTL_CHAT,
    BESPOKE_STRATOS,
    LLAMAFACTORY_SHAREGPT,
    Alpaca,
    InputOutput,
    Messages,
    PromptCompletion,
)
from student.exports.formats import Format
from student.exports.preferences import Kto, Preference

FORMATS: dict[ExportFormat, Format] = {
    "trl-prompt-completion": PromptCompletion(),
    "trl-messages": Messages(),
    "bespoke-stratos": BESPOKE_STRATOS,
    "llamafactory-sharegpt": LLAMAFACTORY_SHAREGPT,
    "llamafactory-alpaca": Alpaca(),
    "axolotl-chat": AXOLOTL_CHAT,
    "openrlhf": InputOutput(),
    "trl-preference": Preference(),
    "trl-kto": Kto(),
}
