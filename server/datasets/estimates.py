"""What a dataset took beside what a dry run of it told: the estimate is the caller's, and comes with the request."""

import time

from server.errors import Invalid
from server.jobs.jobs import JobRejected, Progress
from server.state.tables import TERMINAL, Job
from server.wire import AgainstEstimate, DatasetRequest
from student.estimates import compared


def check_estimate(request: DatasetRequest, digest: str) -> None:
    """Raises Invalid where the estimate is of other weights than those with this digest."""
    if request.estimate is not None and request.estimate.teacher_digest not in (None, digest):
        raise Invalid(
            f"estimate: is of the weights {request.estimate.teacher_digest!r} and the teacher's are {digest!r}; make "
            "another dry run, or leave it out",
            param="estimate",
        )


def check_rows(request: DatasetRequest, problems: int) -> None:
    """Raises JobRejected where the estimate is of another dataset than one of so many problems."""
    rows = problems * request.samples
    if request.estimate is not None and request.estimate.rows != rows:
        raise JobRejected(
            f"estimate: is of {request.estimate.rows} rows and these are {rows}; make another dry run, or leave it out"
        )


def against_estimate(request: DatasetRequest, job: Job, progress: Progress) -> AgainstEstimate | None:
    """How far it has come, or what it took; None where there is no estimate, or no work yet."""
    if request.estimate is None or job.started_at is None:
        return None
    ended = job.status == "completed"
    seconds = (job.finished_at if job.status in TERMINAL and job.finished_at else int(time.time())) - job.started_at
    return AgainstEstimate(
        tokens=compared(progress.tokens, request.estimate.tokens, ended),
        # A retry is timed anew, and makes few of the rows.
        seconds=compared(seconds, request.estimate.seconds, ended) if job.round == 1 else None,
    )
