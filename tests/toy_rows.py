"""Explanations of the toy world that bear a score, for whatever chooses among them."""

from student.explanations import Explanation, Score


def scored_row(
    problem: str, sample: int, reward: float = 0.0, *, rss: float = 0.0, rkl: float | None = None
) -> Explanation:
    """A complete explanation of one step; its terms need not add up to its reward."""
    return Explanation(
        problem_id=problem,
        sample=sample,
        question="3 +1",
        solution="4",
        explanation="+1 = 4",
        closed=True,
        finished=True,
        score=Score(reward=reward, rss=rss, ss_mean=0.0, ss_min=0.0, rkl=rkl),
    )
