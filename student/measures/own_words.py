"""What a student writes itself from where it has read to: the rest of a thought, or its answer; greedily.

    thoughts    question, thought so far        -> how the student finishes it, up to the tag that closes a thought
    answers     question, thought, closing tag  -> its solution, up to the tag that closes it, and whether it is right

It is written by the model that reads, in this process; a text that does not end within `max_tokens` is cut. Left out:
further tries at higher temperatures, see `rlt evaluate`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from student.configs import SamplingSettings
from student.engine import Request, Sample, TransformersEngine
from student.grading import Method, grade
from student.reading import Passage, StudentFormat
from student.scoring.alignment import plain_ids
from student.scoring.scorer import Scorer

MOST_AT_ONCE = 64
"""Texts that are written together at most; long ones are fewer, as tokens_per_batch has it."""


@dataclass(frozen=True)
class Answer:
    """What a student answered, and whether it is right; what was cut before it ended is not."""

    text: str
    right: bool


class OwnWords:
    """Writes with the model that a scorer reads with; holds no state besides."""

    def __init__(self, scorer: Scorer, form: StudentFormat, max_tokens: int) -> None:
        self._engine = TransformersEngine(scorer.model, form.tokenizer, logps=False)
        self._tokens_at_once, self._max_tokens = scorer.tokens_per_batch, max_tokens
        self._form = form

    def thoughts(self, passages: Sequence[Passage]) -> list[list[int]]:
        """For each passage, read up to the end of its explanation, the tokens with which the thought goes on."""
        tag = self._form.tags.thought_close.strip()
        written = self._written([passage.input_ids[: passage.explanation.stop] for passage in passages])
        return [plain_ids(self._form.tokenizer, text.partition(tag)[0]) for text, _ in written]

    def answers(self, passages: Sequence[Passage], expected: Sequence[str], method: Method) -> list[Answer]:
        """What the student answers behind each passage's explanation, graded against what is expected."""
        tag = self._form.tags.answer_close.strip()
        written = self._written([passage.input_ids[: passage.solution.start] for passage in passages])
        return [_answer(*each, tag, gold, method) for each, gold in zip(written, expected, strict=True)]

    def _written(self, prompts: Sequence[Sequence[int]]) -> list[tuple[str, bool]]:
        """The text behind each prompt, and whether it ended; equal prompts are gone on from once."""
        distinct = list(dict.fromkeys(map(tuple, prompts)))
        requests = [Request(list(prompt), seed=0) for prompt in distinct]
        samples = dict(zip(distinct, self._engine.sample(requests, self._sampling(distinct)), strict=True))
        return [self._told(samples[tuple(prompt)]) for prompt in prompts]

    def _sampling(self, prompts: Sequence[Sequence[int]]) -> SamplingSettings:
        longest = max(map(len, prompts), default=0) + self._max_tokens
        together = max(1, min(MOST_AT_ONCE, self._tokens_at_once // longest))
        return SamplingSettings(temperature=0, max_tokens=self._max_tokens, batch_size=together)

    def _told(self, sample: Sample) -> tuple[str, bool]:
        return str(self._form.tokenizer.decode(sample.token_ids, clean_up_tokenization_spaces=False)), sample.finished


def _answer(text: str, finished: bool, tag: str, expected: str, method: Method) -> Answer:
    told, closed, _ = text.partition(tag) if tag else (text, "", "")
    return Answer(told.strip(), bool(closed or finished) and grade(told, expected, method))
