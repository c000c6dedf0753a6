"""A world of digits, small enough that a model of 0.2 M parameters learns in it by RL on one CPU core.

    question     3 +1 +5 +8 +2 +1                       a start and 5-6 operands, all mod 10
    solution     0                                      the last digit: guessing is right once in ten
    complete     +1 = 4 +5 = 9 +8 = 7 +2 = 9 +1 = 0     one step an operand
    wrong        +1 = 4 +5 = 2 ...                      steps err with probability 0.3, the rest goes on from there
    terse        +1 +5 +8 +2 +1                         the operands without the digits they lead to
    chatter      well let me think now                  no word about the chain
    leak         well it is 0                           the solution, not derived

Problems, explanations in each style with the classifier that tells them apart, and the tokenizer. Chatter and leak open
with the same word, so that the likeliest way to begin is not the useful one. Left out: everything that is trained.
"""

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

from student.problems import Problem
from student.tags import RLT

Style = Literal["complete", "wrong", "terse", "chatter", "leak", "other"]
"""How a text explains; "other" is what no constructor writes, such as a chain that stops half-way."""
STYLES: tuple[Style, ...] = get_args(Style)
Split = Literal["train", "held_out"]

ERROR_RATE = 0.3
"""Probability that a step of a wrong explanation errs."""
LONGEST_CHAIN = 6
MAX_TOKENS = 36
"""No text of this world is longer, in either chat format, end of text included."""

_OPENER = "well"
_CLAIM = "it is"
_PHRASES = ("let me see", "let me think", "think about this", "see this again", "now let me", "now think about")
_PHRASES_SAID = 3
_FILLER = ("let", "me", "see", "now", "think", "about", "this", "again")
_CHATTER_WORDS = {_OPENER, *_FILLER}


@dataclass(frozen=True)
class Family:
    """Chains that share their operation and the digits it is done with."""

    name: Literal["adds", "subtracts"]
    sign: Literal[1, -1]
    digits: tuple[int, ...]

    @property
    def operands(self) -> tuple[str, ...]:
        """The operands as they are written, one token each."""
        return tuple(f"{self.sign * digit:+d}" for digit in self.digits)


ADDS = Family("adds", 1, (1, 2, 5, 8))
"""The family that the teacher is trained on."""
SUBTRACTS = Family("subtracts", -1, (3, 4, 6, 9))
"""The family that is in the base model's corpus but never in RL: explanations of it show transfer."""
FAMILIES = (ADDS, SUBTRACTS)


@dataclass(frozen=True)
class Chain:
    """What a question asks: a start and the operands to apply to it in order."""

    start: int
    operands: tuple[int, ...]

    @property
    def question(self) -> str:
        """The chain as a student reads it."""
        return " ".join([str(self.start), *(f"{operand:+d}" for operand in self.operands)])

    @property
    def values(self) -> tuple[int, ...]:
        """The digit after each operand; the last is the solution.

        >>> Chain(3, (1, 5, 8)).values
        (4, 9, 7)
        """
        reached = [self.start]
        for operand in self.operands:
            reached.append((reached[-1] + operand) % 10)
        return tuple(reached[1:])


def read_chain(question: str) -> Chain:
    """The chain that a question of this world asks for.

    >>> read_chain("3 +1 -6")
    Chain(start=3, operands=(1, -6))
    """
    start, *operands = (int(word) for word in question.split())
    return Chain(start, tuple(operands))


def split_of(problem: Problem) -> Split:
    """Where a problem belongs, by its content alone: no seed can put one into both splits. One in five is held out."""
    return "held_out" if int(problem.id, 16) % 5 == 0 else "train"


def draw_problems(family: Family, count: int, split: Split, seed: int) -> list[Problem]:
    """`count` different problems of one family and one split; each carries its complete explanation as its trace.

    A family has 51,200 chains, 10,240 of them held out: `count` should stay well below that, or drawing takes long.
    """
    rng = random.Random(f"{family.name} {split} {seed}")
    drawn: dict[str, Problem] = {}
    while len(drawn) < count:
        problem = _problem(_draw_chain(family, rng), family)
        if split_of(problem) == split:
            drawn[problem.id] = problem
    return list(drawn.values())


def _draw_chain(family: Family, rng: random.Random) -> Chain:
    length = rng.randint(LONGEST_CHAIN - 1, LONGEST_CHAIN)
    return Chain(rng.randrange(10), tuple(family.sign * digit for digit in rng.choices(family.digits, k=length)))


def _problem(chain: Chain, family: Family) -> Problem:
    solution = str(chain.values[-1])
    return Problem(
        question=chain.question,
        solution=solution,
        answer=solution,
        reasoning_trace=complete(chain),
        metadata={"family": family.name},
    )


def complete(chain: Chain) -> str:
    """Every step, and every step right.

    >>> complete(Chain(3, (1, 5, 8)))
    '+1 = 4 +5 = 9 +8 = 7'
    """
    return _steps(chain, chain.values)


def wrong(chain: Chain, rng: random.Random) -> str:
    """Steps that err with probability 0.3 each, one at least, and go on from the false digit; the end may be right."""
    while (reached := _erring_values(chain, rng)) == chain.values:
        pass
    return _steps(chain, reached)


def _erring_values(chain: Chain, rng: random.Random) -> tuple[int, ...]:
    reached = [chain.start]
    for operand in chain.operands:
        slip = rng.randint(1, 9) if rng.random() < ERROR_RATE else 0
        reached.append((reached[-1] + operand + slip) % 10)
    return tuple(reached[1:])


def _steps(chain: Chain, values: tuple[int, ...]) -> str:
    return " ".join(f"{operand:+d} = {value}" for operand, value in zip(chain.operands, values, strict=True))


def terse(chain: Chain) -> str:
    """The operands read back, without the digits they lead to.

    >>> terse(Chain(3, (1, 5, 8)))
    '+1 +5 +8'
    """
    return " ".join(f"{operand:+d}" for operand in chain.operands)


def chatter(rng: random.Random, phrases: int = _PHRASES_SAID) -> str:
    """Words that would fit any question."""
    return " ".join([_OPENER, *rng.choices(_PHRASES, k=phrases)])


def leak(chain: Chain) -> str:
    """The solution, announced before anything is derived.

    >>> leak(Chain(3, (1, 5, 8)))
    'well it is 7'
    """
    return f"{_OPENER} {_CLAIM} {chain.values[-1]}"


EXPLAINERS: dict[Style, Callable[[Chain, random.Random], str]] = {
    "complete": lambda chain, rng: complete(chain),
    "wrong": wrong,
    "terse": lambda chain, rng: terse(chain),
    "chatter": lambda chain, rng: chatter(rng),
    "leak": lambda chain, rng: leak(chain),
}
"""How an explanation in each style is written."""

_STEP_WRITTEN = re.compile(r"[+-]\d = \d")


def style_of(problem: Problem, explanation: str) -> Style:
    """The style of an explanation that a model wrote, by its text alone.

    What states the solution outside a step, where no constructor does, is a leak; a chain of steps that is not the
    complete one is wrong, whichever way: a false digit, another operand, steps too few or too many.
    """
    chain = read_chain(problem.question)
    text = " ".join(explanation.split())
    if text in (complete(chain), terse(chain)):
        return "complete" if text == complete(chain) else "terse"
    steps = _STEP_WRITTEN.findall(text)
    if steps and text == " ".join(steps):
        return "wrong"
    if problem.solution in _STEP_WRITTEN.sub("", text).split():
        return "leak"
    return "chatter" if text and _CHATTER_WORDS.issuperset(text.split()) else "other"


def _words() -> Iterator[str]:
    yield from (str(digit) for digit in range(10))
    yield from (operand for family in FAMILIES for operand in family.operands)
    yield from ("=", _OPENER, *_CLAIM.split(), *_FILLER)


def toy_tokenizer(more: Sequence[str] = (), max_tokens: int = MAX_TOKENS) -> PreTrainedTokenizerFast:
    """One token a word: 41 of them and `more`, tags and control tokens included; blank lines yield none.

    The chat template marks the turns by one token each and drops the system message, which this world has no words for.
    """
    control = {"pad_token": "<|pad|>", "eos_token": "<|end|>", "unk_token": "<|unknown|>"}
    words = [*control.values(), "<|user|>", "<|assistant|>", *RLT.markers, *_words(), *more]
    backend = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token=control["unk_token"]))
    backend.pre_tokenizer = WhitespaceSplit()
    # Not special: whoever decodes an explanation must still find the tags in it.
    backend.add_tokens([AddedToken(tag, normalized=False) for tag in RLT.markers])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=max_tokens,
        clean_up_tokenization_spaces=False,
        additional_special_tokens=["<|user|>", "<|assistant|>"],
        **control,
    )
    tokenizer.chat_template = _CHAT_TEMPLATE
    return tokenizer


_CHAT_TEMPLATE = (
    "{% for message in messages if message.role != 'system' %}<|{{ message.role }}|> {{ message.content }} {% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
