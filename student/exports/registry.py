"""The formats by the names that `rlt export --format` takes (names.FormatName)."""

from student.exports.axolotl import AxolotlChat, AxolotlInputOutput, AxolotlPreference
from student.exports.conversations import BespokeStratos, NemoRlSft, Openrlhf, PrimeRl, VerlSft
from student.exports.formats import Format
from student.exports.llamafactory import (
    LlamafactoryAlpaca,
    LlamafactoryKto,
    LlamafactoryPreference,
    LlamafactorySharegpt,
    LlamafactorySharegptKto,
    LlamafactorySharegptPreference,
)
from student.exports.names import FormatName
from student.exports.preferences import TrlKto, TrlPreference
from student.exports.prompts import NemoRlGrpo, OpenrlhfRl, TrlGrpo, Verifiers, VerlRl
from student.exports.stepwise import MathShepherd, Prm800k, StepwiseSoft, TrlStepwise
from student.exports.tables import HfDatasets, PlainRows
from student.exports.trl import TrlMessages, TrlPromptCompletion, TrlPromptCompletionText, TrlSdft

_ALL: tuple[Format, ...] = (
    TrlPromptCompletion(),
    TrlPromptCompletionText(),
    TrlMessages(),
    TrlPreference(),
    TrlKto(),
    TrlStepwise(),
    TrlSdft(),
    StepwiseSoft(),
    Prm800k(),
    MathShepherd(),
    LlamafactoryAlpaca(),
    LlamafactoryPreference(),
    LlamafactoryKto(),
    LlamafactorySharegpt(),
    LlamafactorySharegptPreference(),
    LlamafactorySharegptKto(),
    AxolotlChat(),
    AxolotlInputOutput(),
    AxolotlPreference(),
    BespokeStratos(),
    Openrlhf(),
    VerlSft(),
    PrimeRl(),
    NemoRlSft(),
    VerlRl(),
    TrlGrpo(),
    OpenrlhfRl(),
    NemoRlGrpo(),
    Verifiers(),
    HfDatasets(),
    PlainRows(),
)
FORMATS: dict[FormatName, Format] = {form.name: form for form in _ALL}
