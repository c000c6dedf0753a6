"""What the teacher sees and writes, as token ids.

    chat(system, question) | solution_open | solution | solution_close | explanation_open
    || explanation | explanation_close | eos

What stands before || is the prompt, an assistant turn already begun; the teacher goes on from there. Nothing in it
speaks of a student or asks to hide the solution (method.md 2). The server renders its prompts with this file too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from transformers import PreTrainedTokenizerBase

from student.chat import chat_ids, encode, refuse_control_tokens
from student.problems import content_id
from student.reading import Passage
from student.tags import Tags


@dataclass(frozen=True)
class Explained:
    """An explanation as it was sampled, cut before its first end tag."""

    explanation_ids: list[int]
    text: str
    closed: bool
    """The end tag was reached."""
    sampled_tokens: int
    """How many of the ids are the very tokens that were sampled; a last one may be re-encoded where the tag began
    inside a token, and no teacher log-probability is known for it."""


class TeacherFormat:
    """Turns problems into the teacher's prompts, and sampled tokens back into explanations."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, tags: Tags, end_ids: Sequence[int] = ()) -> None:
        self.tokenizer = tokenizer
        self.tags = tags
        own_ends = (tokenizer.eos_token_id, tokenizer.pad_token_id)
        self._end_ids = {*end_ids, *(token for token in own_ends if token is not None)}
        self._solution_open = encode(tokenizer, tags.solution_open)
        self._explanation_open = encode(tokenizer, tags.solution_close + tags.explanation_open)
        self._close = encode(tokenizer, tags.explanation_close)

    def prompt_ids(self, question: str, solution: str) -> list[int]:
        """The chat with the solution already written and the explanation just opened."""
        refuse_control_tokens(self.tokenizer, solution)
        chat = chat_ids(self.tokenizer, self.tags.teacher_system, question)
        return [*chat, *self._solution_open, *encode(self.tokenizer, solution), *self._explanation_open]

    @cached_property
    def digest(self) -> str:
        """16 hex digits of everything but the problem: chat template, system message, tags, how they become tokens."""
        prompt = self.prompt_ids("1 + 1", "2")
        return content_id(*map(str, [*prompt, *self._close]), *self.tags.markers)

    def completion_ids(self, explanation_ids: Sequence[int]) -> list[int]:
        """What a teacher learns to write after the prompt: the explanation, its end tag, end of text."""
        end = [] if self.tokenizer.eos_token_id is None else [self.tokenizer.eos_token_id]
        return [*explanation_ids, *self._close, *end]

    def passage(self, question: str, solution: str, explanation_ids: Sequence[int]) -> Passage:
        """The row on which the teacher's own log-probabilities of an explanation are measured."""
        prompt = self.prompt_ids(question, solution)
        return Passage([*prompt, *explanation_ids], range(len(prompt), len(prompt) + len(explanation_ids)), range(0))

    def cut(self, sampled_ids: Sequence[int]) -> Explained:
        """The explanation in what was sampled: everything before the first end tag, or before the end of text.

        The tag may be spelled by other tokens than its usual ones and may begin inside a token; then the text before
        it is kept to the character, and the token that it shared is encoded again.
        """
        ids = self._before_end_of_text(sampled_ids)
        text = self._decode(ids)
        tag_at = text.find(self.tags.explanation_close)
        if tag_at < 0:
            return Explained(ids, text, closed=False, sampled_tokens=len(ids))
        whole = self._tokens_within(ids, text, tag_at)
        rest = text[len(self._decode(ids[:whole])) : tag_at]
        kept = [*ids[:whole], *(encode(self.tokenizer, rest) if rest else [])]
        return Explained(kept, self._decode(kept), closed=True, sampled_tokens=whole)

    def _before_end_of_text(self, sampled_ids: Sequence[int]) -> list[int]:
        for position, token in enumerate(sampled_ids):
            if token in self._end_ids:
                return list(sampled_ids[:position])
        return list(sampled_ids)

    def _tokens_within(self, ids: Sequence[int], text: str, length: int) -> int:
        """How many leading tokens spell no more than the first `length` characters of `text`."""
        low, high = 0, len(ids)
        while low < high:
            middle = (low + high + 1) // 2
            if len(self._decode(ids[:middle])) <= length:
                low = middle
            else:
                high = middle - 1
        # A prefix that ends inside a multi-byte character decodes to U+FFFD: step back to a whole one.
        while low and not text.startswith(self._decode(ids[:low])):
            low -= 1
        return low

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))
