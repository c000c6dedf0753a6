"""The manifest of a row: where it is from and what was found of it, without its texts.

A view, made of the row's own columns and never read back. Three values are computed anew, whatever a file says: the
hashes of problem and explanation, which tie a manifest to the texts, and `kept`. What each field guarantees and what
not: docs/provenance.md.
"""

from pydantic import BaseModel, ConfigDict

from student.explanations import Explanation, Score, Verdict
from student.measures.results import Measures
from student.problems import content_id
from student.provenance import Provenance
from student.tags import TagStyle

MANIFEST = "manifest.jsonl"
"""The manifests of the rows beside it, one a line."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Model(_Record):
    """A model, by the name that it was given and a digest of its weights."""

    name: str | None
    weights: str | None


class Sampling(_Record):
    """How the explanation was sampled."""

    seed: int | None
    """Of this sample alone."""
    temperature: float | None
    top_p: float | None
    max_tokens: int | None


class SampledBy(_Record):
    """What sampled it."""

    name: str | None
    """transformers or vllm."""
    software: str | None
    precision: str | None
    """Of the weights."""


class Manifest(_Record):
    """Of one row; None is what nobody recorded."""

    id: str
    problem_hash: str
    """Of question and solution: the id that our own files give the problem."""
    explanation_hash: str
    license: str | None
    """Of the problem, as its source names it."""
    teacher: Model
    student: Model
    """Who scored and measured."""
    prompt_template: str | None
    """Digest of chat template, system message and tags, as tokens."""
    tags: TagStyle | None
    sampling: Sampling
    engine: SampledBy
    closed: bool
    finished: bool
    score: Score | None
    unscored: str | None
    measures: Measures | None
    verdicts: tuple[Verdict, ...]
    """Of each filter that was asked, in order."""
    kept: bool
    dropped: str | None
    error: str | None


def manifest_of(row: Explanation) -> Manifest:
    """What a row says of itself.

    >>> trace = Explanation(problem_id="a", sample=0, question="1 + 1?", solution="2", explanation="", closed=True,
    ...     finished=True)
    >>> made = manifest_of(trace)
    >>> made.problem_hash == content_id("1 + 1?", "2"), made.teacher, made.kept
    (True, Model(name=None, weights=None), True)
    """
    made = row.provenance or Provenance()
    return Manifest(
        id=row.id,
        problem_hash=content_id(row.question, row.solution),
        explanation_hash=content_id(row.explanation),
        license=row.license,
        teacher=Model(name=row.teacher, weights=row.teacher_digest),
        student=Model(name=row.student, weights=row.student_digest),
        prompt_template=made.prompt_digest,
        tags=row.tags,
        sampling=Sampling(
            seed=row.seed,
            temperature=row.temperature,
            top_p=made.top_p,
            max_tokens=made.max_tokens,
        ),
        engine=SampledBy(name=made.engine, software=made.software, precision=made.precision),
        closed=row.closed,
        finished=row.finished,
        score=row.score,
        unscored=row.unscored,
        measures=row.measures,
        verdicts=row.verdicts,
        kept=row.kept,
        dropped=row.dropped,
        error=row.error,
    )
