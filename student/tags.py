"""The two tag styles in which thought, solution and explanation are set apart, as literal text.

"RLT" is the paper's layout (method.md 2), with the blank lines of Sky-T1 / Bespoke-Stratos; "think" is the DeepSeek-R1
convention, in which the student's solution simply follows the closed thought. The explanation itself is never touched:
the teacher's tags are swapped for the student's around the same tokens.
"""

from dataclasses import dataclass
from typing import Literal

TagStyle = Literal["rlt", "think"]


@dataclass(frozen=True)
class Tags:
    """The text before and after each span; `*_close` of the explanation and of the thought open with the bare tag.

    The sections of the teacher's prompt are `solution_*` and `explanation_*`, those of the student's text `thought_*`
    and `answer_*`. `student_system` and `teacher_system` are the system messages that explain them.
    """

    solution_open: str
    solution_close: str
    explanation_open: str
    explanation_close: str
    thought_open: str
    thought_close: str
    answer_open: str
    answer_close: str
    student_system: str
    teacher_system: str

    @property
    def markers(self) -> tuple[str, ...]:
        """Every bare tag, for refusing problems that contain one."""
        texts = (
            self.solution_open,
            self.solution_close,
            self.explanation_open,
            self.explanation_close,
            self.thought_open,
            self.thought_close,
            self.answer_open,
            self.answer_close,
        )
        return tuple(dict.fromkeys(text.strip() for text in texts if text.strip()))


_STUDENT_WORK = (
    "Think at length before you give the solution: analyse the question, summarise what is known, explore, reassess, "
    "reflect, backtrack where needed and verify each step."
)
_TEACHER_WORK = (
    "Your response has two sections. First you state a precise solution to the question. Then you show in detail the "
    "systematic work that leads to it: analysis, summary, exploration, reassessment, reflection, backtracking and "
    "verification."
)

RLT = Tags(
    solution_open="<|begin_of_solution|>\n\n",
    solution_close="\n\n<|end_of_solution|>\n\n",
    explanation_open="<|begin_of_explanation|>\n\n",
    explanation_close="<|end_of_explanation|>",
    thought_open="<|begin_of_thought|>\n\n",
    thought_close="<|end_of_thought|>\n\n",
    answer_open="<|begin_of_solution|>\n\n",
    answer_close="\n\n<|end_of_solution|>",
    student_system=(
        f"{_STUDENT_WORK} Structure your response into two sections, Thought and Solution. Write the thought as "
        "<|begin_of_thought|> thought <|end_of_thought|> and the solution, once you are sure of it, as "
        "<|begin_of_solution|> solution <|end_of_solution|>."
    ),
    teacher_system=(
        f"{_TEACHER_WORK} Write the Solution section as <|begin_of_solution|> solution <|end_of_solution|> and the "
        "Explanation section as <|begin_of_explanation|> explanation <|end_of_explanation|>."
    ),
)

THINK = Tags(
    solution_open="<solution>\n",
    solution_close="\n</solution>\n\n",
    explanation_open="<think>\n",
    explanation_close="</think>",
    thought_open="<think>\n",
    thought_close="</think>\n\n",
    answer_open="",
    answer_close="",
    student_system=f"{_STUDENT_WORK} Write your thought as <think> thought </think>, then the solution.",
    teacher_system=(
        f"{_TEACHER_WORK} Write the solution as <solution> solution </solution> and the work as <think> work </think>."
    ),
)

STYLES: dict[TagStyle, Tags] = {"rlt": RLT, "think": THINK}
