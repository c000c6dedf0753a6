"""What a student's own tokenizer and chat template make of the rows: `--check-student`, and `--student` for texts.

A trainer renders `prompt` with the template and the head of the answer, renders the whole row, and learns what the
second has more than the first. That goes wrong without a word where a template rewrites what the assistant says:

    over-long                the row is longer than the student reads, and would be cut or left out
    prefix mismatch          the prompt's tokens are not the head of the row's: the mask lies beside the answer (GC-5)
    dropped thought          the template leaves out the explanation, as DeepSeek's does (GC-6)
    added thought            it puts an empty thought of its own before the answer, as Qwen3's does (GC-14)
    changed text             it writes the answer otherwise than it stands in the row
    control token            a text holds a token that would act, not be read
    refused by the template  it cannot be rendered at all

Nothing is left out of the export; student_check.jsonl names each row. Left out: what a trainer's own templates do where
it does not use the student's (LLaMA-Factory, verl's per-message rendering).
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TextIO

import pyarrow as pa
from jinja2 import TemplateError
from transformers import AutoConfig, PreTrainedTokenizerBase

from student.chat import refuse_control_tokens
from student.engine import context_tokens
from student.errors import ModelError, ScoringError
from student.exports.formats import Chat, Format, Options
from student.models import load_tokenizer, quiet

FAULTS_FILE = "student_check.jsonl"
_EMPTY_THOUGHT = "<think>\n\n</think>"
_PLACE = "rlt-question-place"


@dataclass(frozen=True)
class Student:
    """A student's tokenizer, and how many tokens it reads; None where its configuration names no limit."""

    name: str
    tokenizer: PreTrainedTokenizerBase
    max_tokens: int | None

    @classmethod
    def load(cls, name: str, max_tokens: int | None = None) -> "Student":
        """By folder or hub name; `max_tokens` unset is the context of its configuration. Raises ModelError."""
        tokenizer = load_tokenizer(name)
        return cls(name, tokenizer, max_tokens or _context(name))

    def rendered(self, messages: list[dict[str, str]], *, answering: bool) -> str:
        """The messages as its template writes them; `answering` adds the head of the assistant's turn."""
        return str(self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=answering))

    def tokenized(self, texts: list[str]) -> list[list[int]]:
        """The ids of each text alone."""
        ids: list[list[int]] = self.tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
        return ids

    def chat(self, system: str) -> Chat:
        """Its template written out around a question; raises ModelError where it has no place for a system message."""
        asked = [{"role": "system", "content": system}, {"role": "user", "content": _PLACE}]
        try:
            before, place, after = self.rendered(asked, answering=True).partition(_PLACE)
        except TemplateError as error:
            raise ModelError(
                f"model {self.name!r}: its chat template refuses a system message ({error}); leave out --student"
            ) from error
        assert place, "a template that drops the question is no chat template"
        return Chat(before, after, str(self.tokenizer.eos_token), self._added())

    def _added(self) -> str:
        first = self.tokenizer("x")["input_ids"][:1]
        return str(self.tokenizer.bos_token) if first == [self.tokenizer.bos_token_id] else ""


def _context(name: str) -> int | None:
    try:
        with quiet():
            return context_tokens(AutoConfig.from_pretrained(name))
    except (OSError, ValueError):  # a folder with a tokenizer alone
        return None


@dataclass(frozen=True)
class Spoken:
    """One row as texts: what the student is given, and that with the answer behind it."""

    prompt: str
    whole: str
    thought: str
    """The explanation, which must be in `whole`."""
    written: str
    """The answer, which must be in `whole` as it is; empty where the format has none."""


@dataclass
class StudentCheck:
    """Looks at lessons as a format gives them to the student; what it finds goes to a file as lines of JSON."""

    student: Student
    file: TextIO
    rows: int = 0
    tokens: int = 0
    trained_tokens: int = 0
    longest: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    """By kind of fault, the first row that has it."""

    def look(self, lessons: pa.Table, form: Format, options: Options) -> None:
        """Counts the tokens of the lessons and writes down each fault, named by the row's id."""
        spoken: list[tuple[str, Spoken]] = []
        texts = form.texts(lessons, options)
        columns = ("id", "question", "explanation", "solution", "written")
        asked = lessons.select(columns).append_column("system", form.system(lessons, options))
        for place, row in enumerate(asked.to_pylist()):
            try:
                refuse_control_tokens(self.student.tokenizer, row["question"], row["explanation"], row["solution"])
            except ScoringError as error:
                self._note(row["id"], "control token", str(error))
            if texts is not None:
                prompt, completion = (text[place].as_py() for text in texts)
                spoken.append((row["id"], Spoken(prompt, prompt + completion, row["explanation"], completion)))
            elif (said := self._conversation(row, form)) is not None:
                spoken.append((row["id"], said))
        self._measure(spoken, apart=texts is not None and form.pieces_apart)

    def report(self) -> dict[str, Any]:
        """What export.json says of it."""
        counted = ("rows", "tokens", "trained_tokens", "longest")
        found = {name: getattr(self, name) for name in counted}
        return {
            "student": self.student.name,
            "max_tokens": self.student.max_tokens,
            **found,
            "faults": dict(self.faults),
        }

    def _conversation(self, row: dict[str, str], form: Format) -> Spoken | None:
        asked = [{"role": "system", "content": row["system"]}, {"role": "user", "content": row["question"]}]
        answer = [{"role": "assistant", "content": row["written"]}] if form.answered else []
        try:
            prompt = self.student.rendered(asked, answering=True)
            whole = self.student.rendered([*asked, *answer], answering=False) if answer else prompt
        except TemplateError as error:
            self._note(row["id"], "refused by the template", str(error))
            return None
        return Spoken(prompt, whole, row["explanation"] if answer else "", row["written"] if answer else "")

    def _measure(self, spoken: list[tuple[str, Spoken]], *, apart: bool) -> None:
        prompts = self.student.tokenized([said.prompt for _, said in spoken])
        rests = [said.whole[len(said.prompt) :] if apart else said.whole for _, said in spoken]
        for (name, said), prompt, rest in zip(spoken, prompts, self.student.tokenized(rests), strict=True):
            whole = [*prompt, *rest] if apart else rest
            self.rows += 1
            self.tokens += len(whole)
            self.trained_tokens += max(0, len(whole) - len(prompt))
            self.longest = max(self.longest, len(whole))
            for kind, detail in faults_of(said, prompt, whole, self.student.max_tokens):
                self._note(name, kind, detail)

    def _note(self, name: str, kind: str, detail: str) -> None:
        self.faults[kind] += 1
        self.first.setdefault(kind, f"{name}: {detail}")
        self.file.write(json.dumps({"id": name, "fault": kind, "detail": detail}, ensure_ascii=False) + "\n")


def faults_of(
    said: Spoken, prompt_ids: list[int], whole_ids: list[int], max_tokens: int | None
) -> Iterator[tuple[str, str]]:
    """The kinds of fault of one row, each with what was seen.

    >>> said = Spoken("Q: 1?", "Q: 1? so 2", thought="so", written=" so 2")
    >>> list(faults_of(said, [1, 2], [1, 3, 4], max_tokens=9))
    [('prefix mismatch', 'the prompt parts from the row at token 2 of 2')]
    """
    if max_tokens is not None and len(whole_ids) > max_tokens:
        yield "over-long", f"{len(whole_ids)} tokens, and the student reads at most {max_tokens}"
    if whole_ids[: len(prompt_ids)] != prompt_ids:
        pairs = enumerate(zip(prompt_ids, whole_ids, strict=False))
        same = next((at for at, (asked, found) in pairs if asked != found), len(whole_ids))
        yield "prefix mismatch", f"the prompt parts from the row at token {same + 1} of {len(prompt_ids)}"
    if said.thought.strip() not in said.whole:
        yield "dropped thought", "the template leaves out the explanation"
    elif said.whole.count(_EMPTY_THOUGHT) > (said.prompt + said.written).count(_EMPTY_THOUGHT):
        yield "added thought", "the template puts an empty thought before the answer"
    elif said.written not in said.whole:
        yield "changed text", f"the template writes the answer otherwise, from character {_parting(said)} on"


def _parting(said: Spoken) -> int:
    """How much of the answer stands in the row as it is."""
    low, high = 0, len(said.written)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if said.written[:middle] in said.whole else (low, middle - 1)
    return low + 1
