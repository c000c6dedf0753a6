"""The student reads a group of explanations while a vLLM server still samples the others.

    server    | group 1 ...... | group 2 .......... | group 3 ............... |
    trainer   |                | reads 1            | reads 2                 | reads 3, then passes and rewards

TRL asks the server for all explanations of a step at once and waits. Here each prompt is a request of its own, so that
groups come back one by one, and what the student makes of one is kept until its reward is asked for. Nothing is read in
another thread: threads only wait for the network, and the trainer reads between two answers.

Left out: engines inside the training process (transformers, vLLM), which need the processor that would read. Where
several processes train, TRL has the first one talk to the server for all, and only its own groups are read ahead.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from student.reading import Passage
from student.scoring.protocol import PassageLogps, PassageScorer

CONCURRENT_REQUESTS = 64
"""TRL's client keeps this many connections; prompts beyond wait for their turn."""

Group = Sequence[list[int]]
"""The sampled ids of every explanation of one prompt."""


class ReadAhead:
    """A student that remembers what it has read until told to forget it."""

    def __init__(self, student: PassageScorer) -> None:
        self._student = student
        self._read: dict[tuple[Any, ...], PassageLogps] = {}

    @property
    def max_tokens(self) -> int | None:
        """The longest passage that the student reads, in tokens; None where it names no limit."""
        return self._student.max_tokens

    def logps(self, passages: Sequence[Passage], temperature: float) -> list[PassageLogps]:
        """As the student's own; only passages not seen before cost anything."""
        keys = [_key(passage, temperature) for passage in passages]
        new = {key: passage for key, passage in zip(keys, passages, strict=True) if key not in self._read}
        if new:
            self._read.update(zip(new, self._student.logps(list(new.values()), temperature), strict=True))
        return [self._read[key] for key in keys]

    def forget(self) -> None:
        """Drops everything read so far."""
        self._read.clear()


def _key(passage: Passage, temperature: float) -> tuple[Any, ...]:
    return (tuple(passage.input_ids), passage.explanation, passage.solution, temperature)


def generate_by_group(client: Any, arrived: Callable[[list[int], Group], None]) -> None:
    """Makes `client`, TRL's VLLMClient, ask for each prompt's group by itself.

    `arrived` is called with a prompt's ids and its group as soon as that one is there, in this thread; what `generate`
    returns is what one request would have. The first request or call that fails raises when the rest has ended.
    """
    ask = client.generate

    def generate(prompts: Sequence[list[int]], **sampling: Any) -> dict[str, list[Any]]:
        with ThreadPoolExecutor(min(CONCURRENT_REQUESTS, len(prompts))) as pool:
            asked = {pool.submit(ask, prompts=[prompt], **sampling): prompt for prompt in prompts}
            for answer in as_completed(asked):
                arrived(asked[answer], answer.result()["completion_ids"])
        return _joined([answer.result() for answer in asked])

    client.generate = generate


def _joined(answers: Sequence[dict[str, list[Any]]]) -> dict[str, list[Any]]:
    return {name: [row for answer in answers for row in answer[name]] for name in answers[0]}
