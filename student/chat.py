"""Chats as token ids: the system and user turns rendered by the model's own template, up to the answer.

What follows (tags, thought, solution) is appended as ids by student/reading.py and teacher/prompts.py, so that spans
are known by construction and no text is ever searched for or tokenised twice. Left out: multi-turn chats and tools.
"""

import re
from collections.abc import Sequence

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from student.errors import ScoringError

_OPENED_THOUGHT = re.compile(r"<think>\s*$")


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The token ids of `text` alone: nothing is put before or after it."""
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def chat_ids(tokenizer: PreTrainedTokenizerBase, system: str, user: str) -> list[int]:
    """The ids of a chat that is about to be answered: system turn, user turn, assistant header.

    A template that knows no system role gets the system text at the head of the user's turn. A template that opens a
    thought by itself (`<think>`, as R1 distillates do) has that opening dropped: the tag style opens it.
    """
    refuse_control_tokens(tokenizer, user)
    rendered = _render(tokenizer, system, user)
    return encode(tokenizer, _OPENED_THOUGHT.sub("", rendered))


def _render(tokenizer: PreTrainedTokenizerBase, system: str, user: str) -> str:
    with_system = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    try:
        return str(tokenizer.apply_chat_template(with_system, tokenize=False, add_generation_prompt=True))
    except TemplateError:
        merged = [{"role": "user", "content": f"{system}\n\n{user}"}]
        return str(tokenizer.apply_chat_template(merged, tokenize=False, add_generation_prompt=True))


def refuse_control_tokens(tokenizer: PreTrainedTokenizerBase, *texts: str) -> None:
    """Raises ScoringError where a text holds one of the tokenizer's control tokens: it would act, not be read."""
    for text in texts:
        for token in _control_tokens(tokenizer):
            if token in text:
                raise ScoringError(f"{_shortened(text)!r} holds the model's control token {token!r}; remove it")


def _control_tokens(tokenizer: PreTrainedTokenizerBase) -> Sequence[str]:
    return [token for token in tokenizer.all_special_tokens if token]


def _shortened(text: str, length: int = 60) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
