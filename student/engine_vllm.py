"""Sampling by vLLM inside this process: the fast engine on a GPU, and the same one, in fp32, on a CPU.

Inside the process on purpose: vLLM's own worker processes outlive a killed parent and keep its memory. Token ids go in
and out; vLLM's tokenizer and the sampling defaults of the checkpoint stay out of it. Left out: several GPUs a model.
"""

import gc
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from transformers import AutoConfig, GenerationConfig, PreTrainedTokenizerBase

from student.configs import ModelSettings, SamplingSettings
from student.engine import Request, Sample, context_tokens, end_ids, token_limit
from student.errors import ModelError
from student.models import resolve_device, resolve_dtype

_ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_CPU_KVCACHE_SPACE": "1",
}
"""What vLLM reads as it starts; a variable that is set already keeps its value. The cache space is GiB, on a CPU."""


class VllmEngine:
    """Samples by `vllm.LLM`; `max_tokens` is the longest sequence, prompt included, that will be asked for.

    Raises ModelError where vllm cannot load the model or has no room for it. On a CPU a seeded request yields the same
    text in any batch; on a GPU kernels depend on the batch, and a near-tie may fall the other way.
    """

    name: Literal["vllm"] = "vllm"

    def __init__(
        self,
        model: str,
        tokenizer: PreTrainedTokenizerBase,
        settings: ModelSettings,
        max_tokens: int,
        *,
        logps: bool = True,
    ) -> None:
        self.context_tokens = context_tokens(AutoConfig.from_pretrained(model))
        self._room = max_tokens if self.context_tokens is None else min(max_tokens, self.context_tokens)
        self._logps = logps
        self._end_ids = end_ids(tokenizer, _generation_config(model))
        self.precision, self._llm = _start(model, settings, self._room)

    def sample(self, requests: Sequence[Request], sampling: SamplingSettings) -> list[Sample]:
        """One sample a request, in the order given; see student.engine.Engine."""
        samples = [Sample([], [], finished=False)] * len(requests)
        limits = [token_limit(len(request.prompt_ids), sampling.max_tokens, self._room) for request in requests]
        rows = [row for row, limit in enumerate(limits) if limit]
        if not rows:
            return samples
        outputs = self._llm.generate(
            [{"prompt_token_ids": requests[row].prompt_ids} for row in rows],
            [self._parameters(requests[row].seed, limits[row], sampling) for row in rows],
            use_tqdm=False,
        )
        for row, output in zip(rows, outputs, strict=True):
            samples[row] = self._trimmed(output.outputs[0])
        return samples

    def close(self) -> None:
        """Gives the model's and the cache's memory back; the engine samples no more."""
        from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

        self._llm.llm_engine.engine_core.shutdown()
        del self._llm
        gc.collect()
        cleanup_dist_env_and_memory()

    def _parameters(self, seed: int, max_tokens: int, sampling: SamplingSettings) -> Any:
        from vllm import SamplingParams

        return SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=max_tokens,
            seed=seed,
            logprobs=0 if self._keeps_logps(sampling) else None,
            stop_token_ids=self._end_ids,
            ignore_eos=True,  # the end tokens are the ones above: vLLM knows no tokenizer here
            detokenize=False,
        )

    def _trimmed(self, output: Any) -> Sample:
        tokens = list(output.token_ids)
        steps = [] if output.logprobs is None else zip(tokens, output.logprobs, strict=True)
        logps = [logp_of[token].logprob for token, logp_of in steps]
        finished = bool(tokens) and tokens[-1] in self._end_ids
        stop = len(tokens) - finished
        return Sample(tokens[:stop], logps[:stop], finished)

    def _keeps_logps(self, sampling: SamplingSettings) -> bool:
        """vLLM's log-probabilities are those after top-p, which are not what Sample promises: then there are none."""
        return self._logps and (sampling.top_p == 1 or sampling.temperature == 0)


def _generation_config(model: str) -> GenerationConfig | None:
    try:
        return GenerationConfig.from_pretrained(model)
    except OSError:  # a model need not have one
        return None


def _start(model: str, settings: ModelSettings, max_tokens: int) -> tuple[str, Any]:
    """The precision and a running `vllm.LLM` of `model`."""
    device = resolve_device(settings)
    dtype: Any = str(resolve_dtype(settings, device)).removeprefix("torch.")
    with starting_vllm():
        from vllm import LLM
        from vllm.platforms import current_platform

        if current_platform.device_type != device.type:
            raise ModelError(
                f"device {device.type!r}: the vllm installed here runs on {current_platform.device_type!r}; "
                "set device to that, or take engine transformers"
            )
        try:
            llm = LLM(
                model,
                dtype=dtype,
                max_model_len=max_tokens,
                **(_cpu_settings(max_tokens) if device.type == "cpu" else {}),
                skip_tokenizer_init=True,
                generation_config="vllm",
                logprobs_mode="processed_logprobs",
                use_tqdm_on_load=False,
                seed=0,
            )
            _try_out(llm)
        except (ValueError, RuntimeError, OSError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ModelError(f"model {model!r}: vllm cannot run it ({reason}); use engine 'transformers'") from error
    return dtype, llm


def _cpu_settings(max_tokens: int) -> dict[str, Any]:
    """On a CPU: no compilation, which takes longer than the models that run there; and no prompt cut into chunks.

    After a chunk vLLM rewinds the row's seeded generator, which torch's CPU generator does not allow: vLLM 0.31 dies of
    "CPU Generator does not use offset".
    """
    budget = max(max_tokens, 16_384)
    return {"enforce_eager": True, "enable_chunked_prefill": False, "max_num_batched_tokens": budget}


def _try_out(llm: Any) -> None:
    """Samples one token: an attention shape that vLLM has no kernel for is noticed only there."""
    from vllm import SamplingParams

    llm.generate([{"prompt_token_ids": [0]}], SamplingParams(max_tokens=1, detokenize=False), use_tqdm=False)


@contextmanager
def starting_vllm() -> Iterator[None]:
    """Our environment and quiet while vLLM starts; what it does to the rest of the process is undone.

    On a CPU it puts libraries into LD_PRELOAD, which every later child process would load, and replaces
    torch.set_num_threads by a function that only warns.
    """
    preload, set_num_threads = os.environ.get("LD_PRELOAD"), torch.set_num_threads
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_num_threads = set_num_threads
        os.environ.pop("LD_PRELOAD", None)
        if preload is not None:
            os.environ["LD_PRELOAD"] = preload
