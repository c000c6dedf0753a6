"""The engine that settings mean is opened, and closed on leaving."""

import asyncio
from pathlib import Path

import pytest

from server.configs import EngineSettings
from server.engine import opening
from server.engine.opening import engine_kind, open_engine
from server.engine.protocol import Generation
from server.errors import EngineUnavailable, ServerError


def without_vllm(name: str) -> None:
    """find_spec where vLLM is not installed."""


def test_auto_is_vllm_where_it_is_installed_and_transformers_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "find_spec", lambda name: object())
    assert engine_kind(EngineSettings()) == engine_kind(EngineSettings(engine="vllm")) == "vllm"
    assert engine_kind(EngineSettings(engine="transformers")) == "transformers"
    monkeypatch.setattr(opening, "find_spec", without_vllm)
    assert engine_kind(EngineSettings()) == "transformers"
    assert engine_kind(EngineSettings(engine_urls=["http://elsewhere"])) == "vllm"


def test_vllm_that_is_asked_for_and_not_installed_is_told_with_the_remedies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "find_spec", without_vllm)
    with pytest.raises(ServerError, match=r"vllm is not installed; .*engine_urls.*'transformers'"):
        engine_kind(EngineSettings(engine="vllm"))


def test_an_engine_is_closed_on_leaving(tiny_model_folder: Path, tmp_path: Path) -> None:
    settings = EngineSettings(teacher=str(tiny_model_folder), engine="transformers", device="cpu", threads=1)

    async def scenario() -> None:
        async with open_engine(settings, tmp_path) as engine:
            assert engine.name == "transformers"
            assert len((await engine.generate(Generation([5, 6], 0, 3, 0.0))).token_ids) == 3
        with pytest.raises(EngineUnavailable, match="closed"):
            await engine.health()

    asyncio.run(scenario())


@pytest.mark.vllm
@pytest.mark.slow
def test_running_servers_are_used_where_they_are_named(
    vllm_url: str, servable_model_folder: Path, tmp_path: Path
) -> None:
    settings = EngineSettings(teacher=str(servable_model_folder), engine_urls=[f"{vllm_url}/"], device="cpu")

    async def scenario() -> None:
        async with open_engine(settings, tmp_path) as engine:
            assert engine.name == "vllm"
            assert len((await engine.generate(Generation([5, 6], 0, 3, 0.0))).token_ids) == 3
        assert not list(tmp_path.iterdir())

    asyncio.run(scenario())
