"""Which engine serves the teacher: vLLM at given addresses, a vLLM of our own, or transformers in this process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from server.configs import EngineSettings
from server.engine.local_engine import open_local
from server.engine.protocol import TeacherEngine
from server.engine.vllm_child import end_ids_of, open_child
from server.engine.vllm_servers import VllmServers
from server.errors import ServerError


@asynccontextmanager
async def open_engine(settings: EngineSettings, data: Path) -> AsyncIterator[TeacherEngine]:
    """The engine that `settings` mean, ready to serve; closed, and its processes ended, on leaving.

    `settings.teacher` is a model folder or hub name; `data` is the folder for the log of a vLLM that is started. Raises
    ServerError or ModelError where the engine cannot run here.
    """
    engine = await _opened(settings, data)
    try:
        yield engine
    finally:
        await engine.close()


async def _opened(settings: EngineSettings, data: Path) -> TeacherEngine:
    assert settings.teacher is not None, "the caller resolves the teacher"
    if settings.engine_urls:
        ends = await asyncio.to_thread(end_ids_of, settings.teacher)
        return await _met(VllmServers(settings.engine_urls, ends, settings.engine_concurrency))
    if engine_kind(settings) == "vllm":
        return await open_child(settings.teacher, settings, data)
    return await open_local(settings.teacher, settings)


async def _met(servers: VllmServers) -> VllmServers:
    try:
        await servers.open()
    except BaseException:
        await servers.close()
        raise
    return servers


def engine_kind(settings: EngineSettings) -> Literal["vllm", "transformers"]:
    """The library that will generate; raises ServerError where vllm is asked for and is not installed."""
    installed = find_spec("vllm") is not None  # not imported: that takes seconds
    if settings.engine_urls or (installed and settings.engine != "transformers"):
        return "vllm"
    if settings.engine == "vllm":
        raise ServerError(
            "engine 'vllm': vllm is not installed; install it, name running servers by engine_urls, "
            "or set engine to 'transformers'"
        )
    return "transformers"
