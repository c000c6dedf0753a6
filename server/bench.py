"""`rlt bench serve`: what the service costs over bare vLLM, as ratios of rounds that were run in turn on one machine.

Two questions. How much of vLLM's throughput is left behind /v1/explanations? Both loads go to the same vLLM, one
directly, one through the service. And how much of `LLM.generate`'s is left in a dataset job, intake and shards
included? Absolute figures say little on a shared machine; a median of ratios does. Left out: scores.
"""

import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from urllib.error import URLError
from urllib.request import urlopen

from tqdm import tqdm

from server.bench_load import Load, Pace, additions, bare, dataset, explained, offline
from server.configs import BenchConfig, EngineSettings
from server.engine.opening import open_engine
from server.engine.vllm_child import end_ids_of
from server.engine.vllm_servers import VllmServers
from server.errors import ServerError
from student.configs import ScratchConfig
from student.engine import sample_seed
from student.models import load_tokenizer, save_pair
from student.scratch import make_scratch
from student.tags import RLT
from teacher.prompts import TeacherFormat

CONTEXT_TOKENS = 1024
PROMISED = {"explanations": 0.90, "dataset": 0.85}
"""The least ratios that we vouch for."""


@dataclass(frozen=True)
class Round:
    """One round of one question: ours and theirs on the same work."""

    question: str
    ours: Pace
    theirs: Pace

    @property
    def ratio(self) -> float:
        """Our tokens a second over theirs."""
        return self.ours.tokens_per_second / self.theirs.tokens_per_second


def main(config: BenchConfig) -> None:
    """Carries out `rlt bench serve`; writes serve.json, serve.md and serve.png."""
    with tempfile.TemporaryDirectory() as folder:
        model = config.teacher or _scratch_model(Path(folder) / "model")
        rounds = asyncio.run(_measure(config, model, Path(folder)))
    report = "\n".join(_report(config, rounds))
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "serve.json").write_text(json.dumps([asdict(each) for each in rounds], indent=2) + "\n", encoding="utf-8")
    (out / "serve.md").write_text(report + "\n", encoding="utf-8")
    _plot(rounds, out / "serve.png")
    print(report)


def _scratch_model(folder: Path) -> str:
    """The default model of `rlt scratch`, 5 million parameters: small, so the service's own cost shows at its worst."""
    folder.mkdir(parents=True)
    config = ScratchConfig(problems="unused", out=str(folder), heads=4, key_value_heads=4, max_tokens=CONTEXT_TOKENS)
    save_pair(*make_scratch(config, additions(500)), folder)
    return str(folder)


async def _measure(config: BenchConfig, model: str, folder: Path) -> list[Round]:
    form = TeacherFormat(load_tokenizer(model), RLT)
    settings = EngineSettings(teacher=model, engine="vllm", context_tokens=CONTEXT_TOKENS, device=config.device)
    async with open_engine(settings, folder) as engine:
        assert isinstance(engine, VllmServers)
        url, key = engine.addresses[0], engine.api_key
        with _service(model, url, key, folder) as service:
            rounds = await _explanation_rounds(config, form, (url, key, engine.model), model, service)
            rounds += await _dataset_rounds(config, form, model, engine.model, service)
    return rounds


async def _explanation_rounds(
    config: BenchConfig, form: TeacherFormat, vllm: tuple[str, str | None, str], model: str, service: str
) -> list[Round]:
    url, key, name = vllm
    problems = additions(config.requests)
    await bare(url, key, form, problems[:64], _load(config, name, model, -1))
    await explained(service, problems[:64], _load(config, name, model, -1))
    rounds = []
    for number in _shown(config.rounds, "explanations"):
        load = _load(config, name, model, number)
        theirs = await bare(url, key, form, problems, load)
        rounds.append(Round("explanations", await explained(service, problems, load), theirs))
    return rounds


async def _dataset_rounds(config: BenchConfig, form: TeacherFormat, model: str, name: str, service: str) -> list[Round]:
    problems = additions(config.rows)
    prompts = [form.prompt_ids(problem.question, problem.solution) for problem in problems]
    rounds = []
    with offline(model, CONTEXT_TOKENS) as generate:
        generate(prompts[:64], [0] * 64, _load(config, name, model, -1))
        for number in _shown(config.rounds, "dataset"):
            load = _load(config, name, model, number)
            theirs = generate(prompts, [sample_seed(load.seed, problem.id, 0) for problem in problems], load)
            rounds.append(Round("dataset", await dataset(service, problems, load), theirs))
    return rounds


def _load(config: BenchConfig, name: str, model: str, number: int) -> Load:
    """The load of a round; each round has its own seed, so nothing is answered from a cache of whole requests."""
    return Load(name, config.concurrency, config.max_tokens, 1000 + number, tuple(end_ids_of(model)))


def _shown(rounds: int, name: str) -> Iterator[int]:
    return iter(tqdm(range(rounds), desc=name, unit="round"))


@contextmanager
def _service(model: str, url: str, key: str | None, folder: Path) -> Iterator[str]:
    """`rlt serve` in a process of its own, on that vLLM; its address."""
    port = 18_080 + os.getpid() % 1000
    command = [sys.executable, "-m", "student.cli", "serve", "--teacher", model, "--engine-urls", url]
    command += ["--port", str(port), "--data", str(folder / "data"), "--log-level", "warning"]
    environment = os.environ | ({} if key is None else {"RLT_ENGINE_KEY": key})
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        _await_ready(process, f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


def _await_ready(process: "subprocess.Popen[bytes]", url: str) -> None:
    while process.poll() is None:
        try:
            with urlopen(f"{url}/health/ready", timeout=5):
                return
        except URLError:
            time.sleep(0.3)
    raise ServerError("the service did not start; its last line above says why")


def _report(config: BenchConfig, rounds: Sequence[Round]) -> Iterator[str]:
    yield "# The service against bare vLLM"
    yield ""
    yield f"`rlt bench serve`, {_machine()}."
    yield f"{config.requests} explanations, {config.concurrency} in flight; a dataset of {config.rows} rows;"
    yield f"at most {config.max_tokens} tokens each; {config.rounds} rounds in turn. Tokens a second are medians, the"
    yield "ratio is the median of each round's ratio."
    yield ""
    yield "| load | ours, tokens/s | theirs, tokens/s | ratio | least | most | promised |"
    yield "|---|---|---|---|---|---|---|"
    against = {"explanations": "/v1/explanations against vLLM over HTTP", "dataset": "dataset job against LLM.generate"}
    for question, name in against.items():
        yield _line(name, [each for each in rounds if each.question == question], PROMISED[question])


def _line(name: str, rounds: Sequence[Round], promised: float) -> str:
    ours = median(each.ours.tokens_per_second for each in rounds)
    theirs = median(each.theirs.tokens_per_second for each in rounds)
    ratios = [each.ratio for each in rounds]
    return (
        f"| {name} | {ours:,.0f} | {theirs:,.0f} | **{median(ratios):.2f}** | {min(ratios):.2f} | {max(ratios):.2f} "
        f"| {promised:.2f} |"
    )


def _machine() -> str:
    import torch
    import vllm

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"
    return f"{device}, {platform.system()}, Python {platform.python_version()}, vLLM {vllm.__version__}"


def _plot(rounds: Sequence[Round], path: Path) -> None:
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(6, 3), layout="constrained")
    for place, (question, promised) in enumerate(PROMISED.items()):
        ratios = [each.ratio for each in rounds if each.question == question]
        axis.barh(place, median(ratios), color="#4878a8", height=0.5)
        axis.plot(ratios, [place] * len(ratios), "o", color="black", markersize=4)
        axis.plot([promised] * 2, [place - 0.35, place + 0.35], color="#c44e52")
    axis.set_yticks(range(len(PROMISED)), list(PROMISED))
    axis.axvline(1, color="grey", linewidth=0.8)
    axis.set_xlabel("our tokens/s over vLLM's; dots are rounds, red is what we promise")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
