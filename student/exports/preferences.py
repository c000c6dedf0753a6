"""The formats of preference training: explanations of one problem beside each other, told apart by their rewards.

All that a problem has must stand together in the rows, as `rlt explain` writes it. Rows without a score are passed
over. Left out: pairs of explanations of different problems, whose rewards do not compare.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from student.configs import ExportOptions
from student.exports.arrow_text import turns, turns_type
from student.exports.formats import column, prompt_turns, schema_of, with_provenance

PREFERENCE = schema_of(
    ("prompt", turns_type()),
    ("chosen", turns_type()),
    ("rejected", turns_type()),
    ("rlt_rejected_id", pa.string()),
    ("rlt_margin", pa.float64()),
)
KTO = schema_of(
    ("prompt", turns_type()), ("completion", turns_type()), ("label", pa.bool_()), ("rlt_reward", pa.float64())
)


@dataclass(frozen=True)
class Preference:
    """A problem's best explanation against its worst; none where they are not `margin` apart."""

    name: str = "trl-preference"
    purpose: str = "TRL's DPOTrainer: the best explanation of a problem against its worst, by reward"
    schema: pa.Schema = PREFERENCE
    whole_problems: bool = True

    def convert(self, lessons: pa.Table, options: ExportOptions) -> pa.Table:
        lessons, rewards, starts = scored(lessons)
        spans = [range(start, stop) for start, stop in pairwise([*starts, len(rewards)])]
        best = np.array([max(span, key=rewards.__getitem__) for span in spans], dtype=np.int64)
        worst = np.array([min(span, key=rewards.__getitem__) for span in spans], dtype=np.int64)
        apart = rewards[best] - rewards[worst]
        wanted = (apart > 0) & (apart >= options.margin)
        chosen, rejected = lessons.take(best[wanted]), lessons.take(worst[wanted])
        answers = [turns([("assistant", column(rows, "written"))]) for rows in (chosen, rejected)]
        extra = (column(rejected, "rlt_id"), pa.array(apart[wanted]))
        return with_provenance(chosen, self.schema, prompt_turns(chosen), *answers, *extra)

    def glue(self, data: str) -> Mapping[str, str]:
        return {}


@dataclass(frozen=True)
class Kto:
    """Each explanation by itself, good or bad: by a threshold, or by its problem's mean (at the mean: neither)."""

    name: str = "trl-kto"
    purpose: str = "TRL's KTOTrainer: each explanation as good or bad, by reward"
    schema: pa.Schema = KTO
    whole_problems: bool = True

    def convert(self, lessons: pa.Table, options: ExportOptions) -> pa.Table:
        lessons, rewards, starts = scored(lessons)
        if options.threshold is None:
            counts = np.diff([*starts, len(rewards)])
            bound = np.repeat(np.add.reduceat(rewards, starts) / counts, counts) if len(rewards) else rewards
            told = np.abs(rewards - bound) > 1e-12
        else:
            bound, told = np.full(len(rewards), options.threshold), np.ones(len(rewards), dtype=bool)
        labels = pa.array((rewards >= bound)[told])
        lessons = lessons.filter(pa.array(told))
        completion = turns([("assistant", column(lessons, "written"))])
        extra = (labels, pa.array(rewards[told]))
        return with_provenance(lessons, self.schema, prompt_turns(lessons), completion, *extra)

    def glue(self, data: str) -> Mapping[str, str]:
        return {}


def scored(lessons: pa.Table) -> tuple[pa.Table, np.ndarray, np.ndarray]:
    """The lessons that have a finite reward, their rewards, and where each problem begins."""
    rewards = pc.struct_field(column(lessons, "score"), "reward")
    has = pc.fill_null(pc.is_finite(rewards), False)
    lessons, values = lessons.filter(has), rewards.filter(has).to_numpy(zero_copy_only=False)
    return lessons, values, problem_starts(lessons)


def problem_starts(lessons: pa.Table) -> np.ndarray:
    """The row at which each problem begins, for rows of a problem that stand together."""
    ends = pc.run_end_encode(column(lessons, "problem_id")).run_ends.to_numpy()
    return np.concatenate([[0], ends[:-1]]).astype(np.int64) if len(ends) else np.empty(0, dtype=np.int64)
