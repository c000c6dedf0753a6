"""What the columns of a row mean: one object a layout, each turning a row into a Problem or saying why it cannot.

The layouts are plain columns under their usual names, GSM8K (the answer column holds `rationale #### answer`),
multiple choice, conversations (Bespoke-Stratos, Sky-T1, OpenThoughts), whose assistant text holds the tagged thought
and solution, and labelled steps (PRM800K, Math-Shepherd, TRL's stepwise supervision), of which the text alone is read.
Texts are taken as they are, never trimmed; columns that mean nothing here are kept as metadata. Left out: conversations
of several turns, and any repair of a row.
"""

import itertools
import json
import math
import re
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any, Protocol

from student.errors import ConfigError
from student.grading import solution_section, stated_answer
from student.problems import Problem, content_id
from student.rows import shown
from student.tags import STYLES, Tags

SYNONYMS = {
    "question": ("question", "prompt", "problem", "input", "query", "instruction"),
    "solution": ("solution", "response", "output", "completion"),
    "answer": ("answer", "final_answer", "expected_answer", "ground_truth", "target"),
    "reasoning_trace": ("reasoning_trace", "trace", "rationale", "reasoning", "explanation", "thought", "cot"),
}
"""The names under which a column is found, whatever their case, the best first; a `columns` setting comes before."""
CONVERSATION_COLUMNS = ("conversations", "messages")
TEXT_LIMIT = 16 * 2**20
"""Characters in the longest text."""
DEPTH_LIMIT = 50
"""Levels of lists and objects in the metadata."""

_CALCULATOR = re.compile(r"<<[^<>]*>>")
_UNWRITABLE = re.compile(r"[\ud800-\udfff]")
_ROLES = {"user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant", "system": "system"}


class BadRow(ValueError):
    """Why one row cannot be used. Caught where rows are read, and recorded there; its siblings go on."""


class Layout(Protocol):
    """A way to lay a problem out in columns. `found` names the column of each field, see find_columns.

    `reads` are the fields that it looks at; the columns of the others are metadata.
    """

    @property
    def name(self) -> str: ...
    @property
    def reads(self) -> tuple[str, ...]: ...

    def fits(self, row: Mapping[str, Any], found: Mapping[str, str]) -> bool: ...

    def fields(self, row: Mapping[str, Any], found: Mapping[str, str]) -> dict[str, Any]:
        """The row's question, solution, reasoning_trace and answer, unchecked; raises BadRow where it cannot tell."""
        ...


class Columns:
    """A column a field. Without a solution, the answer is the solution."""

    name = "a column a field"
    reads = ("question", "solution", "reasoning_trace", "answer")

    def fits(self, row: Mapping[str, Any], found: Mapping[str, str]) -> bool:
        return "question" in found and ("solution" in found or "answer" in found)

    def fields(self, row: Mapping[str, Any], found: Mapping[str, str]) -> dict[str, Any]:
        values = {field: row[found[field]] for field in self.reads if field in found}
        values["answer"] = answer_text(values.get("answer"))
        if "solution" not in found:
            values["solution"] = values["answer"]
        return values


class Gsm8k:
    """The trace and the answer in one column, `rationale #### answer`; `<<48/2=24>>` is dropped from the trace."""

    name = "GSM8K, `rationale #### answer`"
    reads = ("question", "answer")

    def fits(self, row: Mapping[str, Any], found: Mapping[str, str]) -> bool:
        if "question" not in found or "answer" not in found or "solution" in found:
            return False
        answer = row[found["answer"]]
        return isinstance(answer, str) and "####" in answer

    def fields(self, row: Mapping[str, Any], found: Mapping[str, str]) -> dict[str, Any]:
        rationale, _, answer = row[found["answer"]].rpartition("####")
        return {
            "question": row[found["question"]],
            "solution": answer.strip(),
            "reasoning_trace": _CALCULATOR.sub("", rationale).strip(),
            "answer": answer.strip(),
        }


class Conversations:
    """One user turn and one assistant turn, whose text holds thought and solution in the tags of either style.

    A system message is dropped: it explains the tags, and ours does that for the tag style in use.
    """

    name = "conversations, thought and solution in tags"
    reads = ("conversations", "answer")

    def fits(self, row: Mapping[str, Any], found: Mapping[str, str]) -> bool:
        return "conversations" in found

    def fields(self, row: Mapping[str, Any], found: Mapping[str, str]) -> dict[str, Any]:
        turns = _turns(row[found["conversations"]], found["conversations"])
        roles = [role for role, _ in turns]
        if roles != ["user", "assistant"]:
            raise BadRow(f"one user turn and one assistant turn are expected, got {shown(roles)}")
        question, reply = (text for _, text in turns)
        thought, solution = _tagged_sections(reply)
        answer = answer_text(row[found["answer"]]) if "answer" in found else None
        return {"question": question, "solution": solution, "reasoning_trace": thought, "answer": answer}


class Choices:
    """Multiple choice: a list of options and which is right, or GPQA's columns of right and wrong answers.

    Options are shuffled by the question's own hash, the same way each time: GPQA's right answer always stands first,
    and a model may like one letter. The problem's answer is the letter; grade with `--grading choice`.
    """

    name = "multiple choice, options shuffled"
    reads = ("question", "answer")

    def fits(self, row: Mapping[str, Any], found: Mapping[str, str]) -> bool:
        return "question" in found and bool(_option_list(row) or _gpqa_options(row))

    def fields(self, row: Mapping[str, Any], found: Mapping[str, str]) -> dict[str, Any]:
        options, right = _gpqa_options(row) or _marked_options(row, row.get(found.get("answer", "label")))
        question = checked_text(row[found["question"]], "question")
        order = sorted(range(len(options)), key=lambda place: content_id(question, options[place], str(place)))
        lines = [f"{letter}) {options[place]}" for letter, place in zip(LETTERS, order, strict=False)]
        answer = LETTERS[order.index(right)]
        return {
            "question": "\n".join([question, "", *lines, "", "Answer with the letter of the right option."]),
            "solution": lines[order.index(right)],
            "answer": answer,
        }


LETTERS = "ABCDEFGHIJ"


def _option_list(row: Mapping[str, Any]) -> list[Any] | None:
    """The options as they stand in a row: a list, or ARC's object of texts and labels."""
    value = next((row[name] for name in ("choices", "options") if row.get(name)), None)
    texts = value.get("text") if isinstance(value, dict) else value
    return texts if isinstance(texts, list) else None


def _marked_options(row: Mapping[str, Any], mark: Any) -> tuple[list[str], int]:
    """Options and the place of the right one, which a number from 0, a letter, a label or its text marks."""
    options = [checked_text(answer_text(option), "an option") for option in _option_list(row) or ()]
    if not 2 <= len(options) <= len(LETTERS):
        raise BadRow(f"{len(options)} options; 2 to {len(LETTERS)} are read")
    named = row.get("choices")
    labels = [str(label) for label in named.get("label", ())] if isinstance(named, dict) else list(LETTERS)
    if isinstance(mark, int) and not isinstance(mark, bool) and 0 <= mark < len(options):
        return options, mark
    for names in (labels[: len(options)], options):
        if isinstance(mark, str) and mark.strip() in names:
            return options, names.index(mark.strip())
    raise BadRow(f"answer {shown(mark)} is no option: give its number from 0, its letter or its text")


def _gpqa_options(row: Mapping[str, Any]) -> tuple[list[str], int] | None:
    by_name = {name.casefold(): value for name, value in row.items()}
    names = ("correct answer", "incorrect answer 1", "incorrect answer 2", "incorrect answer 3")
    if not all(name in by_name for name in names):
        return None
    return [checked_text(answer_text(by_name[name]), name).strip() for name in names], 0


def _turns(conversation: Any, column: str) -> list[tuple[str, str]]:
    if not isinstance(conversation, list):
        raise BadRow(f"{column} is {shown(conversation)}, a list of turns is expected")
    turns = [_turn(turn, column) for turn in conversation]
    return [(role, text) for role, text in turns if role != "system"]


def _turn(turn: Any, column: str) -> tuple[str, str]:
    values = {key: value for key, value in turn.items() if value is not None} if isinstance(turn, dict) else {}
    role, text = values.get("from", values.get("role")), values.get("value", values.get("content"))
    if not isinstance(role, str) or role not in _ROLES or not isinstance(text, str):
        raise BadRow(f"{column} holds the turn {shown(turn)}; expected are from (user, assistant) and value")
    return _ROLES[role], text


def _tagged_sections(reply: str) -> tuple[str | None, str]:
    """Thought and solution of an assistant's text, in whichever tag style it has."""
    for tags in STYLES.values():
        solution = solution_section(reply, tags)
        if solution is not None:
            return _thought_section(reply, tags), solution
    ends = " nor ".join((tags.answer_close or tags.thought_close).strip() for tags in STYLES.values())
    raise BadRow(f"the assistant's text holds neither a closed solution ({ends}): {shown(reply)}")


def _thought_section(reply: str, tags: Tags) -> str | None:
    """What stands before the end of the thought; its opening tag may have been part of the prompt, as in R1."""
    thought, closed, _ = reply.partition(tags.thought_close.strip())
    head, opened, rest = thought.partition(tags.thought_open.strip())
    return (rest if opened else head).strip() if closed else None


class Prm800k:
    """OpenAI's PRM800K: the chosen steps are the trace, right or wrong; their ratings stay in the metadata."""

    name = "PRM800K, rated steps"
    reads = ("question",)

    def fits(self, row: Mapping[str, Any], found: Mapping[str, str]) -> bool:
        question, label = row.get("question"), row.get("label")
        return isinstance(question, dict) and "problem" in question and isinstance(label, dict) and "steps" in label

    def fields(self, row: Mapping[str, Any], found: Mapping[str, str]) -> dict[str, Any]:
        question, steps = row["question"], row["label"]["steps"]
        if not isinstance(steps, list):
            raise BadRow(f"label.steps is {shown(steps)}, a list is expected")
        answer = answer_text(question.get("ground_truth_answer"))
        return {
            "question": question["problem"],
            "solution": question.get("ground_truth_solution") or answer,
            "answer": answer,
            "reasoning_trace": "\n".join(itertools.takewhile(bool, map(_chosen_step, steps))),
        }


def _chosen_step(step: Any) -> str:
    """The text that the labeller went on from: the chosen completion or their own; empty where there is none."""
    try:
        chosen, own = step.get("chosen_completion"), step.get("human_completion")
        if chosen is not None:
            return str(step["completions"][chosen]["text"])
        return str(own["text"] if isinstance(own, dict) else own or "")
    except (AttributeError, KeyError, IndexError, TypeError) as error:
        raise BadRow(
            f"label.steps holds the step {shown(step)}; expected are completions, chosen_completion"
        ) from error


class TrlSteps:
    """Stepwise supervision as TRL and trl-lib's datasets have it: prompt, completions, labels (or soft_labels)."""

    name = "stepwise supervision, labelled steps"
    reads = ("question", "answer")

    def fits(self, row: Mapping[str, Any], found: Mapping[str, str]) -> bool:
        return "question" in found and isinstance(row.get("completions"), list) and bool(_step_labels(row))

    def fields(self, row: Mapping[str, Any], found: Mapping[str, str]) -> dict[str, Any]:
        steps = [checked_text(step, "a step in completions") for step in row["completions"]]
        labels = _step_labels(row) or []
        if len(labels) != len(steps):
            raise BadRow(f"{len(steps)} completions and {len(labels)} labels; there must be as many")
        return _stepwise(row[found["question"]], steps, labels[-1] > 0, _known_answer(row, found))


def _step_labels(row: Mapping[str, Any]) -> list[Any] | None:
    labels = row.get("labels") or row.get("soft_labels")
    return labels if isinstance(labels, list) and all(isinstance(label, int | float) for label in labels) else None


class MathShepherd:
    """Math-Shepherd's own files: numbered steps that end in `ки`, and the same text with + or - in its place."""

    name = "Math-Shepherd, steps that end in ки"
    reads = ("question", "answer")

    def fits(self, row: Mapping[str, Any], found: Mapping[str, str]) -> bool:
        given, label = row.get("input"), row.get("label")
        return isinstance(given, str) and isinstance(label, str) and _SHEPHERD_MARK in given

    def fields(self, row: Mapping[str, Any], found: Mapping[str, str]) -> dict[str, Any]:
        question, first, rest = row["input"].partition("Step 1:")
        steps = [_STEP_HEAD.sub("", step.strip()) for step in (first + rest).split(_SHEPHERD_MARK)]
        steps = [checked_text(step, "a step in input") for step in steps if step]
        if not steps:
            raise BadRow(f"input holds no step that begins with 'Step 1:': {shown(row['input'])}")
        return _stepwise(question.strip(), steps, row["label"].rstrip().endswith("+"), _known_answer(row, found))


_SHEPHERD_MARK = "ки"
_STEP_HEAD = re.compile(r"^Step \d+:\s*")
_STATED = re.compile(r"[Tt]he (?:final )?answer is:?\s*(.+?)\.?\s*$")


def _known_answer(row: Mapping[str, Any], found: Mapping[str, str]) -> Any:
    return answer_text(row[found["answer"]] if "answer" in found else row.get("rlt_answer"))


def _stepwise(question: Any, steps: list[str], good_end: bool, answer: Any) -> dict[str, Any]:
    """All steps are the trace; the solution is a known answer, else what a last step that is labelled good states."""
    solution = answer
    if answer is None and not good_end:
        raise BadRow("the last step is labelled wrong and no column holds the answer, so no solution is known")
    if answer is None:
        stated = _STATED.search(steps[-1])
        solution, answer = steps[-1], None if stated is None else stated[1]
    return {"question": question, "solution": solution, "answer": answer, "reasoning_trace": "\n".join(steps)}


LAYOUTS: tuple[Layout, ...] = (
    Prm800k(),
    TrlSteps(),
    MathShepherd(),
    Choices(),
    Gsm8k(),
    Columns(),
    Conversations(),
)
"""The first that fits a row reads it."""


class RowReader:
    """Turns rows into problems: finds the columns, reads the layout, checks every text."""

    def __init__(self, own_columns: Mapping[str, str], tags: Tags) -> None:
        unknown = sorted(own_columns.keys() - SYNONYMS.keys())
        if unknown:
            raise ConfigError(f"--columns: {unknown[0]!r} is no field of a problem; choose from {', '.join(SYNONYMS)}")
        self._own_columns = tuple(sorted(own_columns.items()))
        self._tags = tags

    def problem(self, row: Mapping[str, Any]) -> Problem:
        """The problem in a row; raises BadRow with the reason where there is none."""
        layout, found = self._read_columns(row)
        fields = layout.fields(row, found)
        answer = _optional(fields.get("answer"))
        trace = _optional(unwrapped(fields.get("reasoning_trace")))
        solution = self._checked(fields["solution"], _solution_label(found))
        problem = Problem(
            question=self._checked(fields["question"], _label("question", found)),
            solution=solution,
            reasoning_trace=None if trace is None else self._checked(trace, _label("reasoning_trace", found)),
            answer=stated_answer(solution) if answer is None else checked_text(answer, _label("answer", found)),
        )
        return problem.model_copy(update={"metadata": _metadata(row, found, problem.id)})

    def layout_line(self, row: Mapping[str, Any]) -> str:
        """How a row is read, for people: the layout, and the column of each field."""
        layout, found = self._read_columns(row)
        return f"{layout.name} ({', '.join(f'{field} <- {column}' for field, column in found.items())})"

    def columns(self, row: Mapping[str, Any]) -> Mapping[str, str]:
        """The column of each field that is read."""
        return self._read_columns(row)[1]

    def _read_columns(self, row: Mapping[str, Any]) -> tuple[Layout, Mapping[str, str]]:
        found = find_columns(tuple(row), self._own_columns)
        for layout in LAYOUTS:
            if layout.fits(row, found):
                return layout, {field: found[field] for field in layout.reads if field in found}
        raise BadRow(_columns_complaint(tuple(row)))

    def _checked(self, value: Any, label: str) -> str:
        text = checked_text(value, label)
        for marker in self._tags.markers:
            if marker in text:
                free = [f"--tags {name}" for name, tags in STYLES.items() if marker not in tags.markers]
                remedy = " or ".join(["remove it", *(f"use {style}" for style in free)])
                raise BadRow(f"{label} holds the tag {marker!r}; {remedy}")
        return text


@lru_cache(maxsize=256)
def find_columns(columns: tuple[str, ...], own_columns: tuple[tuple[str, str], ...] = ()) -> Mapping[str, str]:
    """The column of each field that a row has: as `own_columns` says, else by synonym.

    >>> find_columns(("Problem", "answer", "url"))
    {'question': 'Problem', 'answer': 'answer'}
    """
    own = dict(own_columns)
    missing = sorted(column for column in own.values() if column not in columns)
    if missing:
        raise BadRow(f"no column {missing[0]!r}, which --columns names (columns: {_listed(columns)})")
    by_name = {column.casefold(): column for column in reversed(columns) if column not in own.values()}
    accepted = {**SYNONYMS, "conversations": CONVERSATION_COLUMNS}
    chosen = {field: [by_name[name] for name in names if name in by_name] for field, names in accepted.items()}
    return {field: own.get(field) or chosen[field][0] for field in accepted if field in own or chosen[field]}


def _columns_complaint(columns: tuple[str, ...]) -> str:
    fields = ("question", "solution", "answer")
    needs = "; ".join(f"{field} may be called {', '.join(SYNONYMS[field])}" for field in fields)
    return (
        f"no question with a solution or answer in the columns {_listed(columns)} ({needs}; conversations are read "
        "too); rename the columns or say --columns question=NAME"
    )


def _listed(columns: tuple[str, ...]) -> str:
    return ", ".join(shown(column) for column in columns[:12]) + (", ..." if len(columns) > 12 else "") or "(none)"


def _label(field: str, found: Mapping[str, str]) -> str:
    column = found.get(field, field)
    return field if column == field else f"{field} (column {shown(column)})"


def _solution_label(found: Mapping[str, str]) -> str:
    if "solution" not in found and "answer" in found and "conversations" not in found:
        return f"solution (column {shown(found['answer'])})"
    return _label("solution", found)


def checked_text(value: Any, label: str) -> str:
    r"""`value`, if it is a text that can be used and written; raises BadRow naming `label`, the value and the fault.

    >>> checked_text(float("nan"), "question")
    Traceback (most recent call last):
    student.row_layouts.BadRow: question is nan, text is expected
    """
    if not isinstance(value, str):
        raise BadRow(f"{label} is {'missing (null)' if value is None else shown(value)}, text is expected")
    if not value.strip():
        raise BadRow(f"{label} is empty")
    if len(value) > TEXT_LIMIT:
        raise BadRow(f"{label} has {len(value)} characters, more than {TEXT_LIMIT}")
    if "\0" in value:
        raise BadRow(f"{label} holds a NUL character at {value.index(chr(0)) + 1}; remove it")
    if fault := _UNWRITABLE.search(value):
        seen = f"{fault[0]!r} at character {fault.start() + 1}"
        raise BadRow(f"{label} holds {seen}: a byte that is not UTF-8, or half a surrogate pair; remove it")
    return value


def _optional(value: Any) -> Any:
    """None for what says nothing: null, or blank text as CSV has it."""
    return None if isinstance(value, str) and not value.strip() else value


def answer_text(value: Any) -> Any:
    """An answer as text, where it is a text or a finite number; anything else as it is, to be refused.

    >>> answer_text(27.0), answer_text(" 0.5 "), answer_text(204), answer_text(float("inf"))
    ('27', '0.5', '204', inf)
    """
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, float | Decimal) or not math.isfinite(value):
        return value
    number = float(value)
    return f"{number:.0f}" if number.is_integer() and abs(number) < 1e15 else str(value)


def unwrapped(trace: Any) -> Any:
    r"""A trace without the thought tags around it, of either style: they are put back where a model is to see them.

    >>> unwrapped("<think>\nEasy.\n</think>"), unwrapped("Easy.")
    ('Easy.', 'Easy.')
    """
    for tags in STYLES.values() if isinstance(trace, str) else ():
        opening, closing, whole = tags.thought_open.strip(), tags.thought_close.strip(), trace.strip()
        inside = whole.removeprefix(opening).removesuffix(closing)
        if whole == f"{opening}{inside}{closing}" and opening not in inside and closing not in inside:
            return inside.strip()
    return trace


def _metadata(row: Mapping[str, Any], found: Mapping[str, str], problem_id: str) -> dict[str, Any]:
    """The columns that mean nothing here, and what stands in a `metadata` column; our own id is not kept twice."""
    stored = _stored_metadata(row.get("metadata"))
    left_out = set(found.values()) | {column for column, value in row.items() if value is None}
    left_out |= {"metadata"} if stored is not None else set()
    left_out |= {"id"} if row.get("id") == problem_id else set()
    left_out |= {"system"} if "conversations" in found else set()
    rest = {column: value for column, value in row.items() if column not in left_out}
    metadata: dict[str, Any] = _writable({**rest, **(stored or {})})
    return metadata


def _stored_metadata(value: Any) -> dict[str, Any] | None:
    """An object as such or as JSON text, as we write it to Parquet; None where it is neither."""
    if isinstance(value, str) and value.startswith("{"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, dict) else None


def _writable(value: Any, depth: int = 0) -> Any:
    """`value` as JSON can hold it: NaN, infinity and bytes become null, a date its text, half a surrogate pair "?"."""
    if depth > DEPTH_LIMIT:
        raise BadRow(f"the columns kept as metadata are nested deeper than {DEPTH_LIMIT} levels; remove them")
    if isinstance(value, dict):
        return {_writable(str(name)): _writable(item, depth + 1) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_writable(item, depth + 1) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, bytes):
        return None
    return _UNWRITABLE.sub("?", str(value))
