"""The student's view as cells: the text to the character, the API's values, shades that mean one thing everywhere."""

import pytest

from server.console.heat import CREDIT_BOUNDS, Row, explanation_rows, solution_cells
from server.console.words import findings
from server.wire import ScoreResponse, StepScore, TokenScore
from student.explanations import Score
from student.measures.results import Leak, Measures, Step

TEXT = "One.\n\nTwo <b>\r\n\tthree"
PIECES = ("One", ".\n\nTw", "o", "", " <b>\r\n\t")
"""The second lies in two steps, the fourth is half a character, and the student read no more than the fifth."""


def scored(measures: Measures | None = None, steps: list[StepScore] | None = None) -> ScoreResponse:
    """What the API says of TEXT."""
    starts = [sum(map(len, PIECES[:place])) for place in range(len(PIECES))]
    tokens = [
        TokenScore(id=place, text=text, start=start, logp=-0.3 * place, teacher_logp=-0.1, kl=0.6 * place or None)
        for place, (text, start) in enumerate(zip(PIECES, starts, strict=True))
    ]
    solution = [
        TokenScore(id=8, text="4", start=0, logp=-0.01, blind_logp=-3.0, gain=2.99),
        TokenScore(id=9, text="2", start=1, logp=-5.0, blind_logp=-1.0, gain=-4.0),
    ]
    return ScoreResponse(
        student="small",
        student_digest="d",
        teacher="big",
        teacher_digest="e",
        score=Score(reward=-1.0, rss=-0.5, ss_mean=-0.5, ss_min=-5.0, rkl=0.5, kl_mean=0.5, kl_max=2.0),
        measures=measures,
        explanation_tokens=tokens,
        solution_tokens=solution,
        steps=steps,
    )


STEPS = Measures(steps=(Step(start=0, stop=6, credit=0.3), Step(start=6, stop=len(TEXT), credit=-0.6)))
BY_API = [
    StepScore(text=TEXT[:6], start=0, tokens=2, logp_mean=0),
    StepScore(text=TEXT[6:], start=6, tokens=3, logp_mean=0),
]


def text_of(rows: list[Row]) -> list[str]:
    return ["".join(cell.text for cell in row.cells) for row in rows]


@pytest.mark.parametrize("answer", [scored(STEPS), scored(steps=BY_API)], ids=["credits", "steps"])
def test_cells_joined_are_the_text_step_by_step(answer: ScoreResponse) -> None:
    rows = explanation_rows(TEXT, answer)
    assert text_of(rows) == ["One.\n\n", "Two <b>\r\n\tthree"]
    assert [cell.text for cell in rows[0].cells] == ["One", ".\n\n"]
    assert [cell.text for cell in rows[1].cells] == ["Tw", "o", "", " <b>\r\n\t", "three"]


def test_without_steps_there_is_one_row_and_without_text_an_empty_one() -> None:
    assert text_of(explanation_rows(TEXT, scored())) == [TEXT]
    nothing = scored().model_copy(update={"explanation_tokens": []})
    assert text_of(explanation_rows("", nothing)) == [""]
    assert [cell.shades for cell in explanation_rows("unread", nothing)[0].cells] == ["unread"]


def test_values_are_those_of_the_api_and_what_was_not_read_has_none() -> None:
    cells = [cell for row in explanation_rows(TEXT, scored(STEPS)) for cell in row.cells]
    assert [cell.values for cell in cells[:3]] == ["0 -0.0 -0.1 -", "1 -0.3 -0.1 0.6", "1 -0.3 -0.1 0.6"]
    assert (cells[-1].shades, cells[-1].values) == ("unread", "")
    assert [cell.values for cell in solution_cells(scored())] == ["8 -0.01 -3.0 2.99", "9 -5.0 -1.0 -4.0"]


def test_shades_rise_with_what_they_show() -> None:
    cells = [cell for row in explanation_rows(TEXT, scored(STEPS)) for cell in row.cells]
    # log p 0, -0.3 (below -0.1), -0.6 (below -0.5), -0.9; KL none, 0.6 (above 0.5), 1.2 (above 1), 1.8
    assert [cell.shades for cell in cells[:4]] == ["l0", "l1 k3", "l1 k3", "l2 k4"]
    assert [cell.shades for cell in solution_cells(scored())] == ["l0 b4 p5", "l5 b2 m5"]


def test_a_bar_is_a_credits_share_of_the_largest() -> None:
    rows = explanation_rows(TEXT, scored(STEPS))
    assert [(row.credit, row.shade, row.bar) for row in rows] == [(0.3, "p4", 0.5), (-0.6, "m5", 1.0)]
    assert CREDIT_BOUNDS[3] < 0.3 < CREDIT_BOUNDS[4] < 0.6 < CREDIT_BOUNDS[5]


def test_tokens_of_a_leak_are_marked() -> None:
    leak = Leak(kind="reference", score=0.9, start=7, stop=9)
    rows = explanation_rows(TEXT, scored(STEPS.model_copy(update={"leaks": (leak,)})))
    assert [cell.text for row in rows for cell in row.cells if "leak" in cell.shades] == ["Tw", "o"]


def test_findings_say_what_was_understood_and_why_not() -> None:
    leak = Leak(kind="early_answer", score=0.9, start=0, stop=3)
    rss, rkl, leaked, repeated = findings(scored(Measures(leak=0.9, leaks=(leak,), repetition=0.25)))
    # exp(mean(-0.01, -5)) = 8.2 %, exp(mean(-3, -1)) = 13.5 %; the least expected is exp(-5)
    assert (rss.light, rss.value) == ("bad", "-0.500")
    assert "8.2 % on the geometric mean, without it 14 %. The least expected one is “2” with 0.7 %." in rss.said
    assert "0.50 nats a token on average. The largest leap" in rkl.said
    assert "“␣<b>" in rkl.said
    assert (leaked.light, leaked.value) == ("bad", "0.90")
    assert "(early_answer)" in leaked.said
    assert repeated.value == "25%"
    without = findings(
        scored(Measures(leak=0.1)).model_copy(update={"score": Score(reward=0, rss=0, ss_mean=0, ss_min=0)})
    )
    assert [finding.light for finding in without] == ["bad", "none", "good"]
    assert "no teacher beside it" in without[1].said


def test_a_surprise_below_zero_is_explained() -> None:
    below = Score(reward=0, rss=0, ss_mean=0, ss_min=0, rkl=-0.3, kl_mean=-0.33, kl_max=0.1)
    _, rkl = findings(scored().model_copy(update={"score": below}))
    assert "-0.33 nats a token on average (below 0: likelier to the student than to the teacher)." in rkl.said
