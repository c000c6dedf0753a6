"""Arithmetic and countdown as two tasks of one toy world, in the styles of teacher/demo/world.py.

    arithmetic   question ( 3 + 7 ) / 2      solution 5                explanation 3 + 7 = 10 , 10 / 2 = 5
    countdown    question make 5 of 3 7 2    solution ( 3 + 7 ) / 2    the same

To explain either is to work out an expression that the teacher is shown. To solve them is not alike: who solves
countdown must find the expression. Problems are those of `rlt countdown` in fewer words. Held out are whole sets of
numbers with their target, from both tasks and in every order.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

from transformers import PreTrainedTokenizerFast

from student.countdown import draw_problem
from student.problem_files import write_problems
from student.problems import Problem, content_id
from teacher.demo.corpus import SHARES, SKILL
from teacher.demo.settings import Recipe
from teacher.demo.world import ERROR_RATE, Split, Style, chatter, toy_tokenizer

Task = Literal["arithmetic", "countdown"]
TASKS: tuple[Task, ...] = get_args(Task)

NUMBERS = 3
LARGEST_NUMBER = 12
LARGEST_TARGET = 20
MAX_TOKENS = 64
MORE_WORDS = (*map(str, range(10, LARGEST_TARGET + 1)), "+", "-", "*", "/", "(", ")", ",", "make", "of")


def tokenizer() -> PreTrainedTokenizerFast:
    """The toy world's, with the words that this one needs besides."""
    return toy_tokenizer(MORE_WORDS, MAX_TOKENS)


def write_corpora(recipe: Recipe, seed: int) -> None:
    """Writes every problem file that the recipe names: RL is on arithmetic, what comes after it on countdown."""
    train, explain, held_out = recipe.train.limit or 0, recipe.explain.limit or 0, recipe.evaluate.limit or 0
    files = {
        recipe.skill.problems: styled(both_tasks(recipe.skill.limit or 0, f"{seed} skill"), SKILL, seed),
        recipe.base.problems: styled(both_tasks(recipe.base.limit or 0, f"{seed} styles"), SHARES, seed),
        recipe.train.problems: draw("arithmetic", train, "train", f"{seed} train"),
        recipe.explain.problems: draw("countdown", explain, "train", f"{seed} explain"),
        recipe.evaluate.problems: draw("countdown", held_out, "held_out", f"{seed}"),
    }
    for path, problems in files.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_problems(problems, Path(path))


def both_tasks(count: int, seed: str) -> list[Problem]:
    """Problems for warm-up, half of each task, shuffled."""
    drawn = [each for task in TASKS for each in draw(task, count // 2, "train", seed)]
    random.Random(f"order {seed}").shuffle(drawn)
    return drawn


def draw(task: Task, count: int, split: Split, seed: str) -> list[Problem]:
    """`count` problems of one task and one split, no question twice; countdown has about ten thousand questions."""
    rng = random.Random(f"{task} {split} {seed}")
    drawn: dict[str, Problem] = {}
    while len(drawn) < count:
        problem = _problem(task, draw_problem(rng, NUMBERS, LARGEST_NUMBER, LARGEST_TARGET))
        if split_of(problem) == split:
            drawn[problem.question] = problem
    return list(drawn.values())


def split_of(problem: Problem) -> Split:
    """Where a problem belongs, by its numbers and its target alone. One set in five is held out."""
    key = content_id(*map(str, sorted(problem.metadata["numbers"])), str(problem.metadata["target"]))
    return "held_out" if int(key, 16) % 5 == 0 else "train"


def _problem(task: Task, drawn: Problem) -> Problem:
    numbers, target = drawn.metadata["numbers"], drawn.metadata["target"]
    expression = drawn.solution.replace("(", "( ").replace(")", " )")
    assert drawn.reasoning_trace is not None, "countdown's problems come with their steps"
    asked, solved = (
        (expression, str(target))
        if task == "arithmetic"
        else (f"make {target} of {' '.join(map(str, numbers))}", expression)
    )
    return Problem(
        question=asked,
        solution=solved,
        answer=solved,
        reasoning_trace=drawn.reasoning_trace.replace("\n", " , "),
        metadata={"numbers": numbers, "target": target},
    )


def styled(problems: Sequence[Problem], shares: Mapping[Style, float], seed: object) -> list[Problem]:
    """The problems, each with an explanation in a style drawn by `shares` as its trace."""
    rng = random.Random(f"styles {seed}")
    styles = rng.choices(list(shares), list(shares.values()), k=len(problems))
    return [
        problem.model_copy(update={"reasoning_trace": explained(problem, style, rng)})
        for problem, style in zip(problems, styles, strict=True)
    ]


def explained(problem: Problem, style: Style, rng: random.Random) -> str:
    """A problem's explanation in a style; its own trace is the complete one."""
    assert problem.reasoning_trace is not None, "problems of this world carry their complete explanation"
    if style == "wrong":
        return wrong(problem.reasoning_trace, rng)
    others = {
        "complete": problem.reasoning_trace,
        "terse": " ".join(map(str, problem.metadata["numbers"])),
        "chatter": chatter(rng),
        "leak": f"well it is {problem.solution}",
    }
    return others[style]


def wrong(trace: str, rng: random.Random) -> str:
    """Steps of which one at least has a false result, with which the next step goes on; the end may be right."""
    while (erring := " , ".join(_erring_steps(trace.split(" , "), rng))) == trace:
        pass
    return erring


def _erring_steps(steps: Sequence[str], rng: random.Random) -> Iterator[str]:
    reached: dict[str, str] = {}
    for step in steps:
        left, sign, right, _, result = step.split()
        # The number that the step before ended with, under its false value.
        said_left, said_right = reached.get(left, left), right if left in reached else reached.get(right, right)
        said = str(rng.randint(1, LARGEST_TARGET)) if rng.random() < ERROR_RATE else result
        reached = {result: said}
        yield f"{said_left} {sign} {said_right} = {said}"
