"""Explanations of one problem: the prompt made once, its samples at the same time, each as a row like `rlt explain`'s.

    ExplanationRequest ─ asked ─> Ask ─ explain ─> rows ─ response ─> answer
                                      └ stream ──> Delta … Explanation …

The same seed gives the rows of `rlt explain`: same prompt ids, same seeds, cut before the first end tag. One thing is
different on purpose: the end tag ends a sample here, where `rlt explain` goes on to the end of text, so a closed
explanation always counts as finished.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

from server.configs import Limits
from server.engine.protocol import Generation
from server.errors import Invalid, Unavailable
from server.state.ids import new_id
from server.teaching.teachers import ServedModel, Teachers
from server.teaching.understanding import Student, check_texts
from server.together import together
from server.wire import ExplanationChoice, ExplanationRequest, ExplanationResponse, Measure, Usage
from student.configs import MeasureSettings
from student.curation.ranking import rank
from student.engine import sample_seed, token_limit
from student.explanations import Explanation
from student.problems import content_id
from student.provenance import Provenance
from student.tags import TagStyle
from teacher.prompts import TeacherFormat

BIG_CHARACTERS = 20_000
"""Texts longer than this are tokenised in a thread (10 ms and more), so that other requests go on meanwhile."""

T = TypeVar("T")


@dataclass(frozen=True)
class Ask:
    """A problem to be explained `samples` times, once from each seed."""

    question: str
    solution: str
    samples: int
    seeds: Sequence[int]
    max_tokens: int
    temperature: float
    top_p: float = 1.0
    tags: TagStyle | None = None
    """None is the service's."""
    model: str | None = None
    """None is the teacher itself."""
    answer: str | None = None
    """What grading compares; it is only handed on to the rows, and so is the licence."""
    license: str | None = None
    numbers: Sequence[int] | None = None
    """The samples' numbers in their problem; None is 0, 1, 2 …"""

    def __post_init__(self) -> None:
        assert len(self.seeds) == self.samples == len(self.sample_numbers), "one seed and one number a sample"

    @property
    def sample_numbers(self) -> Sequence[int]:
        """The number of each sample."""
        return range(self.samples) if self.numbers is None else self.numbers

    @property
    def problem_id(self) -> str:
        """As in every file of ours."""
        return content_id(self.question, self.solution)


@dataclass(frozen=True)
class Prompt:
    """An Ask as the engine is asked it."""

    ask: Ask
    form: TeacherFormat
    tags: TagStyle
    token_ids: list[int]
    max_tokens: int
    """What was asked for, or what the context leaves."""
    engine: tuple[str, str] = ("", "")
    """Name and version of what samples."""

    def generation(self, number: int, served: ServedModel) -> Generation:
        """What the engine is asked for the `number`-th seed."""
        return Generation(
            prompt_ids=self.token_ids,
            seed=self.ask.seeds[number],
            max_tokens=self.max_tokens,
            temperature=self.ask.temperature,
            top_p=self.ask.top_p,
            stop=(self.form.tags.explanation_close,),
            adapter=served.adapter,
        )

    def row(self, number: int, sampled_ids: Sequence[int], finished: bool, served: ServedModel) -> Explanation:
        """The row of what was sampled from the `number`-th seed."""
        explained = self.form.cut(sampled_ids)
        return Explanation(
            **_known(self.ask, number, self.tags),
            explanation=explained.text,
            token_ids=tuple(explained.explanation_ids),
            closed=explained.closed,
            finished=finished,
            teacher=served.name,
            teacher_digest=served.digest,
            provenance=self._provenance,
        )

    @property
    def _provenance(self) -> Provenance:
        name, version = self.engine
        return Provenance(
            engine=name,
            software=f"{name} {version}",
            prompt_digest=self.form.digest,
            top_p=self.ask.top_p,
            max_tokens=self.ask.max_tokens,
        )


@dataclass(frozen=True)
class Delta:
    """More text of an explanation that is being written; the deltas of a sample joined are its explanation."""

    index: int
    """The sample's number."""
    text: str


def asked(request: ExplanationRequest, limits: Limits) -> Ask:
    """The request as an Ask, with seeds like `rlt explain`'s; raises Invalid where it is more than `limits` allow.

    Without a seed it is another one each time. A `max_tokens` that the caller did not set is lowered to the limit.
    """
    name = "best_of" if request.best_of is not None else "n"
    _at_most(limits.samples, request.samples, name)
    for field in ("question", "solution"):
        _at_most(limits.text_characters, len(getattr(request, field)), field, " characters")
    if "max_tokens" in request.model_fields_set:
        _at_most(limits.max_tokens, request.max_tokens, "max_tokens")
    seed = secrets.randbits(63) if request.seed is None else request.seed
    problem_id = content_id(request.question, request.solution)
    return Ask(
        question=request.question,
        solution=request.solution,
        samples=request.samples,
        seeds=[sample_seed(seed, problem_id, number) for number in range(request.samples)],
        max_tokens=min(request.max_tokens, limits.max_tokens),
        temperature=request.temperature,
        top_p=request.top_p,
        tags=request.tags,
        model=request.model,
    )


def _at_most(limit: int, value: int, field: str, unit: str = "") -> None:
    if value > limit:
        raise Invalid(f"{field}: at most {limit}{unit} here, got {value}", param=field)


def check_scoring(student: Student | None, scored: bool, ranking: Measure | None) -> None:
    """Raises Unavailable where scores are wanted and nobody makes them, Invalid where rKL ranks and there is none."""
    if scored and student is None:
        raise Unavailable(
            "no student is loaded, so nothing can be scored or ranked; leave return_scores, best_of and rank_by out, "
            "or start the service with --student",
            param="rank_by" if ranking else "return_scores",
            code="no_student",
        )
    if ranking == "rkl" and student is not None and student.teacher_name is None:
        raise Invalid(
            "rank_by: the student has no teacher to compare with, so there is no rkl; rank by rss", param="rank_by"
        )


async def prompt(teachers: Teachers, ask: Ask) -> Prompt:
    """The Ask's prompt; raises NotFound for a model that is not served, and Invalid for a text with a control token, or
    one that leaves no room in the context.
    """
    teachers.known(ask.model)
    form, tags = teachers.form(ask.tags), ask.tags or teachers.tags
    check_texts(teachers.tokenizer, question=ask.question, solution=ask.solution)
    if len(ask.question) + len(ask.solution) > BIG_CHARACTERS:
        token_ids = await asyncio.to_thread(form.prompt_ids, ask.question, ask.solution)
    else:
        token_ids = form.prompt_ids(ask.question, ask.solution)
    context = teachers.engine.context_tokens
    room = token_limit(len(token_ids), ask.max_tokens, context)
    if not room:
        raise Invalid(
            f"question: the prompt takes {len(token_ids)} tokens and the model's context holds {context}; shorten the "
            "problem or use a model with a longer context",
            param="question",
            code="context_length_exceeded",
        )
    engine = teachers.engine
    return Prompt(ask, form, tags, token_ids, room, (engine.name, engine.version))


async def explain(
    teachers: Teachers, ask: Ask, student: Student | None = None, measures: MeasureSettings | None = None
) -> list[Explanation]:
    """A row a sample, in their order, scored where a student is given; one set of weights wrote them all.

    Raises what `prompt` does, and what the engine does: EngineRefused, EngineUnavailable. Cancelling it ends the
    engine's work.
    """
    return await explain_prompt(teachers, await prompt(teachers, ask), student, measures)


async def explain_prompt(
    teachers: Teachers, made: Prompt, student: Student | None = None, measures: MeasureSettings | None = None
) -> list[Explanation]:
    """As `explain`, of a prompt that is made already."""
    async with teachers.using(made.ask.model) as served:
        samples = await together(
            [teachers.engine.generate(made.generation(k, served)) for k in range(made.ask.samples)]
        )
        rows = [made.row(k, sample.token_ids, sample.finished, served) for k, sample in enumerate(samples)]
        # Scored in here: rKL compares with the teacher that wrote them.
        return rows if student is None else await scored(student, rows, measures)


async def scored(
    student: Student, rows: Sequence[Explanation], measures: MeasureSettings | None = None
) -> list[Explanation]:
    """The rows with their scores, and a note where rKL compares with other weights than those that wrote the row."""
    return [_noted(row, student) for row in await student.score(rows, measures)]


def _noted(row: Explanation, student: Student) -> Explanation:
    if row.score is None or row.score.rkl is None or row.teacher_digest in (None, student.teacher_digest):
        return row
    note = f"rkl compares with {student.teacher_name!r}, which did not write this"
    return row.model_copy(update={"score": row.score.model_copy(update={"notes": (*row.score.notes, note)})})


def failed(ask: Ask, tags: TagStyle, reason: str) -> list[Explanation]:
    """The rows of an Ask that could not be carried out, as `rlt explain` writes them."""
    return [
        Explanation(**_known(ask, k, tags), explanation="", token_ids=(), closed=False, finished=False, error=reason)
        for k in range(ask.samples)
    ]


def _known(ask: Ask, k: int, tags: TagStyle) -> dict[str, Any]:
    """What is known of the k-th row before anything was sampled."""
    return {
        "problem_id": ask.problem_id,
        "sample": ask.sample_numbers[k],
        "question": ask.question,
        "solution": ask.solution,
        "answer": ask.answer,
        "license": ask.license,
        "seed": ask.seeds[k],
        "temperature": ask.temperature,
        "tags": tags,
    }


class UntilTag:
    """Lets text pass up to the end tag, and holds back what might become it."""

    def __init__(self, tag: str) -> None:
        self._tag = tag
        self._held = ""
        self._over = False

    def passed(self, text: str) -> str:
        """What of `text`, and of what was held back before it, cannot be part of the tag.

        >>> until = UntilTag("</think>")
        >>> until.passed("a < b </th"), until.passed("ere</think> more"), until.passed("and more")
        ('a < b ', '</there', '')
        """
        if self._over:
            return ""
        self._held += text
        tag_at = self._held.find(self._tag)
        self._over = tag_at >= 0
        border = tag_at if self._over else len(self._held) - self._overlap()
        ready, self._held = self._held[:border], self._held[border:]
        return ready

    def _overlap(self) -> int:
        """Characters at the end of what is held that begin the tag."""
        longest = min(len(self._held), len(self._tag) - 1)
        return next((size for size in range(longest, 0, -1) if self._held.endswith(self._tag[:size])), 0)


async def stream(teachers: Teachers, ask: Ask, student: Student | None = None) -> AsyncGenerator[Delta | Explanation]:
    """What `explain` gives, as it is made: Deltas of all samples, and each row once it is whole (and scored).

    Work goes on at the engine's pace, however slowly this is read, so a slow reader holds no swap up. Ending the
    iteration (aclose) ends the engine's work.
    """
    async with aclosing(stream_prompt(teachers, await prompt(teachers, ask), student)) as events:
        async for event in events:
            yield event


async def stream_prompt(
    teachers: Teachers, made: Prompt, student: Student | None = None
) -> AsyncGenerator[Delta | Explanation]:
    """As `stream`, of a prompt that is made already."""
    events: asyncio.Queue[Delta | Explanation | None] = asyncio.Queue()

    async def produce() -> None:
        try:
            async with teachers.using(made.ask.model) as served:
                await together([
                    _stream_sample(teachers, made, k, served, student, events) for k in range(made.ask.samples)
                ])  # fmt: skip
        finally:
            events.put_nowait(None)

    producing = asyncio.create_task(produce())
    try:
        while (event := await events.get()) is not None:
            yield event
        await producing
    finally:
        producing.cancel()
        await asyncio.gather(producing, return_exceptions=True)


async def _stream_sample(
    teachers: Teachers,
    made: Prompt,
    k: int,
    served: ServedModel,
    student: Student | None,
    events: "asyncio.Queue[Delta | Explanation | None]",
) -> None:
    until, sent, token_ids, finished = UntilTag(made.form.tags.explanation_close), "", [], False
    async with aclosing(teachers.engine.stream(made.generation(k, served))) as pieces:
        async for piece in pieces:
            token_ids.extend(piece.token_ids)
            finished = bool(piece.finished)
            if text := until.passed(piece.text):
                sent += text
                events.put_nowait(Delta(made.ask.sample_numbers[k], text))
    row = made.row(k, token_ids, finished, served)
    if row.explanation.startswith(sent) and len(row.explanation) > len(sent):
        events.put_nowait(Delta(row.sample, row.explanation[len(sent) :]))
    if student is not None:
        [row] = await scored(student, [row])
    events.put_nowait(row)


def response(request: ExplanationRequest, made: Prompt, rows: Sequence[Explanation]) -> ExplanationResponse:
    """All rows of a request as its answer: the best ones in their order, and the tokens of all of them."""
    return ExplanationResponse(
        id=new_id("expl_"),
        created=int(time.time()),
        model=rows[0].teacher or "",
        problem_id=made.ask.problem_id,
        explanations=[choice(row) for row in rank(rows, request.ranking, request.n)],
        usage=usage(made, rows),
    )


def choice(row: Explanation) -> ExplanationChoice:
    """A row as callers get it."""
    assert row.seed is not None
    assert row.teacher is not None
    assert row.teacher_digest is not None
    return ExplanationChoice(
        index=row.sample,
        explanation=row.explanation,
        closed=row.closed,
        finished=row.finished,
        tokens=len(row.token_ids or ()),
        seed=row.seed,
        teacher=row.teacher,
        teacher_digest=row.teacher_digest,
        score=row.score,
        unscored=row.unscored,
    )


def usage(made: Prompt, rows: Sequence[Explanation]) -> Usage:
    """The prompt counts once, as OpenAI counts it, whatever the number of samples."""
    completion = sum(len(row.token_ids or ()) for row in rows)
    return Usage(
        prompt_tokens=len(made.token_ids), completion_tokens=completion, total_tokens=len(made.token_ids) + completion
    )
