"""Zero-shot transfer to countdown at toy size: a teacher that RL has only seen arithmetic explains another task.

    python -m benchmarks.transfer                     # five seeds, about three minutes of one core each
    python -m benchmarks.transfer --seeds 1 --out toy

One base is teacher, reward student and student, warmed up on both tasks (countdown_world.py) in all styles. RL trains
the teacher on arithmetic alone; then it is shown 1,024 countdown problems with their solutions. Students learn from

    answers_only    the solutions alone
    base_teacher    the base's explanations of them
    rlt_teacher     the teacher's, zero-shot
    gold            the complete explanations
    direct_rl       no teacher: the base by RL on its own right answers to the same problems, with as many samples as
                    the teacher's RL had (the paper's rival, arXiv 2506.08388)

and are evaluated on 1,000 problems whose numbers and target are in no other file, at temperature 1, by the exact
checker of `rlt countdown`. Left out: a teacher trained on countdown itself, other mixtures of the base's corpus.
"""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.countdown_world import tokenizer, write_corpora
from benchmarks.toy import Result, Results, accuracy, rows_used, run
from student.coldstart import main as coldstart
from student.explanations import read_explanations
from student.problem_files import read_problems
from student.tags import RLT
from teacher.demo.ablations import cold_start
from teacher.demo.chain import STUDENTS, TEACHERS, Chain
from teacher.demo.initial import make_initial
from teacher.demo.phases import Phase
from teacher.demo.settings import Recipe
from teacher.grpo import Rollout
from teacher.warmup import main as warm_up

DIRECT_RL = "direct_rl"
SKILL_TIMES = 3
"""Warm-up on the skill takes so many times the toy world's problems: 436 different steps come up here, 80 there."""
HELD_OUT = 1000
"""Held-out problems at most."""
LONGEST_PROMPT = 40
"""Tokens, in RL."""


class CountdownChain(Chain):
    """The chain of the toy world in another one."""

    def base_phases(self) -> list[Phase]:
        """From nothing to the base model."""
        skill, base = self.recipe.skill, self.recipe.base
        return [
            Phase("problems", 1, lambda: write_corpora(self.recipe, self.seed)),
            Phase("initial model", 0.1, lambda: make_initial(Path(skill.model), self.seed, tokenizer())),
            Phase("warm up on the skill", 28, lambda: warm_up(skill)),
            Phase("warm up on all styles", 25, lambda: warm_up(base)),
        ]

    def _observe(self, step: int, rollouts: Sequence[Rollout]) -> dict[str, float]:
        """Nothing besides: the styles that the toy world logs are told apart by its own texts."""
        return {}


def in_this_world(recipe: Recipe) -> Recipe:
    """The toy world's recipe with what countdown needs: its checker, its numbers of problems, room for its prompts."""
    skill, train, evaluate = recipe.skill, recipe.train, recipe.evaluate
    rollout = train.rollout.model_copy(update={"max_prompt_tokens": LONGEST_PROMPT})
    graded = {"grading": "countdown", "limit": min(HELD_OUT, evaluate.limit or 0)}
    return recipe.model_copy(
        update={
            "skill": skill.model_copy(update={"limit": SKILL_TIMES * (skill.limit or 0)}),
            "train": train.model_copy(update={"rollout": rollout}),
            "evaluate": evaluate.model_copy(update=graded),
        }
    )


def one_seed(recipe: Recipe, seed: int) -> Results:
    """The base and every student of a seed."""
    chain = CountdownChain(in_this_world(recipe), seed)
    base = chain.model("base")
    for phase in [
        *chain.base_phases(),
        chain.evaluate("base", base),
        chain.train("rlt_teacher"),
        *(chain.explain(teacher) for teacher in TEACHERS),
        *(phase for student in STUDENTS for phase in chain.student(student)),
    ]:
        phase.run()
    train_directly(chain)
    grpo, problems = chain.recipe.train.grpo, chain.recipe.explain.limit or 0
    rl = grpo.steps * grpo.prompts_per_step * grpo.group_size
    drawn = {"base_teacher": problems, "rlt_teacher": rl + problems}
    return {
        "base": Result(accuracy(chain, "base")),
        **{
            name: Result(accuracy(chain, name), rows_used(chain, name), drawn.get(name, 0), complete_share(chain, name))
            for name in STUDENTS
        },
        DIRECT_RL: Result(accuracy(chain, DIRECT_RL), samples=rl),
    }


def train_directly(chain: Chain) -> None:
    """The base by RL on its own right answers to the problems that are explained, and its evaluation."""
    config = cold_start(chain, DIRECT_RL, chain.model("base"))
    coldstart(config.model_copy(update={"problems": chain.recipe.explain.problems}))
    chain.evaluate(DIRECT_RL, config.out).run()


def complete_share(chain: Chain, name: str) -> float | None:
    """The share of a student's explanations that are the complete one to the letter; None where it saw none."""
    if name == "answers_only":
        return None
    gold = {problem.id: problem.reasoning_trace for problem in read_problems(chain.recipe.explain, RLT)}
    rows = read_explanations(chain.source(name), RLT)
    return sum(" ".join(row.explanation.split()) == gold[row.problem_id] for row in rows) / len(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the seeds and prints the table."""
    run(__doc__, "demo/transfer", "rlt_teacher", one_seed, arguments)


if __name__ == "__main__":
    main()
