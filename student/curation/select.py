"""`rlt select`: which explanations become lessons, and a report of why not the rest.

    filters of one row  ->  copies of an earlier row  ->  the best of each problem

Copies go before the ranking, so that the best two of a problem are not the same text twice. All rows stay in the file
with every verdict; `rlt distill` trains on the kept ones. The selection takes seconds, so it is made anew each time and
the file has its name only when whole. Left out: a selection by other rows than those of one file.
"""

from collections.abc import Sequence
from pathlib import Path

from student.configs import SelectConfig
from student.curation.duplicates import without_copies
from student.curation.filters import filtered
from student.curation.ranking import ranked
from student.curation.report import SelectionReport, report_of
from student.errors import OutputError
from student.explanations import SCHEMA, Explanation, read_explanations
from student.problem_files import whole_file
from student.row_file import ROWS_AT_A_TIME, RowFile
from student.tags import STYLES


def main(config: SelectConfig) -> None:
    """Carries out `rlt select`; raises ProblemError for bad rows and OutputError where OUT cannot be written."""
    out = Path(config.out)
    file = RowFile(out, SCHEMA)
    if out.resolve() == Path(config.rows).resolve():
        raise OutputError(f"{out}: is the file of rows itself; give another --out")
    aside = out.with_name(out.name + ".skipped.jsonl")
    rows = read_explanations(config.rows, STYLES[config.tags], config.skip_invalid, aside)
    file.claim(config)
    made = selected(rows, config)
    report = report_of(made)
    _write(made, file)
    with whole_file(out.with_name(out.name + ".report.json")) as written:
        written.write(report.model_dump_json(indent=2) + "\n")
    print(f"{out}: {told(report)}")


def selected(rows: Sequence[Explanation], config: SelectConfig) -> list[Explanation]:
    """The rows in their order, each with the verdicts of this selection."""
    judged = filtered(rows, config.filters)
    if config.duplicates.exact:
        judged = without_copies(judged)
    return ranked(judged, config.ranking)


def told(report: SelectionReport) -> str:
    """A report in one line."""
    dropped = [f"{count} dropped by {name}" for name, count in report.dropped.items()]
    failed = [f"{report.failed} had failed"] if report.failed else []
    kept = f"{report.kept} kept, of {report.problems_kept} of {report.problems} problems"
    return ", ".join([f"{report.given} rows", kept, *dropped, *failed])


def _write(rows: Sequence[Explanation], file: RowFile) -> None:
    file.partial.unlink(missing_ok=True)
    for start in range(0, len(rows), ROWS_AT_A_TIME):
        file.append(rows[start : start + ROWS_AT_A_TIME])
    file.finish()
