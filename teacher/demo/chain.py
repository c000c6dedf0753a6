"""The chain of one seed, made of the verbs that everybody uses: from problems to students and their accuracy.

    initial -> skill -> base                      warm-up, twice; the base is teacher, reward student and student
    base -> rlt_teacher                           RL against the base itself
    base_teacher, rlt_teacher                     explain the same problems
    answers_only, base_teacher, rlt_teacher, gold the base distilled on each of four versions of them
    subtracts_*                                   the same two teachers and students for the family that RL never saw

Every file is left in the seed's folder, where a verb started by hand finds it. Ablations are ablations.py.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from student.distill import main as distill
from student.evaluate import main as evaluate
from student.problems import Problem
from teacher.demo.corpus import subtracts, write_corpora
from teacher.demo.initial import make_initial
from teacher.demo.phases import Phase
from teacher.demo.settings import Recipe
from teacher.demo.world import STYLES, Style, style_of
from teacher.explain import main as explain
from teacher.grpo import Rollout
from teacher.score import main as score
from teacher.train import main as train
from teacher.warmup import main as warm_up

TEACHERS = ("base_teacher", "rlt_teacher")
"""Who explains: the base before RL, and after."""
STUDENTS = ("answers_only", "base_teacher", "rlt_teacher", "gold")
"""What students are distilled on; gold is the complete explanation of every problem."""
TRANSFER = "subtracts_"
"""What names of the family begin with that RL never saw."""
STYLE_METRIC = "style/"
"""What the share of a style is logged as, before its name."""


@dataclass(frozen=True)
class Chain:
    """The phases that a seed's run is put together from; the settings are the recipe's, the names are given.

    `note` is called once a step of RL.
    """

    recipe: Recipe
    seed: int
    note: Callable[[], None] = lambda: None

    def phases(self) -> list[Phase]:
        """What `rlt demo` does for a seed."""
        return [
            *self.base_phases(),
            self.evaluate("base", self.model("base")),
            self.train("rlt_teacher"),
            *(self.explain(teacher) for teacher in TEACHERS),
            *(self.score(teacher, self.teacher(teacher)) for teacher in TEACHERS),
            *(phase for student in STUDENTS for phase in self.student(student)),
            *(phase for teacher in TEACHERS for phase in self.transfer(teacher)),
        ]

    def base_phases(self) -> list[Phase]:
        """From nothing to the base model."""
        return [
            Phase("problems", 1, lambda: write_corpora(self.recipe, self.seed)),
            Phase("initial model", 0.1, lambda: make_initial(Path(self.recipe.skill.model), self.seed)),
            Phase("warm up on the skill", 9, lambda: warm_up(self.recipe.skill)),
            Phase("warm up on all styles", 25, lambda: warm_up(self.recipe.base)),
        ]

    def student(self, name: str, explanations: str | None = None, base: str | None = None) -> list[Phase]:
        """A student is distilled and evaluated; on the explanations of its name, from the base, if nothing is said."""
        source = explanations or self.source(name)
        return [self.distill(name, source, base), self.evaluate(name, self.student_folder(name))]

    def transfer(self, teacher: str) -> list[Phase]:
        """A teacher explains the other family, a student learns from that and is evaluated on that family."""
        name = TRANSFER + teacher
        return [
            self.explain(name, model=self.teacher(teacher), problems=subtracts(self.recipe.explain.problems)),
            self.distill(name, self.explanations(name)),
            self.evaluate(name, self.student_folder(name), problems=subtracts(self.recipe.evaluate.problems)),
        ]

    def train(self, name: str, reward: Mapping[str, float] | None = None) -> Phase:
        """RL from the base, with changes to the reward."""
        config = self.recipe.train
        changed = config.reward.model_copy(update=dict(reward or {}))
        changed_config = config.model_copy(update={"out": self.model(name), "reward": changed})
        return Phase(f"train {name}", 36, lambda: train(changed_config, [self._observe]))

    def explain(self, name: str, model: str | None = None, **changes: Any) -> Phase:
        """Explanations under a name, by the teacher of that name where no model is given."""
        values = {"teacher": model or self.teacher(name), "out": self.explanations(name), **changes}
        config = self.recipe.explain.model_copy(update=values)
        return Phase(f"explain {name}", config.samples, lambda: explain(config))

    def score(self, name: str, teacher: str, samples: int = 1) -> Phase:
        """The scores of the explanations of that name, which `teacher` wrote."""
        values = {"traces": self.explanations(name), "teacher": teacher, "out": self.scores(name)}
        config = self.recipe.score.model_copy(update=values)
        return Phase(f"score {name}", samples, lambda: score(config))

    def distill(self, name: str, explanations: str, student: str | None = None) -> Phase:
        """A student, the base where no other is given, learns from explanations."""
        think: Literal["none", "explanation"] = "none" if name == "answers_only" else "explanation"
        values = {"explanations": explanations, "out": self.student_folder(name), "think": think}
        config = self.recipe.distill.model_copy(update=values | ({"student": student} if student else {}))
        return Phase(f"distil {name}", 2, lambda: distill(config))

    def evaluate(self, name: str, model: str, **changes: Any) -> Phase:
        """A model's accuracy on held-out problems, adding ones where nothing else is said."""
        values = {"model": model, "out": self.evaluation(name), **changes}
        config = self.recipe.evaluate.model_copy(update=values)
        return Phase(f"evaluate {name}", 2, lambda: evaluate(config))

    def model(self, name: str) -> str:
        """The folder of a base or a teacher."""
        return beside(self.recipe.train.out, name)

    def teacher(self, name: str) -> str:
        """The folder of the model that explains under a name: the base for base_teacher."""
        return self.model("base" if name == "base_teacher" else name)

    def source(self, name: str) -> str:
        """What a student of that name learns from: for two of them the problems with their complete traces."""
        return self.recipe.explain.problems if name in ("answers_only", "gold") else self.explanations(name)

    def explanations(self, name: str) -> str:
        """The file of explanations of that name."""
        return beside(self.recipe.explain.out, f"{name}.jsonl")

    def scores(self, name: str) -> str:
        """The file of scored explanations of that name."""
        return beside(self.recipe.score.out, f"{name}.jsonl")

    def student_folder(self, name: str) -> str:
        """The folder of the student of that name."""
        return beside(self.recipe.distill.out, name)

    def evaluation(self, name: str) -> str:
        """The folder of the evaluation of that name."""
        return beside(self.recipe.evaluate.out, name)

    def _observe(self, step: int, rollouts: Sequence[Rollout]) -> dict[str, float]:
        """The share of each style among a step's explanations, for the log."""
        self.note()
        drafts = [rollout.draft for rollout in rollouts]
        shares = style_shares([(draft.question, draft.solution, draft.explained.text) for draft in drafts])
        return {STYLE_METRIC + style: share for style, share in shares.items()}


def beside(path: str, name: str) -> str:
    """The file or folder `name` in the folder that `path` is in.

    >>> beside("demo/seed-0/models/base", "skill")
    'demo/seed-0/models/skill'
    """
    return str(Path(path).with_name(name))


def style_shares(explained: Sequence[tuple[str, str, str]]) -> dict[Style, float]:
    """The share of each style among explanations, given as question, solution and explanation.

    >>> style_shares([("3 +1", "4", "+1 = 4"), ("3 +1", "4", "well the answer is 4")])["leak"]
    0.5
    """
    styles = Counter(style_of(Problem(question=asked, solution=solved), text) for asked, solved, text in explained)
    return {style: styles[style] / len(explained) for style in STYLES}
