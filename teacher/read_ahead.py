"""The student reads a group of explanations while a vLLM server still samples the others.

    server    | group 1 ...... | groups 2, 3 ...... | group 4 .......... |
    trainer   |                | reads 1            | reads 2, 3         | the passes of TRL, reads 4, rewards

TRL asks the server for all explanations of a step at once and waits. Here each prompt is a request of its own, so that
groups come back as they are done, and what the student makes of them is kept until their reward is asked for. Groups
that are there together are read together, and the last are left to the reward: a student reads many rows cheaper than
few, and a fast server must not make it slower. Nothing is read in another thread: threads only wait for the network,
and the trainer reads between two answers. Which groups share a pack now hangs on the clock, and the last bits of their
log-probabilities (1e-6) with it; a server's samples are not reproducible either.

Left out: engines inside the training process (transformers, vLLM), which need the processor that would read. Where
several processes train, TRL has the first one talk to the server for all, and only its own groups are read ahead.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import Any

from student.reading import Passage
from student.scoring.protocol import PassageLogps, PassageScorer

CONCURRENT_REQUESTS = 64
"""TRL's client keeps this many connections; prompts beyond wait for their turn."""

Group = tuple[list[int], list[list[int]]]
"""A prompt's ids, and those of every explanation sampled after it."""


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


def generate_by_group(client: Any, arrived: Callable[[list[Group]], None]) -> None:
    """Makes `client`, TRL's VLLMClient, ask for each prompt's group by itself.

    `arrived` is called in this thread with the groups that have come, as long as others are still to come; what
    `generate` returns is what one request would have. A request or call that fails raises when the rest has ended.
    """
    ask = client.generate

    def generate(prompts: Sequence[list[int]], **sampling: Any) -> dict[str, list[Any]]:
        with ThreadPoolExecutor(min(CONCURRENT_REQUESTS, len(prompts))) as pool:
            asked = [pool.submit(ask, prompts=[prompt], **sampling) for prompt in prompts]
            pending = set(asked)
            while True:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                if not pending:
                    return _joined([answer.result() for answer in asked])
                groups = [(prompt, answer) for prompt, answer in zip(prompts, asked, strict=True) if answer in done]
                arrived([(prompt, answer.result()["completion_ids"]) for prompt, answer in groups])

    client.generate = generate


def _joined(answers: Sequence[dict[str, list[Any]]]) -> dict[str, list[Any]]:
    return {name: [row for answer in answers for row in answer[name]] for name in answers[0]}
