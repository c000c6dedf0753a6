"""What a student makes of explanations: scores of rows, and of any trace token by token and step by step.

LocalStudent holds the models; one thread reads with them. What arrives while it reads is read together next, every
caller's rows in turn, and rows that nobody waits for any more are dropped. RemoteStudent (scorer_client.py) asks
another service. The numbers are `rlt score`'s, made by the same code; how rows fall into batches moves them by 1e-6.
"""

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

import structlog
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from server.configs import ServiceConfig
from server.errors import EngineUnavailable, Invalid, NotFound
from server.teaching.scorer_client import RemoteStudent as RemoteStudent
from server.teaching.spans import pieces, starts
from server.wire import ScoreRequest, ScoreResponse, StepScore, TokenScore
from student.chat import refuse_control_tokens
from student.configs import MeasureSettings, ModelSettings
from student.errors import ModelError, ScoringError
from student.explanations import Explanation, Score
from student.measures.results import Measures
from student.measures.steps import steps
from student.models import load_model, load_pair, load_tokenizer, weights_digest
from student.problems import content_id
from student.reading import StudentFormat
from student.scoring.scorer import Scorer
from student.tags import STYLES, TagStyle
from teacher.prompts import TeacherFormat
from teacher.reward_model import Draft, RewardModel, Sighting
from teacher.score import Reader, draft_of, score_rows

BATCHES_AT_A_TIME = 4
"""Batches of the scorer (scoring.tokens_per_batch) that are read before the next callers' rows are looked at."""

T = TypeVar("T")
log = structlog.get_logger("rlt.understanding")


class Student(Protocol):
    """Something that scores. Methods raise EngineUnavailable where it does not answer."""

    @property
    def name(self) -> str:
        """As callers know it."""

    @property
    def digest(self) -> str:
        """Of its weights."""

    @property
    def teacher_name(self) -> str | None:
        """Whose log-probabilities rKL compares with; None where there is none, and no rKL."""

    @property
    def teacher_digest(self) -> str | None:
        """Of that teacher's weights."""

    async def score(self, rows: Sequence[Explanation], measures: MeasureSettings | None = None) -> list[Explanation]:
        """The rows in order, each with its score, or with `unscored`, the reason why there is none; and with the other
        `measures` that are asked for."""

    async def measure(self, request: ScoreRequest) -> ScoreResponse:
        """The score of one trace; raises NotFound for another student's name and Invalid for a text it cannot read."""

    async def health(self) -> None:
        """Returns where it could score now; raises EngineUnavailable with the reason where not."""

    async def reload_teacher(self, folder: str) -> None:
        """Compares with the weights in `folder` from now on; nothing where there is no teacher. Raises ModelError."""

    async def close(self) -> None:
        """Gives back what it holds."""


def check_texts(tokenizer: PreTrainedTokenizerBase, **texts: str) -> None:
    """Raises Invalid for the first field whose text holds a control token."""
    for name, text in texts.items():
        try:
            refuse_control_tokens(tokenizer, text)
        except ScoringError as error:
            raise Invalid(f"{name}: {error}", param=name) from error


def check_measures(asked: MeasureSettings | None) -> None:
    """Raises Invalid where a row would keep the student longer than the defaults do."""
    for name in ("most_steps", "own_tokens") if asked is not None else ():
        limit = getattr(MeasureSettings(), name)
        if getattr(asked, name) > limit:
            field = f"measures.{name}"
            raise Invalid(f"{field}: at most {limit} here, got {getattr(asked, name)}", param=field)


@dataclass(frozen=True)
class _Models:
    """The frozen student, and the teacher beside it, in one reward model a tag style."""

    by_tags: dict[TagStyle, RewardModel]
    tokenizer: PreTrainedTokenizerBase
    student: Scorer
    teacher: Scorer | None

    @classmethod
    def load(cls, config: ServiceConfig) -> "_Models":
        assert config.student is not None
        model, tokenizer = load_pair(config.student, config)
        student, teacher = Scorer(model, config.scoring), None
        if config.teacher is not None and config.score_teacher:
            teacher_model, teacher_tokenizer = load_pair(config.teacher, config)
            _check_tokens(teacher_tokenizer, tokenizer, config.teacher)
            teacher = Scorer(teacher_model, config.scoring)
        by_tags = {
            style: RewardModel(
                TeacherFormat(tokenizer, tags), StudentFormat(tokenizer, tags), student, config.reward, teacher
            )
            for style, tags in STYLES.items()
        }
        return cls(by_tags, tokenizer, student, teacher)

    def reload_teacher(self, folder: str, threads: int) -> None:
        """Copies new weights over the teacher's: it never takes its memory twice on its device."""
        assert self.teacher is not None
        own = self.teacher.model
        dtype = str(own.dtype).removeprefix("torch.")
        settings = ModelSettings.model_validate({"device": "cpu", "dtype": dtype, "threads": threads})
        fresh = load_model(folder, settings).state_dict()
        if {name: tensor.shape for name, tensor in fresh.items()} != {
            name: tensor.shape for name, tensor in own.state_dict().items()
        }:
            raise ModelError(f"model {folder!r}: its tensors are not those of the teacher that it is to replace")
        own.load_state_dict(fresh)


def _check_tokens(teacher: PreTrainedTokenizerBase, student: PreTrainedTokenizerBase, name: str) -> None:
    if teacher.get_vocab() != student.get_vocab():
        raise ModelError(
            f"teacher {name!r} and the student have different tokenizers, and rKL compares them token by token; use a "
            "student with the teacher's tokenizer, or leave rKL out with --no-score-teacher"
        )


@dataclass
class _Call:
    """Rows that somebody waits for."""

    rows: Sequence[Explanation]
    measures: MeasureSettings | None
    answer: "asyncio.Future[list[Explanation]]"
    taken: int = 0
    scored: list[Explanation] = field(default_factory=list)

    def give(self, rows: Sequence[Explanation]) -> None:
        """Takes the next scored rows; the last ones are answered with all."""
        self.scored.extend(rows)
        if len(self.scored) == len(self.rows) and not self.answer.done():
            self.answer.set_result(self.scored)


class LocalStudent:
    """A student in this process; made by `LocalStudent.open`."""

    def __init__(self, config: ServiceConfig, models: _Models, thread: ThreadPoolExecutor, digest: str) -> None:
        assert config.student is not None
        self.name = Path(config.student).name
        self.digest = digest
        self.teacher_name: str | None = None
        self.teacher_digest: str | None = None
        self._config, self._models, self._thread = config, models, thread
        self._calls: deque[_Call] = deque()
        self._arrived = asyncio.Event()
        self._reading = asyncio.create_task(self._read_calls())

    @classmethod
    async def open(cls, config: ServiceConfig) -> "LocalStudent":
        """Loads the models; raises ModelError where one cannot be, or where they do not read the same tokens."""
        assert config.student is not None
        loop, thread = asyncio.get_running_loop(), ThreadPoolExecutor(1, "student")
        models = await loop.run_in_executor(thread, _Models.load, config)
        student = cls(config, models, thread, await asyncio.to_thread(weights_digest, config.student))
        if models.teacher is not None:
            assert config.teacher is not None
            student.teacher_name = config.model_name or Path(config.teacher).name
            student.teacher_digest = await asyncio.to_thread(weights_digest, config.teacher)
        return student

    async def score(self, rows: Sequence[Explanation], measures: MeasureSettings | None = None) -> list[Explanation]:
        """See Student; never raises for a row."""
        if not rows:
            return []
        call = _Call(rows, measures, asyncio.get_running_loop().create_future())
        self._calls.append(call)
        self._arrived.set()
        return await call.answer

    async def measure(self, request: ScoreRequest) -> ScoreResponse:
        """See Student."""
        check_student(self, request)
        check_measures(request.measuring)
        check_texts(self._models.tokenizer, question=request.question, solution=request.solution)
        if request.token_ids is None:  # a teacher may have sampled a control token: its ids are read as they are
            check_texts(self._models.tokenizer, explanation=request.explanation)
        row = row_of(request)
        detailed: ScoreResponse | None = None
        if request.per_token or request.per_step:
            try:
                detailed = await self._in_thread(self._detailed, request, row)
            except ScoringError as error:
                raise Invalid(str(error)) from error
            if request.measuring is None:
                return detailed
        [scored] = await self.score([row], request.measuring)
        if scored.score is None:
            raise Invalid(str(scored.unscored))
        return _with_measures(detailed or self._response(scored.score), scored.measures)

    async def health(self) -> None:
        """See Student."""
        if self._reading.done():
            raise EngineUnavailable("the student's work has ended; start the service again, its log says more")

    async def reload_teacher(self, folder: str) -> None:
        """See Student; what is being read is read to its end first."""
        if self._models.teacher is None:
            return
        self.teacher_digest = await self._in_thread(self._reloaded, folder)

    async def close(self) -> None:
        """Ends the thread once it has read what it is reading; callers that still wait get EngineUnavailable."""
        self._reading.cancel()
        with suppress(asyncio.CancelledError):
            await self._reading
        for call in self._calls:
            if not call.answer.done():
                call.answer.set_exception(EngineUnavailable("the service is stopping; ask again"))
        await asyncio.to_thread(self._thread.shutdown)

    async def _in_thread(self, function: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    async def _read_calls(self) -> None:
        while True:
            await self._arrived.wait()
            taken = self._take()
            if not taken:
                self._arrived.clear()
                continue
            rows, measures = [row for _, row in taken], [call.measures for call, _ in taken]
            scored = iter(await self._in_thread(self._scored, rows, measures))
            for call, _ in taken:
                call.give([next(scored)])

    def _take(self) -> list[tuple[_Call, Explanation]]:
        """The next rows to be read together: one of each caller in turn, until they fill the budget."""
        budget = self._models.student.tokens_per_batch * BATCHES_AT_A_TIME
        taken: list[tuple[_Call, Explanation]] = []
        while self._calls and budget > 0:
            call = self._calls.popleft()
            if call.answer.done():  # cancelled
                continue
            row = call.rows[call.taken]
            call.taken += 1
            taken.append((call, row))
            budget -= _tokens_about(row)
            if call.taken < len(call.rows):
                self._calls.append(call)
        return taken

    def _scored(self, rows: Sequence[Explanation], measures: Sequence[MeasureSettings | None]) -> list[Explanation]:
        """The rows scored together; where that fails, one by one, so that each answers for itself."""
        try:
            return self._scored_alike(rows, measures)
        except Exception as error:  # the boundary of a row: a broken one must not fail its neighbours
            if len(rows) > 1:
                return [self._scored([row], [each])[0] for row, each in zip(rows, measures, strict=True)]
            log.error("a row could not be scored", row=rows[0].id, exc_info=error)
            return [rows[0].model_copy(update={"score": None, "unscored": f"scoring failed: {type(error).__name__}"})]

    def _scored_alike(
        self, rows: Sequence[Explanation], measures: Sequence[MeasureSettings | None]
    ) -> list[Explanation]:
        """Those of one tag style of which the same is measured, then the others."""
        kinds = [(row.tags or self._config.tags, each) for row, each in zip(rows, measures, strict=True)]
        scored: dict[int, Explanation] = {}
        for style, asked in dict.fromkeys(kinds):
            places = [place for place, each in enumerate(kinds) if each == (style, asked)]
            chosen = [rows[place] for place in places]
            reader = None if asked is None else Reader(self.name, self.digest, asked)
            made = score_rows(self._models.by_tags[style], chosen, reader)
            scored |= dict(zip(places, made, strict=True))
        return [scored[place] for place in range(len(rows))]

    def _reloaded(self, folder: str) -> str:
        """The digest of the weights in `folder`, which are the teacher's now."""
        _check_tokens(load_tokenizer(folder), self._models.tokenizer, folder)
        digest = weights_digest(folder)
        if digest != self.teacher_digest:
            self._models.reload_teacher(folder, self._config.threads)
        return digest

    def _detailed(self, request: ScoreRequest, row: Explanation) -> ScoreResponse:
        model = self._models.by_tags[request.tags or self._config.tags]
        draft = draft_of(model, row)
        [seen] = model.sightings([draft])
        score = model.score(draft, seen)
        trace = _trace(model, draft, seen)
        response = self._response(score)
        if request.per_token:
            solution = _solution(model, draft, seen)
            response = response.model_copy(update={"explanation_tokens": trace, "solution_tokens": solution})
        if request.per_step:
            most = (request.measuring or MeasureSettings()).most_steps
            response = response.model_copy(update={"steps": _steps(request.explanation, trace, most)})
        return response

    def _response(self, score: Score) -> ScoreResponse:
        return ScoreResponse(
            student=self.name,
            student_digest=self.digest,
            teacher=self.teacher_name,
            teacher_digest=self.teacher_digest,
            score=score,
        )


def check_student(student: Student, request: ScoreRequest) -> None:
    """Raises NotFound where the request names another student."""
    if request.student not in (None, student.name):
        told = f"student: there is no student {request.student!r}; there is {student.name!r}"
        raise NotFound(told, param="student", code="model_not_found")


def row_of(request: ScoreRequest) -> Explanation:
    """The trace as the row that `rlt score` would read."""
    token_ids = None if request.token_ids is None else tuple(request.token_ids)
    return Explanation(
        problem_id=content_id(request.question, request.solution),
        sample=0,
        question=request.question,
        solution=request.solution,
        explanation=request.explanation,
        token_ids=token_ids,
        answer=request.answer,
        closed=request.closed,
        finished=True,
        tags=request.tags,
    )


def _tokens_about(row: Explanation) -> int:
    """Roughly what reading the row takes: the chat's own words, and four characters a token."""
    told = len(row.explanation) // 4 if row.token_ids is None else len(row.token_ids)
    return 200 + told + (len(row.question) + len(row.solution)) // 4


def _trace(model: RewardModel, draft: Draft, seen: Sighting) -> list[TokenScore]:
    """The explanation's tokens, as far as the student read them."""
    tokenizer, ids = model.student_format.tokenizer, draft.explained.explanation_ids
    texts = pieces(tokenizer, ids, draft.explained.text)
    teacher_E = seen.teacher_logps_E if seen.teacher_logps_E is not None else model.teacher_logps([draft])[0]
    columns = zip(
        ids,
        texts,
        starts(texts),
        seen.logps.explanation_E.tolist(),
        _padded(teacher_E, len(ids)),
        _padded(seen.kl_E, len(ids)),
        strict=False,  # a student that cannot hold all of it has read less
    )
    return [
        TokenScore(id=token, text=text, start=start, logp=logp, teacher_logp=teacher_logp, kl=kl)
        for token, text, start, logp, teacher_logp, kl in columns
    ]


def _solution(model: RewardModel, draft: Draft, seen: Sighting) -> list[TokenScore]:
    """The solution's tokens, and what the explanation gained for each."""
    ids = [seen.passage.input_ids[place] for place in seen.passage.solution]
    texts = pieces(model.student_format.tokenizer, ids, draft.solution)
    informed_S, blind_S = seen.logps.solution_S, model.blind_logps(draft)
    columns = zip(ids, texts, starts(texts), informed_S.tolist(), blind_S.tolist(), strict=True)
    return [
        TokenScore(id=token, text=text, start=start, logp=logp, blind_logp=blind, gain=logp - blind)
        for token, text, start, logp, blind in columns
    ]


def _padded(values: Tensor | None, length: int) -> list[float | None]:
    known: list[float | None] = [] if values is None else values.tolist()
    return known + [None] * (length - len(known))


def _with_measures(response: ScoreResponse, measures: Measures | None) -> ScoreResponse:
    """The response with what was measured, the credit of each step beside its other numbers."""
    update: dict[str, object] = {"measures": measures}
    if response.steps is not None and measures is not None and measures.steps is not None:
        pairs = zip(response.steps, measures.steps, strict=True)
        update["steps"] = [step.model_copy(update={"credit": credited.credit}) for step, credited in pairs]
    return response.model_copy(update=update)


def _steps(text: str, trace: Sequence[TokenScore], most: int) -> list[StepScore]:
    """The steps with their tokens, each of which belongs to the step that it begins in."""
    texts = steps(text, most)
    begins = starts(texts)
    owned: list[list[TokenScore]] = [[] for _ in texts]
    for token in trace:
        owned[max(0, bisect_right(begins, token.start) - 1)].append(token)
    return [_step(*parts) for parts in zip(texts, begins, owned, strict=True)]


def _step(text: str, start: int, tokens: Sequence[TokenScore]) -> StepScore:
    kls = [token.kl for token in tokens if token.kl is not None]
    return StepScore(
        text=text,
        start=start,
        tokens=len(tokens),
        logp_mean=_mean([token.logp for token in tokens]),
        kl_mean=_mean(kls),
        kl_max=max(kls, default=None),
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
