"""Explanations of one problem against each other, by reward: pairs for DPO, single ones with a label for KTO.

Which rows make a pair, and which label a row gets, is student/pairing.py's to say. All rows of a problem must stand
together, as every verb writes them.
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from student.exports.arrow_text import column
from student.exports.formats import Context, Format, Options, origin, pair_origin, prompt_turns, readme, written_turns
from student.pairing import Numbers, Pairs, Rows, labels_of, pairs_of

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
        command = 'trl dpo --dataset_name "$PWD" --model_name_or_path STUDENT --output_dir trained --max_length 16384'
        return {"README.md": readme(self, context, command)}


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
        command = 'trl kto --dataset_name "$PWD" --model_name_or_path STUDENT --output_dir trained --max_length 16384'
        return {"README.md": readme(self, context, command)}
