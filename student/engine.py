"""Sampling: prompts go in as token ids, sampled ids and their log-probabilities come out. One protocol, two engines.

What a request yields depends on its prompt and its seed, never on the requests beside it: each row draws from its own
generator, so a run that was killed goes on with the very texts it would have written. Nothing but temperature and top-p
shapes the distribution; the top-k, repetition penalty and the like that a checkpoint brings along are ignored.

TransformersEngine is here and runs everywhere; VllmEngine is in engine_vllm.py and needs vllm. Left out: stop strings
(sampling ends at the end of text), beams, and engines behind a network.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import groupby
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
    TopPLogitsWarper,
)

from student.configs import ModelSettings, SamplingSettings
from student.errors import ModelError
from student.growing_cache import growing_cache
from student.models import load_pair, load_tokenizer, resolve_device


@dataclass(frozen=True)
class Request:
    """A prompt to go on from, and the seed of this one sample."""

    prompt_ids: list[int]
    seed: int


@dataclass(frozen=True)
class Sample:
    """What was sampled after one prompt."""

    token_ids: list[int]
    """The sampled tokens without the end of text."""
    logps: list[float]
    """fp32 log-probability of each token at the sampling temperature (1 where greedy), before top-p; empty where the
    engine was not asked for them."""
    finished: bool
    """The end of text was reached; False: cut by max_tokens or by the model's context."""


class Engine(Protocol):
    """Something that samples. `close` gives its memory back."""

    @property
    def name(self) -> str: ...

    @property
    def precision(self) -> str: ...

    @property
    def context_tokens(self) -> int | None:
        """The longest sequence the model can hold; None where it names no limit."""

    def sample(self, requests: Sequence[Request], sampling: SamplingSettings) -> list[Sample]:
        """One sample a request, in the order given; a prompt that fills the context yields an empty, unfinished one."""

    def close(self) -> None: ...


def sample_seed(seed: int, problem_id: str, number: int) -> int:
    """The seed of sample `number` of a problem, 63 bits: hashed, so neighbours share nothing and order does not matter.

    >>> sample_seed(0, "a", 1) == sample_seed(0, "a", 1) != sample_seed(0, "a", 2)
    True
    """
    digest = hashlib.sha256(f"{seed}:{number}:{problem_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def context_tokens(config: PretrainedConfig) -> int | None:
    """The longest sequence a model of this configuration holds, in tokens; None where it names no limit."""
    limit = getattr(config.get_text_config(), "max_position_embeddings", None)
    return limit if isinstance(limit, int) and limit > 0 else None


def token_limit(prompt_tokens: int, max_tokens: int, context: int | None) -> int:
    """How many tokens may be sampled after a prompt: `max_tokens`, or what the context has left, never below 0.

    >>> token_limit(10, 8, None), token_limit(10, 8, 16), token_limit(16, 8, 16)
    (8, 6, 0)
    """
    return max_tokens if context is None else max(0, min(max_tokens, context - prompt_tokens))


def end_ids(tokenizer: PreTrainedTokenizerBase, config: GenerationConfig | None) -> list[int]:
    """The tokens that end a text: the tokenizer's end of text and padding, and those of the generation config."""
    named = config.eos_token_id if config is not None else None
    extra = named if isinstance(named, list) else [named]
    return sorted({token for token in [tokenizer.eos_token_id, tokenizer.pad_token_id, *extra] if token is not None})


class TransformersEngine:
    """Samples by transformers' `generate`, on whatever device the model is; the model stays the caller's.

    `logps=False` leaves the log-probabilities out of the samples.
    """

    name: Literal["transformers"] = "transformers"

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, logps: bool = True) -> None:
        self.model = model
        self.precision = str(model.dtype).removeprefix("torch.")
        self.context_tokens = context_tokens(model.config)
        self._logps = logps
        self.end_ids = end_ids(tokenizer, model.generation_config)
        pads = [tokenizer.pad_token_id, *self.end_ids, 0]
        self._pad_id: int = next(token for token in pads if token is not None)

    def sample(self, requests: Sequence[Request], sampling: SamplingSettings) -> list[Sample]:
        """One sample a request, in the order given; see Engine."""
        samples = [Sample([], [], finished=False)] * len(requests)
        lengths = [len(request.prompt_ids) for request in requests]
        for max_tokens, rows in plan_batches(lengths, sampling, self.context_tokens):
            batch = self.sample_batch([requests[row] for row in rows], max_tokens, sampling)
            for row, sample in zip(rows, batch, strict=True):
                samples[row] = sample
        return samples

    def close(self) -> None:
        """Nothing to give back: the model is the caller's."""

    @torch.inference_mode()
    def sample_batch(
        self,
        requests: Sequence[Request],
        max_tokens: int,
        sampling: SamplingSettings,
        stopping: StoppingCriteria | None = None,
    ) -> list[Sample]:
        """One sample a request, all in one batch, whatever `sampling` says of its size and length.

        `stopping` may end a row early; what its sample holds after that is padding, for the caller to cut off.
        """
        prompts, attention_mask = _left_padded([request.prompt_ids for request in requests], self._pad_id)
        choice = SeededChoice([request.seed for request in requests], sampling, self.model.device, self._logps)
        generate: Any = self.model.generate
        with _undisturbed(self.model):
            output = generate(
                input_ids=prompts.to(self.model.device),
                attention_mask=attention_mask.to(self.model.device),
                past_key_values=growing_cache(self.model),
                logits_processor=LogitsProcessorList([choice]),
                stopping_criteria=StoppingCriteriaList([stopping] if stopping else []),
                generation_config=GenerationConfig(
                    do_sample=False,
                    max_new_tokens=max_tokens,
                    eos_token_id=self.end_ids or None,
                    pad_token_id=self._pad_id,
                ),
            )
        tokens: list[list[int]] = output[:, prompts.shape[1] :].tolist()
        logps = choice.logps_by_row()
        return [self._trimmed(row, row_logps) for row, row_logps in zip(tokens, logps, strict=True)]

    def _trimmed(self, token_ids: list[int], logps: list[float]) -> Sample:
        """A row up to its end of text; what stands behind is padding."""
        ends = (position for position, token in enumerate(token_ids) if token in self.end_ids)
        stop = next(ends, None)
        return Sample(token_ids[:stop], logps[: len(token_ids[:stop])], finished=stop is not None)


def plan_batches(
    lengths: Sequence[int], sampling: SamplingSettings, context: int | None
) -> Iterator[tuple[int, list[int]]]:
    """Batches as (tokens to sample, row numbers), shortest prompts first; rows with no room left are in none.

    Rows of one batch may sample equally many tokens. So a prompt near the end of the context is not run beside short
    ones: it would cut them, or they would push it past the positions that the model knows.

    >>> list(plan_batches([5, 9, 3, 10], SamplingSettings(max_tokens=4, batch_size=2), context=10))
    [(1, [1]), (4, [2, 0])]
    """
    limits = [token_limit(length, sampling.max_tokens, context) for length in lengths]
    order = sorted((row for row, limit in enumerate(limits) if limit), key=lambda row: (limits[row], lengths[row]))
    for limit, group in groupby(order, key=lambda row: limits[row]):
        rows = list(group)
        for start in range(0, len(rows), sampling.batch_size):
            yield limit, rows[start : start + sampling.batch_size]


class SeededChoice(LogitsProcessor):
    """Turns logits into scores whose argmax is a sample, row by row from the row's own seed (the Gumbel-max trick).

        argmax_v (logits_v / T - log E_v),  E_v ~ Exp(1)   is distributed as   softmax(logits / T)

    `generate` then decodes greedily. With `do_sample=True` it would draw all rows from one generator, and a row's text
    would depend on how many stand beside it. Temperature 0 adds no noise.
    """

    def __init__(self, seeds: Sequence[int], sampling: SamplingSettings, device: torch.device, logps: bool) -> None:
        self._generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]
        self._temperature = sampling.temperature
        self._nucleus = TopPLogitsWarper(sampling.top_p) if sampling.top_p < 1 else None
        self._keep_logps = logps
        self._logps: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (B, V) whose argmax is the next token of each row; notes that token's log-probability."""
        scaled = scores.float() / (self._temperature or 1.0)
        chosen = self._noisy(input_ids, scaled) if self._temperature else scaled
        if self._keep_logps:
            tokens = chosen.argmax(dim=-1, keepdim=True)
            self._logps.append(scaled.log_softmax(dim=-1).gather(-1, tokens).squeeze(-1))
        return chosen

    def logps_by_row(self) -> list[list[float]]:
        """For each row, the log-probability of its token at every step."""
        if not self._logps:
            return [[] for _ in self._generators]
        rows: list[list[float]] = torch.stack(self._logps, dim=1).tolist()
        return rows

    def _noisy(self, input_ids: Tensor, scaled: Tensor) -> Tensor:
        kept = self._nucleus(input_ids, scaled) if self._nucleus else scaled
        return kept - log_exponential(scaled, self._generators)


def log_exponential(like_BV: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """log E with E ~ Exp(1), fp32, in the shape of `like_BV`: each row from its own generator."""
    noise_BV = torch.empty_like(like_BV, dtype=torch.float32)
    for row, generator in zip(noise_BV, generators, strict=True):
        row.exponential_(generator=generator)
    # A device that draws E from fp32 steps (torch's CPU and CUDA code do not) meets 0 once in 2^24 draws, whose
    # logarithm would hand the row to an impossible token.
    return noise_BV.clamp_min_(2.0**-24).log_()


def _left_padded(prompts: Sequence[list[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Token ids (B, T) and attention mask (B, T) of prompts set flush right."""
    width = max(len(prompt) for prompt in prompts)
    ids = [[pad_id] * (width - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids), torch.tensor(mask)


@contextmanager
def _undisturbed(model: PreTrainedModel) -> Iterator[None]:
    """The model in evaluation mode and without its checkpoint's sampling defaults; both are put back afterwards.

    `generate` fills whatever a given generation config leaves open from the model's own, so that one has to go.
    """
    training, defaults = model.training, model.generation_config
    model.eval()
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = defaults
        model.train(training)


def open_engine(
    name: str, settings: ModelSettings, sampling: SamplingSettings, max_prompt_tokens: int, *, logps: bool = True
) -> Engine:
    """The engine that `sampling.engine` names, with the model loaded; raises ModelError where that cannot be.

    `max_prompt_tokens` is the longest prompt that will come: vllm reserves memory by it.
    """
    if engine_choice(settings, sampling) == "transformers":
        return TransformersEngine(*load_pair(name, settings), logps=logps)
    from student.engine_vllm import VllmEngine

    return VllmEngine(name, load_tokenizer(name), settings, max_prompt_tokens + sampling.max_tokens, logps=logps)


def engine_choice(settings: ModelSettings, sampling: SamplingSettings) -> Literal["transformers", "vllm"]:
    """The engine meant by these settings; raises ModelError where vllm is asked for and cannot run."""
    installed = find_spec("vllm") is not None  # not imported: that takes seconds
    if sampling.engine == "vllm" and not installed:
        raise ModelError("sampling.engine 'vllm': vllm is not installed; install it, or set engine to 'transformers'")
    if sampling.engine != "auto":
        return sampling.engine
    return "vllm" if installed and resolve_device(settings).type == "cuda" else "transformers"
