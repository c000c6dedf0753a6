"""What the student reads: question, thought and solution as one row of token ids whose spans are known by construction.

    chat(system, question) | thought_open | explanation | thought_close | answer_open | solution | answer_close | eos

Each piece is tokenised by itself and the ids are joined (method.md 2 and 8): a span is where it was put, so tag strings
inside a text, several end tags or tokens that would merge across a border cannot move it. The same layout is what
students are distilled on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from transformers import PreTrainedTokenizerBase

from student.chat import chat_ids, encode, refuse_control_tokens
from student.errors import ScoringError
from student.tags import Tags


@dataclass(frozen=True)
class Passage:
    """One row for a model to read, and where in it the explanation and the solution stand (either may be empty)."""

    input_ids: list[int]
    explanation: range
    solution: range
    cut_tokens: int = 0
    """Explanation tokens left out because the row would not have fitted."""

    @property
    def explanation_ids(self) -> list[int]:
        """The explanation's tokens."""
        return self.input_ids[self.explanation.start : self.explanation.stop]

    @property
    def solution_ids(self) -> list[int]:
        """The solution's tokens."""
        return self.input_ids[self.solution.start : self.solution.stop]

    def solution_only(self) -> "Passage":
        """The same row, its explanation counted to what stands before: read, and not asked about."""
        return replace(self, explanation=range(self.explanation.stop, self.explanation.stop))

    def thought_on(self, ids: Sequence[int], max_tokens: int | None) -> "Passage":
        """The same row with more of the thought behind its explanation, as many tokens as fit.

        >>> Passage([7, 1, 9, 5], range(1, 2), range(3, 4)).thought_on([2, 3], max_tokens=5)
        Passage(input_ids=[7, 1, 2, 9, 5], explanation=range(1, 2), solution=range(4, 5), cut_tokens=0)
        """
        more = ids if max_tokens is None else ids[: max(0, max_tokens - len(self.input_ids))]
        border, later = self.explanation.stop, len(more)
        return replace(
            self,
            input_ids=[*self.input_ids[:border], *more, *self.input_ids[border:]],
            solution=range(self.solution.start + later, self.solution.stop + later),
        )


def assemble(
    before: Sequence[int], explanation: Sequence[int], between: Sequence[int], solution: Sequence[int]
) -> Passage:
    """A passage of the four pieces in order.

    >>> assemble([7, 7], [1, 2, 3], [9], [5])
    Passage(input_ids=[7, 7, 1, 2, 3, 9, 5], explanation=range(2, 5), solution=range(6, 7), cut_tokens=0)
    """
    start = len(before)
    stop = start + len(explanation)
    solution_start = stop + len(between)
    return Passage(
        [*before, *explanation, *between, *solution],
        range(start, stop),
        range(solution_start, solution_start + len(solution)),
    )


class StudentFormat:
    """Turns problems and explanations into the ids that a student reads or is trained on.

    The chat template, and so the ids, are the tokenizer's; the sections are those of `tags`.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, tags: Tags) -> None:
        self.tokenizer = tokenizer
        self.tags = tags
        self._thought_open = encode(tokenizer, tags.thought_open)
        self._between = encode(tokenizer, tags.thought_close + tags.answer_open)
        self._close = encode(tokenizer, tags.answer_close)
        self._fixed = lru_cache(maxsize=256)(self._tokenized)

    def encode(self, text: str) -> list[int]:
        """The ids of an explanation or a solution given as text; raises ScoringError on control tokens in it."""
        refuse_control_tokens(self.tokenizer, text)
        return encode(self.tokenizer, text)

    def prompt_ids(self, question: str) -> list[int]:
        """The chat up to the assistant's first token: what a student's own solutions are sampled from."""
        return chat_ids(self.tokenizer, self.tags.student_system, question)

    def completion_ids(self, thought_ids: Sequence[int], solution: str) -> list[int]:
        """What a student learns to write after the prompt: thought, solution, their tags, end of text."""
        end = [] if self.tokenizer.eos_token_id is None else [self.tokenizer.eos_token_id]
        return [*self._thought_open, *thought_ids, *self._between, *self.encode(solution), *self._close, *end]

    def read(
        self, question: str, explanation_ids: Sequence[int], solution: str, max_tokens: int | None = None
    ) -> Passage:
        """The row on which a student's understanding is measured; what follows the solution is left out.

        An explanation that does not fit into `max_tokens` loses its end, and `cut_tokens` says by how much; raises
        ScoringError where question and solution alone do not fit.
        """
        before, solution_ids = self._fixed(question, solution)
        room = _room(len(before) + len(self._between) + len(solution_ids), max_tokens, len(explanation_ids))
        passage = assemble(before, explanation_ids[:room], self._between, solution_ids)
        return Passage(passage.input_ids, passage.explanation, passage.solution, len(explanation_ids) - room)

    def _tokenized(self, question: str, solution: str) -> tuple[list[int], list[int]]:
        """What stands before the explanation, and the solution: the same for all explanations of a problem."""
        return [*self.prompt_ids(question), *self._thought_open], self.encode(solution)


def _room(fixed: int, max_tokens: int | None, wanted: int) -> int:
    if max_tokens is None:
        return wanted
    if fixed > max_tokens:
        raise ScoringError(
            f"question and solution alone take {fixed} tokens, and the student reads at most {max_tokens}; "
            "leave the problem out or use a student with a longer context"
        )
    return min(wanted, max_tokens - fixed)
