"""Every script in examples/ does what it says, against a live service on a real vLLM."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.conftest import service_of
from tests.server.service_process import Service

EXAMPLES = Path(__file__).parents[2] / "examples"
SAID = {
    "batch.sh": '"custom_id"',
    "batch_openai.py": "problem-3",
    "chat.sh": '"chat.completion"',
    "chat_openai.py": "its score: {'reward':",
    "dataset.sh": "explanations.jsonl",
    "dataset_openai.py": "explanations.jsonl holds",
    "explain.sh": '"reward"',
    "explain_openai.py": "'+'",
    "score.sh": '"explanation_tokens"',
    "stream.sh": "event: done",
}
"""What a script prints when it has worked."""

pytestmark = [pytest.mark.vllm, pytest.mark.slow]


@pytest.fixture(scope="module")
def live(vllm_url: str, servable_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service on vLLM that serves its model under the name of the demo's teacher."""
    settings = {"engine": "vllm", "engine_urls": [vllm_url], "model_name": "rlt_teacher"}
    service = service_of(servable_model_folder, tmp_path_factory.mktemp("live"), settings, {}).start()
    yield service
    assert service.end() == 0, service.output()


def test_every_script_is_run_here() -> None:
    assert {path.name for path in EXAMPLES.iterdir() if path.suffix in (".sh", ".py")} == SAID.keys()


@pytest.mark.parametrize("script", SAID)
def test_an_example_works_as_it_stands(script: str, live: Service, tmp_path: Path) -> None:
    interpreter = [sys.executable] if script.endswith(".py") else ["bash"]
    environment = os.environ | {"RLT_URL": live.url}
    done = subprocess.run(
        [*interpreter, EXAMPLES / script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert SAID[script] in done.stdout
