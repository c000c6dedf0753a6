"""Explanations of one problem against each other, by reward: pairs for DPO, single ones with a label for KTO.

Pairs. The rows of a problem by reward, best first, give the pairs best and worst, second best and second worst, and so
on, `--pairs` of them at most, each row in one pair; those whose rewards differ by less than `--margin`, or not at all,
make none.

Labels. True above `--threshold`, else false; without a threshold, true above the median of the problem and false below,
and a row that is the median says nothing and is left out.

All rows of a problem must stand together, as every verb writes them. Left out: pairs of explanations of different
problems, whose rewards do not compare.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from student.exports.arrow_text import column
from student.exports.formats import Context, Format, Options, origin, pair_origin, prompt_turns, readme, written_turns

Rows = NDArray[np.int64]
Numbers = NDArray[np.float64]
UNREWARDED = "no reward"
UNPAIRED = "no partner with another reward within its problem and the margin"
PAIRED = "its problem has its pairs"
MEDIAN = "its reward is the median of its problem"


def rewards_of(lessons: pa.Table) -> Numbers:
    """The reward of each row; NaN where it has none."""
    filled: Numbers = pc.fill_null(column(lessons, "score.reward"), float("nan")).to_numpy(zero_copy_only=False)
    return filled


def problems_of(lessons: pa.Table) -> Rows:
    """The number of each row's problem, counted from 0 in their order."""
    numbers: Rows = pc.dictionary_encode(column(lessons, "problem_id")).indices.to_numpy(zero_copy_only=False)
    return numbers.astype(np.int64)


@dataclass(frozen=True)
class Pairs:
    """Row numbers, pair by pair in the order of the problems."""

    chosen: Rows
    rejected: Rows


def pairs_of(problems: Rows, rewards: Numbers, most: int, margin: float) -> Pairs:
    """Best with worst, second best with second worst; at most `most` a problem, none of a smaller gap than `margin`.

    >>> pairs_of(np.array([0, 0, 0, 1, 1]), np.array([0.1, 0.9, 0.5, 2.0, 2.0]), most=1, margin=0.5)
    Pairs(chosen=array([1]), rejected=array([0]))
    """
    usable = np.flatnonzero(np.isfinite(rewards))
    ordered = usable[np.lexsort((-rewards[usable], problems[usable]))]
    _, starts, counts = np.unique(problems[ordered], return_index=True, return_counts=True)
    start, size = np.repeat(starts, counts), np.repeat(counts, counts)
    rank = np.arange(len(ordered)) - start
    opposite = ordered[start + size - 1 - rank]
    gap = rewards[ordered] - rewards[opposite]
    taken = (rank < np.minimum(most, size // 2)) & (gap > 0) & (gap >= margin)
    return Pairs(ordered[taken], opposite[taken])


class Paired(Format):
    """What all formats of pairs do alike."""

    grouped = True

    def refused(self, lessons: pa.Table, options: Options) -> pa.Array:
        """A row in no pair, and why."""
        problems, pairs = problems_of(lessons), _pairs(lessons, options)
        reasons = np.full(len(lessons), UNPAIRED, dtype=object)
        reasons[np.isin(problems, problems[pairs.chosen])] = PAIRED
        reasons[~np.isfinite(rewards_of(lessons))] = UNREWARDED
        reasons[np.concatenate([pairs.chosen, pairs.rejected])] = None
        return pa.array(reasons, pa.string())

    def sides(self, lessons: pa.Table, options: Options) -> tuple[pa.Table, pa.Table]:
        """The better and the worse lesson of each pair."""
        pairs = _pairs(lessons, options)
        return lessons.take(pa.array(pairs.chosen)), lessons.take(pa.array(pairs.rejected))


def _pairs(lessons: pa.Table, options: Options) -> Pairs:
    settings = options.settings
    return pairs_of(problems_of(lessons), rewards_of(lessons), settings.pairs, settings.margin)


class TrlPreference(Paired):
    """Pairs with their prompt apart from both continuations (the explicit form)."""

    name = "trl-preference"
    purpose = "TRL's DPOTrainer: of one problem the better and the worse explanation, by reward"

    def convert(self, lessons: pa.Table, options: Options) -> pa.Table:
        """`prompt`, `chosen` and `rejected`, lists of messages; the last two hold the continuation alone."""
        chosen, rejected = self.sides(lessons, options)
        made = {
            "prompt": prompt_turns(chosen),
            "chosen": written_turns(chosen),
            "rejected": written_turns(rejected),
        }
        return pa.table({**made, **pair_origin(chosen, rejected, options)})

    def glue(self, context: Context) -> Mapping[str, str]:
        """The command."""
        command = "trl dpo --dataset_name . --model_name_or_path STUDENT --output_dir trained --max_length 16384"
        return {"README.md": readme(self, context, command)}


def labels_of(problems: Rows, rewards: Numbers, threshold: float | None) -> Numbers:
    """1 and 0 for true and false, NaN where the reward says nothing.

    >>> labels_of(np.array([0, 0, 0, 1]), np.array([0.1, 0.9, 0.5, 2.0]), None)
    array([ 0.,  1., nan, nan])
    """
    if threshold is not None:
        return np.where(np.isfinite(rewards), (rewards > threshold).astype(float), np.nan)
    labels = np.full(len(rewards), np.nan)
    for problem in np.unique(problems):
        rows = np.flatnonzero((problems == problem) & np.isfinite(rewards))
        away = rewards[rows] - np.median(rewards[rows]) if len(rows) else rewards[rows]
        labels[rows] = np.where(away == 0, np.nan, (away > 0).astype(float))
    return labels


class Labelled(Format):
    """What all formats of labels do alike."""

    grouped = True

    def refused(self, lessons: pa.Table, options: Options) -> pa.Array:
        """A row whose reward says nothing."""
        reasons = np.where(np.isfinite(rewards_of(lessons)), MEDIAN, UNREWARDED)
        return pa.array(reasons, pa.string(), mask=~np.isnan(_labels(lessons, options)))

    def labelled(self, lessons: pa.Table, options: Options) -> tuple[pa.Table, pa.Array]:
        """The lessons whose reward says something, and what."""
        labels = _labels(lessons, options)
        told = ~np.isnan(labels)
        return lessons.filter(pa.array(told)), pa.array(labels[told] == 1)


def _labels(lessons: pa.Table, options: Options) -> Numbers:
    return labels_of(problems_of(lessons), rewards_of(lessons), options.settings.threshold)


class TrlKto(Labelled):
    """One explanation a row with a true or false beside it (unpaired preference)."""

    name = "trl-kto"
    purpose = "TRL's KTOTrainer: each explanation with whether it is a good one, by reward"

    def convert(self, lessons: pa.Table, options: Options) -> pa.Table:
        """`prompt`, `completion` (lists of messages) and `label` (true or false)."""
        told, label = self.labelled(lessons, options)
        made = {"prompt": prompt_turns(told), "completion": written_turns(told), "label": label}
        return pa.table({**made, **origin(told, options)})

    def glue(self, context: Context) -> Mapping[str, str]:
        """The command."""
        command = "trl kto --dataset_name . --model_name_or_path STUDENT --output_dir trained --max_length 16384"
        return {"README.md": readme(self, context, command)}
