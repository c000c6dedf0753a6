"""One selection, wherever its rows are: `rlt select` reads them from a file, the service from a dataset's shards.

    add(row), add(row), ...   ->   settle()   ->   judged(0, row), judged(1, row), ...   ->   report()

The rows are given twice, in one order, and never held. Left out: where they come from and go to.
"""

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from student.curation.contamination import HeldOut, contamination_verdict
from student.curation.filters import filtered, judged
from student.curation.ledger import MEASURES, Ledger
from student.curation.report import SelectionReport, Tally, spread_of
from student.curation.settings import Duplicates, Filters, Ranking
from student.explanations import Explanation


@dataclass(frozen=True)
class Rules:
    """What is asked of every row."""

    filters: Filters
    duplicates: Duplicates
    ranking: Ranking
    held_out: HeldOut | None = None
    """Questions of test sets; None is not asked."""
    explanations: bool = False
    """Whether explanations are searched for them too."""

    def alone(self, row: Explanation) -> Explanation:
        """The row with the verdicts that need no other row; those of an earlier selection are forgotten."""
        row = filtered(row, self.filters)
        if self.held_out is None or not row.kept:
            return row
        return judged(row, contamination_verdict(row, self.held_out, self.explanations))


class Selection:
    """One selection by `rules`; sketches of texts are in `folder`, in files without names, until it is closed."""

    def __init__(self, rules: Rules, folder: Path | None = None) -> None:
        self._rules = rules
        self._ledger = Ledger(rules.duplicates, rules.ranking, folder)
        self._tally = Tally()

    def __len__(self) -> int:
        return len(self._ledger)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ledger.close()

    def add(self, row: Explanation) -> None:
        """One more row."""
        self._ledger.add(self._rules.alone(row))

    def settle(self) -> None:
        """Finds what takes all rows; none is added after this."""
        self._ledger.settle()

    def row_id(self, place: int) -> str:
        """The id of the row that was added at this place, from 0."""
        return self._ledger.row_id(place)

    def judged(self, place: int, row: Explanation) -> Explanation:
        """The row that was added at this place, with all its verdicts; it is counted for the report."""
        assert row.id == self.row_id(place), f"{row.id} is not the row that was added at {place}"
        row = self._rules.alone(row)
        row = judged(row, *self._ledger.verdicts(place)) if row.kept else row
        self._tally.count(row)
        return row

    def report(self) -> SelectionReport:
        """The report, once every row was judged."""
        ledger, tally = self._ledger, self._tally
        problems, problems_kept = ledger.problems
        sound = ~ledger.failed
        spreads = {measure: spread_of(ledger.values(measure)[sound], ledger.kept[sound]) for measure in MEASURES}
        return SelectionReport(
            given=len(ledger),
            kept=int(ledger.kept.sum()),
            failed=int(ledger.failed.sum()),
            dropped=dict(tally.dropped.most_common()),
            failed_by=dict(tally.failed_by.most_common()),
            problems=problems,
            problems_kept=problems_kept,
            measures={measure: spread for measure, spread in spreads.items() if spread is not None},
        )
