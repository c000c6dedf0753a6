"""The card of a dataset as files: README.md, whose front matter the hub reads, and a picture of each measure.

    census, what the rows cannot say  ->  {"README.md": ..., "card/reward.png": ...}

One code for `rlt select` and for the service. Whatever others wrote is inert in it (inert.py), and the front matter
holds only words of ours and of the hub's own lists. Left out: what only people know, such as who may use the data for
what; a card may be edited before it is published.
"""

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, get_args

from huggingface_hub import DatasetCardData

from student.cards.census import Census, Origin, Reader
from student.cards.inert import inert
from student.cards.licences import front_matter
from student.cards.pictures import PICTURED, picture
from student.cards.recipe import public_name
from student.cards.sketch import Sketch
from student.measures.results import Measure
from student.rows import DATASET_ROWS

CARD = "README.md"
PICTURES = "card"
"""The folder of the pictures, beside the card."""
SHOWN = 20
"""Lines of a table, at most."""
SIZES = (
    *((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M")),
    *((10**8, "10M<n<100M"), (10**9, "100M<n<1B")),
)
"""The hub's size categories, each below its number of rows."""
KEPT_ONLY = [["dropped", "in", [None, ""]], ["error", "in", [None, ""]]]
"""The rows to train on, as a filter of `datasets`: null in both. A list of null alone has no type; no reason is ""."""


@dataclass(frozen=True)
class About:
    """What the rows themselves do not say."""

    title: str
    problems: int
    problems_kept: int
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """Settings, by what they made."""
    layout: "Layout | None" = None
    """None is that of `rlt select`."""


@dataclass(frozen=True)
class Layout:
    """How the data lies in the folder."""

    configs: tuple[Mapping[str, Any], ...]
    """For the front matter: what `load_dataset` gives by which name, the default first."""
    rows: int
    """In the data."""
    told: tuple[str, ...]
    """Markdown of ours: what is there, and how it is read."""


def selection_layout(census: Census) -> Layout:
    """All rows in one file, of which `load_dataset` gives those that are kept."""
    whole = {"config_name": "all", "data_files": DATASET_ROWS}
    kept = {"config_name": "default", "data_files": DATASET_ROWS, "filters": KEPT_ONLY}
    columns = (
        "Each row holds `question`, `explanation`, `solution` and, where known, `answer`, and tells where it is from. "
        "`manifest.jsonl` says the same of each row without the texts."
    )
    if not census.kept:
        return Layout((whole,), census.rows, (columns, "No row is kept; `load_dataset(NAME)` gives all of them."))
    loaded = '`load_dataset(NAME)` gives the rows that are kept; `load_dataset(NAME, "all")` gives all of them.'
    return Layout((kept, whole), census.kept, (columns, loaded))


class Line(NamedTuple):
    """A line of the table of measures."""

    measure: Measure
    kept: Sketch
    dropped: Sketch


def card_files(census: Census, about: About) -> dict[str, bytes]:
    """The card and its pictures, by their names within the folder of the dataset."""
    pictures = {measure: (f"{PICTURES}/{measure}.png", png) for measure, png in _pictures(census).items()}
    text = card_text(census, about, {measure: name for measure, (name, _) in pictures.items()})
    return {CARD: text.encode(), **dict(pictures.values())}


def card_with_pictures(census: Census, about: About) -> str:
    """The card as one text, its pictures in it as data."""
    pictures = {name: f"data:image/png;base64,{b64encode(png).decode()}" for name, png in _pictures(census).items()}
    return card_text(census, about, pictures)


def _pictures(census: Census) -> dict[Measure, bytes]:
    measured = [line for line in _lines(census) if line.measure in PICTURED]
    return {line.measure: picture(*line) for line in measured}


def _lines(census: Census) -> list[Line]:
    """Of each measure that a row has which did not fail."""
    lines = [Line(name, census.kept_measures[name], census.dropped_measures[name]) for name in get_args(Measure)]
    return [line for line in lines if line.kept.count + line.dropped.count]


def card_text(census: Census, about: About, pictures: Mapping[Measure, str]) -> str:
    """README.md; `pictures` says where that of a measure is."""
    lines, layout = _lines(census), about.layout or selection_layout(census)
    parts = [
        f"---\n{head(census, layout)}\n---",
        f"# {inert(about.title)}",
        _introduction(census, about),
        "## What is here",
        *layout.told,
        "## Rows",
        *_rows(census, about),
        "## Measures",
        *_measures(lines, pictures),
        "## How it was made",
        *_recipe(census, about),
        "## Licence",
        *_licences(census),
        "## Limits",
        "\n".join(f"- {limit}" for limit in _limits(census, {line.measure for line in lines})),
    ]
    return "\n\n".join(parts) + "\n"


def head(census: Census, layout: Layout) -> str:
    """The front matter as YAML: what the hub shows and searches, and which rows `load_dataset` gives."""
    data: dict[str, Any] = {
        **front_matter(census.licences),
        "size_categories": [next((name for most, name in SIZES if layout.rows < most), "1B<n<10B")],
        "task_categories": ["text-generation"],
        "tags": ["rlt", "reasoning", "distillation", "synthetic"],
        **({"configs": list(layout.configs)} if layout.configs else {}),
    }
    return str(DatasetCardData(**data).to_yaml())


def _introduction(census: Census, about: About) -> str:
    return (
        f"{census.rows:,} explanations that lead from a question to its solution, of {about.problems:,} problems; "
        f"{census.kept:,} of them are kept to train a student on. {_writers(census)} The method is that of "
        "reinforcement-learned teachers, [arXiv 2506.08388](https://arxiv.org/abs/2506.08388)."
    )


def _writers(census: Census) -> str:
    traces = _traces(census)
    if not traces:
        return "A teacher that was shown question and solution wrote them."
    if traces == census.rows:
        return "Who wrote them is not recorded."
    return f"A teacher that was shown question and solution wrote them; of {traces:,} rows the writer is not recorded."


def _traces(census: Census) -> int:
    """Rows without a teacher: traces that came from elsewhere."""
    return sum(rows for origin, rows in census.origins.items() if origin is not None and origin.teacher is None)


def _rows(census: Census, about: About) -> Iterator[str]:
    yield _table(
        ("", "rows"),
        [
            ("all", f"{census.rows:,}, of {about.problems:,} problems"),
            ("kept to train on", f"{census.kept:,}, of {about.problems_kept:,} problems"),
            ("dropped by a filter (`dropped` says why)", f"{census.dropped.total():,}"),
            ("failed (`error` says why)", f"{census.failed:,}"),
        ],
    )
    if census.filters:
        filters = [
            (inert(name), f"{asked.rows:,}", f"{asked.against:,}", f"{census.dropped[name]:,}")
            for name, asked in census.filters.items()
        ]
        yield _table(("filter", "rows asked", "failed it", "dropped by it, the first that failed"), filters)


def _measures(lines: list[Line], pictures: Mapping[Measure, str]) -> Iterator[str]:
    if not lines:
        yield "No row was scored or measured."
        return
    heads = ("measure", "kept rows with it", "mean", "5 %", "median", "95 %", "mean of dropped rows")
    yield _table(heads, [(f"`{line.measure}`", *_figures(line.kept), _mean(line.dropped)) for line in lines])
    pictured = [line.measure for line in lines if line.measure in PICTURED]
    yield "\n".join(f"![{PICTURED[name]}, rows kept and dropped]({pictures[name]})" for name in pictured)
    yield "The outermost bins take in what lies beyond. Quantiles are exact to 0.1 % of their value."


def _figures(sketch: Sketch) -> tuple[str, ...]:
    if not sketch.count:
        return "0", "", "", "", ""
    return f"{sketch.count:,}", _mean(sketch), *(_figure(sketch.quantile(share)) for share in (0.05, 0.5, 0.95))


def _mean(sketch: Sketch) -> str:
    return _figure(sketch.mean) if sketch.count else ""


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _recipe(census: Census, about: About) -> Iterator[str]:
    heads = ("rows", "teacher", "its weights", "tags", "prompt", "sampling", "engine")
    yield _table(heads, [_origin(rows, origin) for origin, rows in census.origins.most_common(SHOWN)])
    yield from _more(len(census.origins))
    readers = [
        (f"{rows:,}", *(map(_named, reader) if reader else ("others", "")))
        for reader, rows in census.readers.most_common(SHOWN)
        if reader != Reader(None, None)
    ]
    if readers:
        yield "Scored and measured by"
        yield _table(("rows", "student", "its weights"), readers)
        yield from _more(len(census.readers))
    if about.recipe:
        settings = json.dumps(about.recipe, indent=2)
        yield f"<details><summary>Settings, the last step first</summary>\n\n```json\n{settings}\n```\n\n</details>"


def _origin(rows: int, origin: Origin | None) -> tuple[str, ...]:
    if origin is None:
        return f"{rows:,}", "others", "", "", "", "", ""
    bounds = {"temperature": origin.temperature, "top-p": origin.top_p, "max tokens": origin.max_tokens}
    sampling = ", ".join(f"{name} {value}" for name, value in bounds.items() if value is not None)
    engine = ", ".join(_named(each) for each in (origin.engine, origin.software, origin.precision) if each is not None)
    named = (_named(each) for each in (origin.teacher, origin.teacher_digest, origin.tags, origin.prompt_digest))
    return f"{rows:,}", *named, sampling or inert(None), engine or inert(None)


def _named(name: str | None) -> str:
    return inert(None if name is None else public_name(name))


def _licences(census: Census) -> Iterator[str]:
    named = [
        ("(none named)" if name is None else inert(name), f"{rows:,}")
        for name, rows in census.licences.most_common(SHOWN)
    ]
    yield _table(("licence of the problems, as their source names it", "rows"), named)
    yield from _more(len(census.licences))
    yield (
        "Nobody checked these names. They are of questions and solutions; what the teacher's own licence says of texts "
        "that it writes holds beside them."
    )


def _limits(census: Census, measured: set[Measure]) -> Iterator[str]:
    yield (
        "A teacher writes with the solution in view. That an explanation leads there says neither that it is right nor "
        "that its writer could have found the solution."
        if _traces(census) < census.rows
        else "Nobody recorded whether the solution was in view when these were written."
    )
    if "reward" in measured:
        yield (
            "`reward`, `rss` and `rkl` are log-probabilities of one student: how well it foresees the solution after "
            "the explanation, and how far each step is from what it would write. Another student ranks otherwise, and "
            "a copied solution is foreseen best."
        )
    if "leak" in measured:
        yield (
            "`leak` knows patterns of words, in English. Of references to a given solution in wordings that nobody "
            "thought of a third to two thirds are found; a solution retold in other words is not."
        )
    if "step_credit" in measured:
        yield "`step_credit` says how a step helps one student towards the solution, not whether the step is right."
    yield (
        "`verified` is one answer of one student after the explanation; it may be right without it, or after a leak."
        if "verified" in measured
        else "No answer was verified: nobody looked whether the student answers right after an explanation."
    )
    yield (
        "Test questions: a row was dropped where its question holds a passage of a test set named in the settings; "
        "paraphrases, translations and other test sets were not looked for."
        if "contamination" in census.filters
        else "Rows were not compared with any test set; questions of benchmarks may be among them."
    )
    yield (
        "Copies were looked for by words that texts have in common; a copy in other words stays."
        if "duplicates" in census.filters
        else "Copies were not looked for."
    )
    yield (
        "Digests tell whether weights are the same, not which they are; of a model of the hub the digest is its "
        "commit. The same weights, seed and settings write the same text on the same software and hardware only."
    )


def _more(count: int) -> Iterator[str]:
    if count > SHOWN:
        yield f"And {count - SHOWN:,} more."


def _table(heads: tuple[str, ...], lines: Sequence[tuple[str, ...]]) -> str:
    rows = [heads, tuple("---" for _ in heads), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
