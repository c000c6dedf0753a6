"""OpenAI's objects, field by field as its SDK reads them: files, chat completions, batches.

Fields of ours stand beside theirs: `solution` and the like in a request (`extra_body`), `rlt` in a choice. A parameter
of theirs that means nothing to a teacher is taken at its neutral value only, so nobody believes that it had an effect.
"""

import time
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from server.errors import ApiError
from server.state.ids import new_id
from server.state.tables import File
from server.teaching.explaining import Prompt, choice, usage
from server.wire import Answer, Body, ExplanationRequest, Measure, Usage
from student.curation.ranking import rank
from student.explanations import Explanation
from student.tags import TagStyle

FilePurpose = Literal["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]
PURPOSES: tuple[str, ...] = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
Endpoint = Literal["/v1/chat/completions", "/v1/explanations"]
EXPIRY_SECONDS = (3600, 2_592_000)
"""Least and most seconds after which a file may be told to expire."""


class FileObject(Answer):
    """A file."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"
    """An upload is known once it is whole, so there is nothing to wait for."""
    expires_at: int | None = None
    status_details: None = None

    @classmethod
    def of(cls, file: File) -> "FileObject":
        """The file as callers see it."""
        return cls(
            id=file.id,
            bytes=file.bytes,
            created_at=file.created_at,
            filename=file.filename,
            purpose=file.purpose,
            expires_at=file.expires_at,
        )


class FileDeleted(Answer):
    """It is gone."""

    id: str
    object: Literal["file"] = "file"
    deleted: bool = True


NEUTRAL: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (None, 0),
    "presence_penalty": (None, 0),
    "logit_bias": (None, {}),
    "logprobs": (None, False),
    "top_logprobs": (None, 0),
    "stop": (None, [], ""),
    "response_format": (None, {"type": "text"}),
    "modalities": (None, ["text"]),
    "tools": (None, []),
    "tool_choice": (None, "none", "auto"),
    "functions": (None, []),
    "function_call": (None, "none", "auto"),
    "store": (None, False),
}
"""Parameters of OpenAI's that are taken at these values, which change nothing."""
IGNORED = (
    "user",
    "metadata",
    "service_tier",
    "parallel_tool_calls",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
)
"""Parameters of OpenAI's that would change no text there either."""


class TextPart(Body):
    """A part of a message."""

    type: Literal["text"]
    text: str


class ChatMessage(Body):
    """A message; only one of the user is taken."""

    role: Literal["user", "system", "developer", "assistant", "tool", "function"]
    content: str | list[TextPart] = Field(examples=["Ann has 3 apples and buys 4 more. How many does she have?"])
    name: str | None = None


class StreamOptions(Body):
    """What a stream holds besides the text."""

    include_usage: bool = False
    include_obfuscation: bool = False
    """Taken, and never done: nothing is padded here."""


class ChatRequest(Body):
    """A chat completion: the user's message is the question, and `solution` stands beside it (`extra_body`)."""

    model: str | None = None
    messages: list[ChatMessage] = Field(min_length=1)
    """One message of the user: the question. The teacher's system message belongs to its tag style."""
    solution: str | None = Field(None, examples=["She has 3 + 4 = 7 apples. The answer is 7."])
    """Required: what the explanation shall lead to."""
    n: int | None = Field(None, ge=1)
    best_of: int | None = Field(None, ge=1)
    """Explanations to sample, of which the best `n` are returned; needs a student."""
    rank_by: Measure | None = None
    return_scores: bool = False
    """Add the student's score to each choice's `rlt`; needs a student."""
    tags: TagStyle | None = None
    temperature: float | None = Field(None, ge=0, le=10)
    """Unset is 0.7, where teachers are trained."""
    top_p: float | None = Field(None, gt=0, le=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    """The newer name of max_tokens; it comes before that."""
    seed: int | None = Field(None, ge=0, lt=2**63)
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def _only_what_has_an_effect(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        for name, neutral in NEUTRAL.items():
            if name in values and values[name] not in neutral:
                raise ApiError(
                    f"{name}: has no effect on a teacher, so only {neutral[-1]!r} is taken; leave it out",
                    param=name,
                    code="unsupported_parameter",
                )
        return {name: value for name, value in values.items() if name not in NEUTRAL and name not in IGNORED}

    def explanation_request(self) -> ExplanationRequest:
        """The same in our own words; raises ApiError (400) where it cannot be said."""
        return ExplanationRequest.model_validate(
            {
                "question": self._question(),
                "solution": self._solution(),
                "return_scores": self.return_scores,
                **{name: value for name, value in self._optional().items() if value is not None},
            }
        )

    def _optional(self) -> dict[str, Any]:
        if self.best_of is not None and self.best_of < (self.n or 1):
            raise _refused("best_of", f"must be at least n ({self.n}), got {self.best_of}")
        if self.stream and (self.best_of is not None or self.rank_by is not None):
            raise _refused("stream", "what is ranked is known at the end; leave stream, or best_of and rank_by, out")
        same = ("model", "n", "best_of", "rank_by", "tags", "temperature", "top_p", "seed", "stream")
        return {name: getattr(self, name) for name in same} | {
            "max_tokens": self.max_completion_tokens or self.max_tokens
        }

    def _question(self) -> str:
        if [message.role for message in self.messages] != ["user"]:
            roles = ", ".join(message.role for message in self.messages[:8])
            raise _refused("messages", f"one message of the user is taken, the question; got {roles}")
        content = self.messages[0].content
        question = content if isinstance(content, str) else "".join(part.text for part in content)
        if not question:
            raise _refused("messages.0.content", "must not be empty")
        return question

    def _solution(self) -> str:
        if not self.solution:
            raise ApiError(
                "solution: is required, the teacher explains what leads to it; with the openai SDK send it as "
                'extra_body={"solution": "..."}',
                param="solution",
                code="missing_required_parameter",
            )
        return self.solution


def _refused(param: str, why: str) -> ApiError:
    return ApiError(f"{param}: {why}", param=param, code="invalid_value")


class ChatAnswer(Answer):
    """What the teacher wrote."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatChoice(Answer):
    """One explanation."""

    index: int
    message: ChatAnswer
    finish_reason: Literal["stop", "length"]
    logprobs: None = None
    rlt: dict[str, Any]
    """What POST /v1/explanations says of it besides the text: its score among that."""


class ChatCompletion(Answer):
    """A chat completion whose choices are explanations."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str | None
    """Digest of the weights that wrote it."""
    choices: list[ChatChoice]
    usage: Usage


def chat_completion(request: ExplanationRequest, made: Prompt, rows: list[Explanation]) -> ChatCompletion:
    """The rows of a request as a chat completion, the best first where they are ranked."""
    best = rank(rows, request.ranking, request.n)
    return ChatCompletion(
        id=new_id("chatcmpl-"),
        created=int(time.time()),
        model=rows[0].teacher or "",
        system_fingerprint=rows[0].teacher_digest,
        choices=[
            ChatChoice(
                index=index,
                message=ChatAnswer(content=row.explanation),
                finish_reason=finish_reason(row),
                rlt=besides(row),
            )
            for index, row in enumerate(best)
        ],
        usage=usage(made, rows),
    )


def finish_reason(row: Explanation) -> Literal["stop", "length"]:
    """Why it ended."""
    return "stop" if row.closed or row.finished else "length"


def besides(row: Explanation) -> dict[str, Any]:
    """What there is to say of an explanation besides its text."""
    return choice(row).model_dump(mode="json", exclude={"explanation"})


Key = Annotated[str, Field(max_length=64)]
Value = Annotated[str, Field(max_length=512)]


class ExpiresAfter(Body):
    """When files expire."""

    anchor: Literal["created_at"]
    seconds: int = Field(ge=EXPIRY_SECONDS[0], le=EXPIRY_SECONDS[1])


class BatchRequest(Body):
    """A batch to be made of the lines of a file."""

    input_file_id: str
    """A file of purpose batch: a line a request, as {"custom_id", "method": "POST", "url", "body"}."""
    endpoint: Endpoint
    """Where every line goes; it is the `url` of each."""
    completion_window: Literal["24h"]
    metadata: dict[Key, Value] | None = Field(None, max_length=16)
    output_expires_after: ExpiresAfter | None = None
    """When output and error file expire; unset is after 30 days."""


class BatchError(Answer):
    """Why a file was refused."""

    code: str
    line: int | None
    message: str
    param: str | None


class BatchErrors(Answer):
    """All that was found wrong with a file, the first hundred."""

    object: Literal["list"] = "list"
    data: list[BatchError]


class RequestCounts(Answer):
    """Lines that were worked on."""

    total: int
    completed: int
    failed: int


class InputDetails(Answer):
    """How the prompt's tokens came about."""

    cached_tokens: int = 0


class OutputDetails(Answer):
    """How the sampled tokens came about."""

    reasoning_tokens: int = 0


class BatchUsage(Answer):
    """Tokens of all lines."""

    input_tokens: int
    input_tokens_details: InputDetails = InputDetails()
    output_tokens: int
    output_tokens_details: OutputDetails = OutputDetails()
    total_tokens: int


class Batch(Answer):
    """A batch and how it stands."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    input_file_id: str
    completion_window: str
    status: str
    """validating, in_progress, finalizing, completed, failed, cancelling, cancelled or expired."""
    created_at: int
    errors: BatchErrors | None = None
    output_file_id: str | None = None
    """Lines that succeeded, once the batch has ended; null where none did."""
    error_file_id: str | None = None
    """Lines that failed or were never run; null where there are none."""
    in_progress_at: int | None = None
    expires_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    metadata: dict[str, str] | None = None
    request_counts: RequestCounts
    usage: BatchUsage | None = None
