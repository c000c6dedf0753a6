"""What callers send and get: the bodies of our own resources. OpenAI's objects are in openai_objects.py.

Unknown fields are refused, so a misspelt one is no silent default. The string under a field is its description in
the OpenAPI document. Loads no torch.
"""

from collections.abc import Sequence
from typing import Any, Generic, Literal, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, NonNegativeInt, ValidationInfo, model_validator

from student.configs import MeasureSettings
from student.curation import settings as curation
from student.curation.report import SelectionReport
from student.estimates import Comparison, Estimate
from student.explanations import Score
from student.measures import results
from student.tags import TagStyle

Measure = Literal["reward", "rss", "rkl"]
"""What the answer to one request is ranked by: the parts of a score."""
SHORT_BOUNDS = {
    "min_reward": ("at_least", "reward"),
    "min_rss": ("at_least", "rss"),
    "max_rkl": ("at_most", "rkl"),
}
T = TypeVar("T")


def as_settings(measures: bool | MeasureSettings) -> MeasureSettings | None:
    """What a caller asks to be measured; None where that is nothing.

    >>> as_settings(False) is None, as_settings(True) == MeasureSettings()
    (True, True)
    """
    if isinstance(measures, MeasureSettings):
        return measures
    return MeasureSettings() if measures else None


def _setting_of(measure: results.Measure) -> str:
    """The setting that has a measure made."""
    return "length" if measure in ("tokens", "context_share") else measure


class Body(BaseModel):
    """A request: unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Answer(BaseModel):
    """A response."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class ExplanationRequest(Body):
    """A problem to be explained."""

    question: str = Field(min_length=1, examples=["Ann has 3 apples and buys 4 more. How many does she have?"])
    """The question, as a student would be asked it."""
    solution: str = Field(min_length=1, examples=["She has 3 + 4 = 7 apples. The answer is 7."])
    """Its solution: what the explanation shall lead to."""
    model: str | None = None
    """The teacher or adapter (GET /v1/models); unset is the service's teacher."""
    n: int = Field(1, ge=1)
    """Explanations to return."""
    best_of: int | None = Field(None, ge=1)
    """Explanations to sample, of which the best `n` are returned; needs a student."""
    rank_by: Measure | None = None
    """What ranks them, best first: reward (the default where best_of is set), rss, or rkl (lowest first)."""
    temperature: float = Field(0.7, ge=0, le=10)
    """Sampling temperature; 0 is greedy."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Nucleus sampling."""
    max_tokens: int = Field(4096, ge=1)
    """Longest explanation, in tokens; what the model's context leaves is a limit too."""
    seed: int | None = Field(None, ge=0, lt=2**63)
    """Makes the same explanations again, as far as the engine can; unset is another one each time."""
    tags: TagStyle | None = None
    """Tag style of the prompt; unset is the service's."""
    stream: bool = False
    """Answer as server-sent events: `delta`, then `explanation` for each that is whole, then `done`."""
    return_scores: bool = False
    """Add the student's score to each explanation; needs a student."""

    @model_validator(mode="after")
    def _best_of_holds_n(self) -> "ExplanationRequest":
        if self.best_of is not None and self.best_of < self.n:
            raise ValueError(f"best_of ({self.best_of}) must be at least n ({self.n})")
        return self

    @property
    def samples(self) -> int:
        """How many are sampled."""
        return self.best_of or self.n

    @property
    def ranking(self) -> Measure | None:
        """By what they are ranked."""
        return self.rank_by or ("reward" if self.best_of is not None else None)

    @property
    def scored(self) -> bool:
        """Whether a student is needed."""
        return self.return_scores or self.ranking is not None


class ExplanationChoice(Answer):
    """One explanation, and which weights wrote it from which seed."""

    index: int
    """Its number among the samples; the list is in the order of the ranking."""
    explanation: str
    """The raw text before the end tag, untouched."""
    closed: bool
    """The end tag was reached."""
    finished: bool
    """The teacher ended by itself; false: cut by max_tokens or its context."""
    tokens: int
    """Sampled tokens of the explanation."""
    seed: int
    teacher: str
    teacher_digest: str
    """Of the weights that wrote it."""
    score: Score | None = None
    unscored: str | None = None
    """Why there is no score although one was asked for."""


class Usage(Answer):
    """Tokens, named as OpenAI does."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ExplanationResponse(Answer):
    """The explanations of one problem."""

    id: str
    object: Literal["explanations"] = "explanations"
    created: int
    model: str
    problem_id: str
    """Hash of question and solution, as in every file of ours."""
    explanations: list[ExplanationChoice]
    usage: Usage


class ScoreRequest(Body):
    """A trace of any origin, to be scored by the student."""

    question: str = Field(min_length=1, examples=["Ann has 3 apples and buys 4 more. How many does she have?"])
    """The question, as the student is asked it."""
    solution: str = Field(min_length=1, examples=["She has 3 + 4 = 7 apples. The answer is 7."])
    """Its solution: what the student shall understand better after the explanation."""
    explanation: str = Field(examples=["She starts with 3 apples.\n\nShe buys 4 more, and 3 + 4 = 7."])
    """The trace as text; it may be empty."""
    token_ids: list[NonNegativeInt] | None = None
    """The very tokens of the explanation, where they are known and spell it: the text is then not tokenised again."""
    closed: bool = True
    """Whether its end tag was reached; where not, the penalty is taken off."""
    student: str | None = None
    """The student (GET /v1/models); unset is the service's."""
    tags: TagStyle | None = None
    """Tag style of what the student reads; unset is the service's."""
    per_token: bool = False
    """Add the numbers of every token."""
    per_step: bool = False
    """Add the numbers of every step. Steps end at blank lines; without any at lines, sentences or equations."""
    measures: bool | MeasureSettings = False
    """Add what else `rlt score` measures: true for its defaults (gain, leak, repetition, length), or its settings, such
    as {"step_credit": true}, with which each step has its credit, or {"verified": true}."""
    answer: str | None = None
    """The solution's answer, for leaks and for what the student answers itself; unset is read from the solution."""

    @property
    def measuring(self) -> MeasureSettings | None:
        """What is measured; None where nothing is."""
        return as_settings(self.measures)


class TokenScore(Answer):
    """One token as the student saw it; nats, at the reward's temperature."""

    id: int
    text: str
    start: int
    """Where its text begins in the explanation or the solution, in characters."""
    logp: float
    """The student's log-probability of it."""
    teacher_logp: float | None = None
    """Explanation only: the teacher's, who knows the solution."""
    kl: float | None = None
    """Explanation only: what it adds to rKL."""
    blind_logp: float | None = None
    """Solution only: the student's log-probability without any explanation."""
    gain: float | None = None
    """Solution only: logp - blind_logp."""


class StepScore(Answer):
    """One step of the explanation; joined, their texts are the explanation."""

    text: str
    start: int
    tokens: int
    """Tokens that begin in it and that the student read: 0 where it had to be cut, or shares its only token."""
    logp_mean: float | None
    kl_mean: float | None = None
    kl_max: float | None = None
    credit: float | None = None
    """With measures.step_credit: nats a solution token, at temperature 1, that the solution gains by the step."""


class ScoreResponse(Answer):
    """What the student makes of the trace."""

    object: Literal["score"] = "score"
    student: str
    student_digest: str
    teacher: str | None
    """Whose log-probabilities rKL compares with; null where there is none, and no rKL."""
    teacher_digest: str | None
    score: Score
    measures: results.Measures | None = None
    explanation_tokens: list[TokenScore] | None = None
    solution_tokens: list[TokenScore] | None = None
    steps: list[StepScore] | None = None


class ProblemBody(Body):
    """A problem in the body of a dataset request."""

    question: str = Field(min_length=1)
    solution: str = Field(min_length=1)
    answer: str | None = None
    """What grading compares; where there is none it is read from the solution."""


class DatasetSampling(Body):
    """How a dataset's explanations are sampled."""

    temperature: float = Field(0.7, ge=0, le=10)
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: int = Field(4096, ge=1)


class Filters(curation.Filters):
    """Rows that miss one are kept apart as dropped, with the reason.

    `min_reward`, `min_rss` and `max_rkl` are taken for `at_least.reward`, `at_least.rss` and `at_most.rkl`.
    """

    @model_validator(mode="before")
    @classmethod
    def _short_names(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        rest = {name: value for name, value in values.items() if name not in SHORT_BOUNDS}
        for name, (side, measure) in SHORT_BOUNDS.items():
            if values.get(name) is not None:
                rest[side] = {**(rest.get(side) or {}), measure: values[name]}
        return rest


class TestSets(Body):
    """Test sets to keep away from: a row is dropped where its question holds a passage of one of their questions."""

    file_ids: tuple[str, ...] = Field((), max_length=20)
    """Files that were uploaded (POST /v1/files, purpose user_data), of problems like a dataset's."""
    words: int = Field(13, ge=8)
    """Length of the passage that betrays a test question; a shorter question is matched whole."""
    explanations: bool = False
    """Search the explanations too, not only the questions."""


class Further(Body):
    """More samples of the problems whose best row by `rank_by` is not good enough, worst first."""

    threshold: FiniteFloat
    """A problem whose best row is worse than this gets one more, is looked at again, and so on."""
    samples: int = Field(4, ge=1)
    """Further explanations a problem, at most."""
    budget_tokens: int = Field(ge=1)
    """Tokens that the further explanations may have together; each unit of problems has its share."""


class DatasetRequest(Body):
    """A dataset to be made: every problem explained `n` times. One of problems, file_id and source."""

    name: str | None = Field(None, max_length=200)
    """For people."""
    purpose: Literal["distillation", "cold_start"] = "distillation"
    """cold_start wants a verifiable answer of every problem: its rows start RL, which must grade them."""
    problems: list[ProblemBody] | None = Field(None, min_length=1)
    """The problems themselves."""
    file_id: str | None = None
    """A file that was uploaded (POST /v1/files, purpose user_data): JSONL, JSON, CSV or Parquet by its name."""
    source: str | None = None
    """A name of the Hugging Face hub; a path, where the service allows local sources."""
    split: str = "train"
    """Split to read where the source has several."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Own column names, as field: column; synonyms are found."""
    license: str | None = Field(None, max_length=200)
    """Licence of the problems, for rows whose source has no column `license`."""
    limit: int | None = Field(None, gt=0)
    """Use only the first problems."""
    skip_invalid: bool = False
    """Leave bad rows out and count them, instead of failing the dataset before any work."""
    model: str | None = None
    """The teacher or adapter; unset is the service's teacher."""
    n: int = Field(1, ge=1)
    """Explanations a problem to keep."""
    best_of: int | None = Field(None, ge=1)
    """Explanations a problem to sample; those beyond the best `n` by `rank_by` are dropped."""
    rank_by: results.Measure = "reward"
    """What best_of ranks by, and by which the best of several copies stays."""
    further: Further | None = None
    """More samples where they are needed; unset gives every problem the same number."""
    sampling: DatasetSampling = DatasetSampling()
    """How explanations are sampled."""
    tags: TagStyle | None = None
    """Tag style of the prompts; unset is the service's."""
    score: bool = False
    """Score every row; what goes by a measure (best_of, filters, further) does so by itself."""
    measures: bool | MeasureSettings = False
    """Measure every row too, like `rlt score`: true for its defaults (gain, leak, repetition, length), or its settings,
    such as {"step_credit": true, "verified": true}; what goes by a measure has it measured by itself."""
    filters: Filters = Filters()
    """Which rows are kept; the others are dropped, and say why."""
    contamination: TestSets = TestSets()
    """Test sets to keep away from."""
    duplicates: curation.Duplicates = curation.Duplicates(compare="nothing")
    """Rows that repeat others of the dataset, found at its end, before best_of; unset looks for none."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Each row's own seed is derived from this, its problem and its number, as `rlt explain` does."""
    estimate: Estimate | None = None
    """What a dry run of this request answered; the dataset then tells what came of it (`against_estimate`)."""
    metadata: dict[str, str] = Field(default_factory=dict, max_length=16)
    """The caller's own notes."""

    @model_validator(mode="before")
    @classmethod
    def _one_source(cls, values: Any, info: ValidationInfo) -> Any:
        """A request that was accepted once has its problems taken out, and passes."""
        if not isinstance(values, dict) or info.context == {"stored": True}:
            return values
        given = [name for name in ("problems", "file_id", "source") if values.get(name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of problems, file_id and source, got {', '.join(given) or 'none'}")
        return values

    @model_validator(mode="after")
    def _best_of_holds_n(self) -> "DatasetRequest":
        if self.best_of is not None and self.best_of < self.n:
            raise ValueError(f"best_of ({self.best_of}) must be at least n ({self.n})")
        return self

    @property
    def samples(self) -> int:
        """Explanations sampled a problem, at first."""
        return self.best_of or self.n

    @property
    def most_samples(self) -> int:
        """Explanations sampled a problem at most."""
        return self.samples + (0 if self.further is None else self.further.samples)

    @property
    def ranked(self) -> bool:
        """Whether rows are compared by `rank_by`."""
        return self.best_of is not None or self.further is not None

    @property
    def scored(self) -> bool:
        """Whether a student is needed."""
        return self.score or self.measuring is not None or bool(self.asked_measures)

    @property
    def measuring(self) -> MeasureSettings | None:
        """What is measured besides the score, with what rows go by; None where nothing is."""
        further = self.asked_measures - set(get_args(Measure))
        settings = as_settings(self.measures) or (MeasureSettings() if further else None)
        return None if settings is None else settings.model_copy(update=dict.fromkeys(map(_setting_of, further), True))

    @property
    def asked_measures(self) -> set[results.Measure]:
        """By which rows are kept, ranked or sampled again."""
        return self.filters.measures | ({self.rank_by} if self.ranked else set())

    @property
    def selects(self) -> bool:
        """Whether a row may be dropped."""
        asked = (self.best_of is not None, self.filters != Filters(), bool(self.contamination.file_ids))
        return any(asked) or self.duplicates.compare != "nothing"


class PreviewedProblem(Answer):
    """A problem as it was read; long texts are cut."""

    question: str
    solution: str
    reasoning_trace: str | None
    answer: str | None


class PreviewedFault(Answer):
    """A row that cannot be used."""

    row: int
    """Its line in the file; in Parquet and on the hub its number."""
    reason: str
    """What is wrong with which field, and what to do."""
    text: str
    """Its begin, as JSON; empty where it could not be read at all."""


class Preview(Answer):
    """How the source of a dataset is read, before anything is made of it."""

    object: Literal["preview"] = "preview"
    intake: dict[str, Any]
    """As in the dataset: layout, rows, problems, repeated and bad ones."""
    whole: bool
    """Whether the source was read to its end; the counts of one that takes longer are those so far."""
    columns: list[str]
    """Of the first row: the first 500, without names that are over 1,000 characters or hold half a surrogate pair."""
    unlisted_columns: int
    """How many more it has."""
    fields: dict[str, str]
    """The column of each field of a problem, in the first that can be used."""
    problems: list[PreviewedProblem]
    """The first."""
    faults: list[PreviewedFault]
    """The first."""


class Counts(Answer):
    """Rows of a dataset (a row is one explanation), or lines of a batch."""

    total: int | None
    """None until the input was read; `further` samples add to it as they are made."""
    done: int
    """Worked on: ok, failed and dropped together."""
    failed: int
    dropped: int
    tokens: int
    """Sampled tokens."""


class AgainstEstimate(Answer):
    """What a dataset has taken, or took, beside its estimate."""

    tokens: Comparison
    seconds: Comparison | None
    """Whole seconds since its source was read; null after a retry, which makes few of the rows."""


class Dataset(Answer):
    """A dataset and how it stands."""

    id: str
    object: Literal["dataset"] = "dataset"
    name: str | None
    purpose: str
    status: str
    """validating, running, completed, failed, cancelling or cancelled."""
    created_at: int
    started_at: int | None
    finished_at: int | None
    counts: Counts
    rows_per_second: float | None
    """Over the last minute of work."""
    eta_seconds: float | None
    errors: dict[str, int]
    """Failed rows by kind."""
    error: str | None
    """Why the whole dataset failed."""
    intake: dict[str, Any]
    """How the source was read: rows, bad rows with the first reasons, repeated ones."""
    selection: SelectionReport | None
    """What was kept, and why not the rest; null while it is made, and where everything is kept."""
    against_estimate: AgainstEstimate | None
    """Where the request came with an estimate, once there is work: how it holds."""
    request: DatasetRequest
    """As it was asked for; problems in the body are left out of it."""


class Page(Answer, Generic[T]):
    """One page of a list, newest first; the next one is `after` = last_id while has_more."""

    object: Literal["list"] = "list"
    data: list[T]
    first_id: str | None
    last_id: str | None
    has_more: bool

    @classmethod
    def of(cls, data: list[T], places: Sequence[str], has_more: bool) -> Self:
        """The page of `data`, each of which stands at one of `places`."""
        first, last = (places[0], places[-1]) if places else (None, None)
        return cls(data=data, first_id=first, last_id=last, has_more=has_more)
