"""Process supervision: the steps of an explanation, each with what it is worth to the student, as labels or as numbers.

The steps and their credits are those of `rlt score --measures.step-credit` (measures.steps). A step is good where its
credit is `--step-bound` or more. Texts are cut out row by row, so these formats are slower than the others, some
thousand rows a second. White space at the ends of a step is dropped: the trainer puts its own separator there, and the
label on it (GC-8). A step that is nothing but white space is dropped with its label.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from student.exports.arrow_text import column
from student.exports.axolotl import COMMAND, yaml_of
from student.exports.formats import Context, Format, Options, origin, readme

UNMEASURED = "no step credits in measures.steps (rlt score --measures.step-credit measures them)"
MARK = "ки"
"""What ends a step in Math-Shepherd's own files; a reward model is asked at this token."""


@dataclass(frozen=True)
class Steps:
    """The steps of one explanation and the credit of each."""

    texts: Sequence[str]
    credits: Sequence[float]

    @classmethod
    def of(cls, explanation: str, steps: Sequence[Mapping[str, Any]]) -> "Steps":
        r"""Cut out of the explanation where the measure says.

        >>> Steps.of("1 + 1.\nSo 2.", [{"start": 0, "stop": 7, "credit": 0.5}, {"start": 7, "stop": 12, "credit": 1.0}])
        Steps(texts=('1 + 1.', 'So 2.'), credits=(0.5, 1.0))
        """
        cut = [(explanation[step["start"] : step["stop"]].strip(), float(step["credit"])) for step in steps]
        kept = [(text, credit) for text, credit in cut if text]
        return cls(tuple(text for text, _ in kept), tuple(credit for _, credit in kept))

    def labels(self, bound: float) -> list[bool]:
        """Which steps are good."""
        return [credit >= bound for credit in self.credits]


class _Stepwise(Format):
    pieces_apart = True

    def texts(self, lessons: pa.Table, options: Options) -> tuple[pa.Array, pa.Array]:
        """Question and explanation: no format of steps has a template, and its trainers tokenise step by step."""
        return column(lessons, "question"), column(lessons, "explanation")

    def refused(self, lessons: pa.Table, options: Options) -> pa.Array:
        """A row whose steps were not measured, or that has none."""
        counted = pc.fill_null(pc.list_value_length(column(lessons, "measures.steps")), 0)
        return pc.if_else(pc.greater(counted, 0), pa.scalar(None, pa.string()), UNMEASURED)

    def measured(self, lessons: pa.Table, options: Options) -> tuple[pa.Table, list[Steps]]:
        """The lessons that have steps, and those."""
        lessons = lessons.filter(pc.is_null(self.refused(lessons, options)))
        texts, found = column(lessons, "explanation").to_pylist(), column(lessons, "measures.steps").to_pylist()
        return lessons, [Steps.of(text, steps) for text, steps in zip(texts, found, strict=True)]


_PRM = """\
    type: stepwise_supervised
    step_separator: "\\n"
    train_on_last_step_only: false
model_type: AutoModelForTokenClassification
num_labels: 2
process_reward_model: true
"""


class TrlStepwise(_Stepwise):
    """Texts, since this kind of TRL's has no conversations; as many labels as steps (GC-8)."""

    name = "trl-stepwise"
    purpose = "process reward models of TRL (to 1.10, experimental.prm) and axolotl (stepwise_supervised)"

    def convert(self, lessons: pa.Table, options: Options) -> pa.Table:
        """`prompt` (the question), `completions` (the steps), `labels` (true or false)."""
        lessons, steps = self.measured(lessons, options)
        bound = options.settings.step_bound
        made = {
            "prompt": column(lessons, "question"),
            "completions": pa.array([each.texts for each in steps], pa.list_(pa.string())),
            "labels": pa.array([each.labels(bound) for each in steps], pa.list_(pa.bool_())),
        }
        return pa.table({**made, **origin(lessons, options)})

    def glue(self, context: Context) -> Mapping[str, str]:
        """What trains."""
        remark = (
            "TRL 1.16 has no PRMTrainer; the last with one is 1.10: `trl.experimental.prm.PRMTrainer(model=..., "
            "train_dataset=load_dataset(os.getcwd(), split='train'))`."
        )
        return {"axolotl.yaml": yaml_of(context, _PRM), "README.md": readme(self, context, COMMAND, remark)}


class StepwiseSoft(_Stepwise):
    """The same with the credits themselves. TRL would cut them to whole numbers: this is for a loss of one's own."""

    name = "stepwise-soft"
    purpose = "process reward models that learn numbers: nats a solution token that each step adds"

    def convert(self, lessons: pa.Table, options: Options) -> pa.Table:
        """`prompt` (the question), `completions` (the steps), `soft_labels` (their credits)."""
        lessons, steps = self.measured(lessons, options)
        made = {
            "prompt": column(lessons, "question"),
            "completions": pa.array([each.texts for each in steps], pa.list_(pa.string())),
            "soft_labels": pa.array([each.credits for each in steps], pa.list_(pa.float64())),
        }
        return pa.table({**made, **origin(lessons, options)})


_COMPLETION = pa.struct([("text", pa.string()), ("rating", pa.int64()), ("flagged", pa.bool_())])
_LABELLED = pa.struct(
    [("completions", pa.list_(_COMPLETION)), ("human_completion", pa.string()), ("chosen_completion", pa.int64())]
)
_QUESTION = pa.struct(
    [
        *((name, pa.string()) for name in ("problem", "ground_truth_solution", "ground_truth_answer")),
        ("pre_generated_steps", pa.list_(pa.string())),
    ]
)
_LABEL = pa.struct([("steps", pa.list_(_LABELLED)), ("finish_reason", pa.string())])


class Prm800k(_Stepwise):
    """PRM800K's lines: one completion a step, rated 1 where it is good, -1 where not, 0 within `--step-neutral`."""

    name = "prm800k"
    purpose = "what reads OpenAI's PRM800K (phase 2 lines)"

    def convert(self, lessons: pa.Table, options: Options) -> pa.Table:
        """`question` and `label`."""
        lessons, steps = self.measured(lessons, options)
        answers = [column(lessons, name).to_pylist() for name in ("question", "solution", "answer")]
        questions = [
            dict(zip(_QUESTION.names, (*texts, list(each.texts)), strict=True))
            for *texts, each in zip(*answers, steps, strict=True)
        ]
        labels = [_label(each, options.settings.step_bound, options.settings.step_neutral) for each in steps]
        made = {"question": pa.array(questions, _QUESTION), "label": pa.array(labels, _LABEL)}
        return pa.table({**made, **origin(lessons, options)})


def _label(steps: Steps, bound: float, neutral: float) -> dict[str, Any]:
    ratings = [rating(credit, bound, neutral) for credit in steps.credits]
    labelled = [
        {
            "completions": [{"text": text, "rating": rated, "flagged": False}],
            "human_completion": None,
            "chosen_completion": 0,
        }
        for text, rated in zip(steps.texts, ratings, strict=True)
    ]
    return {"steps": labelled, "finish_reason": "found_error" if -1 in ratings else "solution"}


def rating(credit: float, bound: float, neutral: float) -> int:
    """1, 0 or -1.

    >>> [rating(credit, 0.0, 0.1) for credit in (0.2, 0.05, -0.05, -0.2)]
    [1, 0, 0, -1]
    """
    if abs(credit - bound) < neutral:
        return 0
    return 1 if credit >= bound else -1


class MathShepherd(_Stepwise):
    """Math-Shepherd's own lines: numbered steps, each ended by `ки`, and the same text with + or - in its place."""

    name = "math-shepherd"
    purpose = "what reads Math-Shepherd's own files (OpenR's PRM training)"

    def convert(self, lessons: pa.Table, options: Options) -> pa.Table:
        """`input`, `label` and `task`."""
        lessons, steps = self.measured(lessons, options)
        bound = options.settings.step_bound
        questions = column(lessons, "question").to_pylist()
        pairs = list(zip(questions, steps, strict=True))
        made = {
            "input": pa.array([_marked(text, each, [MARK] * len(each.texts)) for text, each in pairs], pa.string()),
            "label": pa.array([_marked(text, each, _signs(each.labels(bound))) for text, each in pairs], pa.string()),
            "task": pa.array(["RLT"] * len(pairs), pa.string()),
        }
        return pa.table({**made, **origin(lessons, options)})


def _signs(labels: Sequence[bool]) -> list[str]:
    return ["+" if label else "-" for label in labels]


def _marked(question: str, steps: Steps, marks: Sequence[str]) -> str:
    lines = [
        f"Step {number}: {text} {mark}" for number, (text, mark) in enumerate(zip(steps.texts, marks, strict=True), 1)
    ]
    return " ".join([question, "\n".join(lines)])
