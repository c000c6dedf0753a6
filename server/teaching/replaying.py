"""One row of a dataset made again by the teacher that is served, and whether it comes out the same."""

from server.teaching.explaining import Ask, explain
from server.teaching.teachers import Teachers
from student.explanations import Explanation
from student.replays import Replay, compared, how_sampled


async def replay(teachers: Teachers, row: Explanation) -> Replay:
    """The row beside the same row made again, by the model that it names and from its own seed.

    Raises ConfigError where it does not say how it was sampled, and what `explain` does: NotFound where its model is
    served no longer.
    """
    how = how_sampled(row)
    ask = Ask(
        question=row.question,
        solution=row.solution,
        samples=1,
        seeds=[how.seed],
        max_tokens=how.max_tokens,
        temperature=how.temperature,
        top_p=how.top_p,
        tags=how.tags,
        model=row.teacher,
        numbers=[row.sample],
    )
    [now] = await explain(teachers, ask)
    return compared(row, now)
