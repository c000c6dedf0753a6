"""What is scored in `rlt bench score`: additions explained at length, and random models that read them.

Nothing is downloaded. A text is made so that tokenising it as a whole gives the very ids that our formats join from
pieces, and that is asserted: so both sides read the same tokens, and their rewards can be compared to 1e-5.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from student.chat import encode
from student.configs import RewardConfig
from student.problems import Problem
from student.reading import StudentFormat
from student.scratch import ModelShape, corpus, random_model, train_tokenizer
from student.tags import RLT
from teacher.prompts import Explained, TeacherFormat
from teacher.reward_model import Draft

REWARD = RewardConfig()
"""The paper's coefficients and temperature."""
BODY = ModelShape(
    hidden_size=256, layers=4, heads=4, key_value_heads=4, intermediate_size=768, max_tokens=8192, rope_theta=10_000.0
)
"""Small, so that the vocabulary's share shows at its worst."""
MOST_TOKENS = 4096
"""What the tokenizer learns at most. A larger vocabulary is the model's alone: it costs the same, read or not."""
SPREAD = 4.0
"""The last norm's weight: random logits then differ by nats, as a trained model's do, and not by tenths."""

_STEPS = (
    "Take {first} and add {second}: that makes {total}.",
    "Now the tens: {first} has them, {second} may carry one over, and the sum {total} agrees.",
    "Check it backwards, {total} minus {second} is {first} again, as it should be.",
    "So far we have {first}; with {second} more we reach {total}, and nothing is left out.",
    "Suppose instead that it were {second} first, then {first}: the order does not matter, {total}.",
    "Let us verify the digits of {total} one by one before going on with {second}.",
)


@dataclass(frozen=True)
class Shape:
    """How much is scored: `problems` groups of `group` explanations, of `shortest` to `longest` tokens, evenly."""

    problems: int
    group: int
    shortest: int
    longest: int

    @property
    def explanations(self) -> int:
        """All of them."""
        return self.problems * self.group

    def lengths(self) -> list[int]:
        """Tokens of each explanation in an order fixed by the shape; their mean is the same for any number of them.

        >>> sorted(Shape(1, 4, 50, 400).lengths())
        [93, 181, 268, 356]
        """
        width = (self.longest - self.shortest) / self.explanations
        lengths = [int(self.shortest + (place + 0.5) * width) for place in range(self.explanations)]
        random.Random(self.explanations).shuffle(lengths)
        return lengths


@dataclass(frozen=True)
class World:
    """A student, a teacher and their tokenizer."""

    tokenizer: PreTrainedTokenizerBase
    student: PreTrainedModel
    teacher: PreTrainedModel

    @property
    def student_format(self) -> StudentFormat:
        """What the student reads."""
        return StudentFormat(self.tokenizer, RLT)

    @property
    def teacher_format(self) -> TeacherFormat:
        """What the teacher sees."""
        return TeacherFormat(self.tokenizer, RLT)


def make_world(vocabulary: int) -> World:
    """Two random models of that many tokens, float32, on the CPU."""
    texts = [*corpus([_problem(number) for number in range(200)]), *(_story(200, number) for number in range(20))]
    tokenizer = train_tokenizer(texts, min(vocabulary, MOST_TOKENS))
    return World(tokenizer, *(_model(tokenizer, vocabulary, seed) for seed in (1, 2)))


def _model(tokenizer: PreTrainedTokenizerBase, vocabulary: int, seed: int) -> PreTrainedModel:
    model = random_model(tokenizer, BODY, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.resize_token_embeddings(vocabulary, mean_resizing=False)
    with torch.no_grad():
        model.model.norm.weight.mul_(SPREAD)
    model.eval()
    return model


def make_drafts(world: World, shape: Shape) -> list[Draft]:
    """The explanations of a shape, group by group, the same every time; without the teacher's log-probabilities."""
    lengths = shape.lengths()
    drafts = [_draft(world, _problem(place // shape.group), place, length) for place, length in enumerate(lengths)]
    for draft in drafts:
        _assert_same_tokens(world, draft)
    return drafts


def with_teacher_logps(world_drafts: list[Draft], logps: list[Tensor]) -> list[Draft]:
    """The drafts as a trainer hands them in: the teacher's log-probabilities are known from sampling."""
    return [replace(draft, teacher_logps_E=logps_E) for draft, logps_E in zip(world_drafts, logps, strict=True)]


def _problem(number: int) -> Problem:
    first, second = 100 + number, 2 + 7 * number % 90
    total = first + second
    return Problem(
        question=f"Ann has {first} apples and buys {second} more. How many apples does she have, and why?",
        solution=f"She has {first} apples and buys {second}, which makes {total}; the answer is {total}",
    )


def _story(steps: int, seed: int) -> str:
    return " ".join(_sentences(steps, random.Random(seed)))


def _sentences(steps: int, draw: random.Random) -> Iterator[str]:
    for _ in range(steps):
        first, second = draw.randrange(100, 1000), draw.randrange(2, 100)
        yield draw.choice(_STEPS).format(first=first, second=second, total=first + second)


def _draft(world: World, problem: Problem, seed: int, length: int) -> Draft:
    """An explanation of `length` tokens, give or take the few of its last word."""
    long_ids = encode(world.tokenizer, _story(length // 10 + 5, seed))
    assert len(long_ids) > length
    text = str(world.tokenizer.decode(long_ids[: length - 2])).rstrip() + ".\n\n"
    ids = encode(world.tokenizer, text)
    return Draft(problem.question, problem.solution, Explained(ids, text, closed=True, sampled_tokens=len(ids)))


def _assert_same_tokens(world: World, draft: Draft) -> None:
    """The text as a whole has the tokens that our format joins from pieces."""
    passage = world.student_format.read(draft.question, draft.explained.explanation_ids, draft.solution)
    assert world.tokenizer.decode(draft.explained.explanation_ids) == draft.explained.text
    whole = encode(world.tokenizer, str(world.tokenizer.decode(passage.input_ids)) + RLT.answer_close)
    assert whole[: len(passage.input_ids)] == passage.input_ids
