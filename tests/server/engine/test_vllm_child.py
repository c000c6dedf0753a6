"""A vLLM of the service's own: new weights and adapters, a start after a death; no process is left behind
(tests/server/console/test_live.py: not by `kill -9` of the service either)."""

import asyncio
import json
import shutil
import signal
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from server.configs import EngineSettings
from server.engine.protocol import Generation
from server.engine.vllm_child import ChildEngine, arguments, last_error, open_child
from server.engine.vllm_servers import VllmServers
from server.errors import EngineRefused, EngineUnavailable, ServerError
from student.configs import SamplingSettings
from student.engine import Request, TransformersEngine
from student.models import load_tokenizer

vllm = pytest.mark.vllm
slow = pytest.mark.slow

PROMPT = list(range(10, 60))
SEED = 2**62 + 1
T = TypeVar("T")


class Served:
    """An engine on a child, and the loop that both live in."""

    def __init__(self, runner: asyncio.Runner, engine: ChildEngine) -> None:
        self.engine = engine
        self._runner = runner

    def __call__(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def sampled(self, adapter: str | None = None) -> list[int]:
        return self(self.engine.generate(Generation(PROMPT, SEED, 20, 1.0, adapter=adapter))).token_ids

    def processes(self) -> list[psutil.Process]:
        """The API server and what it started."""
        api = psutil.Process(self.engine.child.pid)
        return [api, *api.children(recursive=True)]


@pytest.fixture(scope="module")
def served(servable_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A vLLM that takes adapters; each test leaves it with its first weights and without any."""
    settings = EngineSettings(device="cpu", threads=1, adapters=1)
    with asyncio.Runner() as runner:
        engine = runner.run(open_child(str(servable_model_folder), settings, tmp_path_factory.mktemp("child")))
        served = Served(runner, engine)
        yield served
        processes = served.processes()
        runner.run(engine.close())
        assert not left_after_a_moment(processes)


def left_after_a_moment(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that are still there when they had time to end: a signal takes effect a little later."""
    deadline = time.monotonic() + 30
    while any(map(alive, processes)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return [process for process in processes if alive(process)]


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


@pytest.fixture(scope="module")
def next_folder(servable_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same architecture, tied head included, with other weights."""
    folder = Path(shutil.copytree(servable_model_folder, tmp_path_factory.mktemp("next") / "model"))
    torch.manual_seed(1)
    weights = load_file(folder / "model.safetensors")
    assert "lm_head.weight" not in weights
    others = {name: tensor + torch.randn_like(tensor) * tensor.std() for name, tensor in weights.items()}
    save_file(others, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def adapter_folder(servable_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter of rank 4 on every query projection, as PEFT saves it."""
    folder = tmp_path_factory.mktemp("adapter")
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 64, "lora_dropout": 0.0}
    config |= {"bias": "none", "target_modules": ["q_proj"], "base_model_name_or_path": str(servable_model_folder)}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    torch.manual_seed(2)
    pairs = {f"base_model.model.model.layers.{layer}.self_attn.q_proj": layer for layer in range(2)}
    shapes = {"lora_A": (4, 64), "lora_B": (64, 4)}
    tensors = {f"{name}.{part}.weight": torch.randn(shape) for name in pairs for part, shape in shapes.items()}
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def model_of(folder: Path, adapter: Path | None = None) -> PreTrainedModel:
    """transformers' model of a folder, with an adapter merged in: W + alpha / r B A."""
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder)
    if adapter is not None:
        tensors = load_file(adapter / "adapter_model.safetensors")
        for name in (name for name in tensors if "lora_A" in name):
            weight = model.get_parameter(name.removeprefix("base_model.model.").replace(".lora_A", ""))
            weight.data += 64 / 4 * tensors[name.replace("lora_A", "lora_B")] @ tensors[name]
    return model


def sampled(model: PreTrainedModel, folder: Path) -> list[int]:
    """What the model says; not greedily: a random model with a tied head repeats its last token, whatever it holds."""
    engine = TransformersEngine(model, load_tokenizer(str(folder)))
    return engine.sample([Request(PROMPT, SEED)], SamplingSettings(temperature=1.0, max_tokens=20))[0].token_ids


@torch.no_grad()
def logps(model: PreTrainedModel) -> list[float]:
    ids = torch.tensor([PROMPT])
    found: list[float] = model(input_ids=ids).logits.log_softmax(-1)[0, :-1].gather(-1, ids[0, 1:, None])[:, 0].tolist()
    return found


@vllm
@slow
def test_after_a_reload_the_new_checkpoint_speaks_its_head_included(
    served: Served, servable_model_folder: Path, next_folder: Path
) -> None:
    before = sampled(model_of(servable_model_folder), servable_model_folder)
    assert served.sampled() == before
    served(served.engine.reload(str(next_folder)))
    new = model_of(next_folder)
    assert served.sampled() == sampled(new, next_folder) != before
    assert served(served.engine.logps(PROMPT)) == pytest.approx(logps(new), abs=1e-5)
    served(served.engine.reload(str(servable_model_folder)))
    assert served.sampled() == before


@vllm
@slow
def test_weights_that_do_not_fit_are_refused_and_the_old_ones_stay(
    served: Served, tiny_model_folder: Path, servable_model_folder: Path, tmp_path: Path
) -> None:
    torn = Path(shutil.copytree(servable_model_folder, tmp_path / "torn"))
    (torn / "model.safetensors").write_bytes((torn / "model.safetensors").read_bytes()[:5000])
    before = served.sampled()
    for folder, why in ((tiny_model_folder, "hidden_size is 32"), (torn, "no readable"), (tmp_path, "no such folder")):
        with pytest.raises(EngineRefused, match=why):
            served(served.engine.reload(str(folder)))
        assert served.sampled() == before


@vllm
@slow
def test_an_adapter_speaks_under_its_name_beside_the_teacher(
    served: Served, servable_model_folder: Path, adapter_folder: Path, tmp_path: Path
) -> None:
    expected = sampled(model_of(servable_model_folder, adapter_folder), servable_model_folder)
    before = served.sampled()
    served(served.engine.load_adapter("mine", str(adapter_folder)))
    assert served.sampled("mine") == expected != before
    assert served.sampled() == before
    with pytest.raises(EngineRefused, match="adapter 'other' from"):
        served(served.engine.load_adapter("other", str(tmp_path)))
    served(served.engine.unload_adapter("mine"))
    served(served.engine.unload_adapter("mine"))
    with pytest.raises(EngineRefused, match="`mine` does not exist"):
        served.sampled("mine")


@vllm
@slow
def test_a_vllm_that_was_killed_is_back_with_the_newest_weights_and_its_adapters(
    served: Served, servable_model_folder: Path, next_folder: Path, adapter_folder: Path
) -> None:
    served(served.engine.reload(str(next_folder)))
    served(served.engine.load_adapter("mine", str(adapter_folder)))
    old = served.processes()
    assert served.engine.child.model == str(next_folder)
    served.engine.child.model = str(servable_model_folder)  # as a server that somebody else starts: with its first ones

    async def killed_while_it_samples() -> None:
        stream = served.engine.stream(Generation(PROMPT, 0, 900, 0.0))
        await anext(stream)
        next(process for process in old if process.name() == "VLLM::EngineCore").kill()
        with pytest.raises(EngineUnavailable):
            await collect(stream)

    async def back() -> list[int]:
        while True:
            try:
                return (await served.engine.generate(Generation(PROMPT, SEED, 20, 1.0, adapter="mine"))).token_ids
            except EngineUnavailable:
                await asyncio.sleep(1)

    served(killed_while_it_samples())
    assert served(asyncio.wait_for(back(), 400)) == sampled(model_of(next_folder, adapter_folder), next_folder)
    assert served.sampled() == sampled(model_of(next_folder), next_folder)
    assert not left_after_a_moment(old)
    served(served.engine.unload_adapter("mine"))
    served(served.engine.reload(str(servable_model_folder)))


@vllm
@slow
def test_weights_that_another_process_exchanged_are_not_taken_back(
    served: Served, servable_model_folder: Path, next_folder: Path
) -> None:
    async def exchanged_elsewhere() -> None:
        other = VllmServers(served.engine.addresses, [2], 8, served.engine.api_key)
        await other.open()
        await other.reload(str(next_folder))
        await other.close()
        await asyncio.sleep(4.5)  # idle connections are given up, and a new one looks at the server again

    served(served.engine.reload(str(servable_model_folder)))
    served(exchanged_elsewhere())
    assert served.sampled() == sampled(model_of(next_folder), next_folder)
    assert served.engine.weights == str(next_folder)
    served(served.engine.reload(str(servable_model_folder)))


async def collect(stream: Any) -> None:
    async for _ in stream:
        pass


@vllm
@slow
def test_a_vllm_that_cannot_start_says_why(tmp_path: Path, servable_model_folder: Path) -> None:
    folder = Path(shutil.copytree(servable_model_folder, tmp_path / "model"))
    settings = EngineSettings(device="cpu", threads=1, context_tokens=100_000)
    with pytest.raises(ServerError, match=r"vLLM did not start \(exit status 1\): .*max_model_len.*vllm\.log"):
        asyncio.run(open_child(str(folder), settings, tmp_path))


def test_the_log_s_first_error_is_the_one_that_is_told(tmp_path: Path) -> None:
    log = tmp_path / "vllm.log"
    earlier = "RuntimeError: of another start\n"
    log.write_text(
        earlier + "INFO something\n"
        "(EngineCore pid=7) ERROR 11-21 09:04:14 [core.py:72] ValueError: no kernel for heads of 8\n"
        "(APIServer pid=5) RuntimeError: Engine core initialization failed. See root cause above.\n"
    )
    assert last_error(log, len(earlier)) == "ValueError: no kernel for heads of 8"
    log.write_text("pydantic_core.ValidationError: 1 validation error for ModelConfig\n  Value error, too long\n")
    assert last_error(log) == "Value error, too long"
    log.write_text("just this\n\n")
    assert last_error(log) == "just this"


def test_a_gpu_is_given_its_share_of_memory_and_may_compile(
    servable_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    words = arguments(str(servable_model_folder), EngineSettings(gpu_memory_fraction=0.5, adapters=3))
    assert words[words.index("--gpu-memory-utilization") + 1] == "0.5"
    assert words[words.index("--max-loras") + 1] == "3"
    assert words[words.index("--dtype") + 1] == "bfloat16"
    assert "--enforce-eager" not in words


def test_signals_are_named() -> None:
    from server.engine.vllm_child import _ending

    assert _ending(-signal.SIGKILL) == "killed by SIGKILL"
    assert _ending(1) == "exit status 1"
