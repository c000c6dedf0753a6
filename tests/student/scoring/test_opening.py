"""A student is opened where the settings say, and a server that does not hold it is refused in one line."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import ValidationError

from student.configs import ModelSettings, ScoringSettings
from student.errors import ModelError
from student.models import load_model, load_tokenizer
from student.scoring.opening import open_scorer
from student.scoring.remote import VllmScorer
from student.scoring.scorer import Scorer
from student.scoring.self_test import difference, fixed_passages
from student.scoring.vllm_server import KEY_VARIABLE
from tests.student.scoring.front import front
from tests.student.scoring.vllm_process import MAX_MODEL_LEN, Vllm, free_port

CPU = ModelSettings(device="cpu")
with_vllm = [pytest.mark.vllm, pytest.mark.slow]


@pytest.fixture
def key(vllm: Vllm, monkeypatch: pytest.MonkeyPatch) -> str:
    """The servers' key is set."""
    monkeypatch.setenv(KEY_VARIABLE, vllm.key)
    return vllm.key


def refusal(student: Path, temperature: float = 0.7, **scoring: object) -> str:
    """What opening it is answered with, in one line."""
    with pytest.raises(ModelError) as told:
        open_scorer(str(student), CPU, ScoringSettings.model_validate(scoring), temperature)
    assert "\n" not in str(told.value)
    return str(told.value)


def test_without_addresses_the_student_is_read_in_this_process(sharp_student: Path) -> None:
    scorer, tokenizer = open_scorer(str(sharp_student), CPU, ScoringSettings(), 0.7)
    assert isinstance(scorer, Scorer)
    assert tokenizer.get_vocab() == load_tokenizer(str(sharp_student)).get_vocab()


def test_a_folded_copy_is_no_student(folded_student: Path, sharp_student: Path) -> None:
    assert f"name the original, '{sharp_student}'" in refusal(folded_student)


@pytest.mark.parametrize("url", ["localhost:8000", "http://a:8000/v1", "ftp://a", ""])
def test_an_address_is_a_scheme_a_host_and_a_port(url: str) -> None:
    with pytest.raises(ValidationError, match=r"is no server's address; give http://HOST:PORT"):
        ScoringSettings(urls=(url,))


def test_a_server_that_is_not_there_is_told(sharp_student: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert f"scoring.urls: vLLM at {url} does not answer" in refusal(sharp_student, urls=[url])


@contextmanager
def web_server(status: int, content: bytes) -> Iterator[str]:
    """Something that speaks HTTP, and answers everything alike."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "content", "seen"),
    [
        (404, b"nothing here", "answers with 404"),
        (200, b"<html>", "answers with no JSON"),
        (200, b'{"models": []}', "answers with no list of models"),
        (200, b'{"data": []}', "answers with an empty list of models"),
    ],
)
def test_what_is_no_vllm_is_told(status: int, content: bytes, seen: str, sharp_student: Path) -> None:
    with web_server(status, content) as url:
        assert f"{url} is no vLLM server: /v1/models {seen}" in refusal(sharp_student, urls=[url])


def test_a_server_without_prompt_log_probabilities_is_told(sharp_student: Path) -> None:
    with web_server(200, b'{"data": [{"id": "student"}], "choices": [{"text": ""}]}') as url:
        assert "answers without the log-probability of every prompt token" in refusal(sharp_student, urls=[url])


class TestOnVllm:
    """The one vLLM holds sharp_student at temperature 0.7."""

    pytestmark = with_vllm

    def test_a_student_elsewhere_is_opened_after_its_test(self, vllm: Vllm, key: str, sharp_student: Path) -> None:
        scorer, tokenizer = open_scorer(str(sharp_student), CPU, ScoringSettings(urls=(vllm.url,)), 0.7)
        assert isinstance(scorer, VllmScorer)
        assert scorer.max_tokens == MAX_MODEL_LEN - 1
        passages = fixed_passages(tokenizer)
        here = Scorer(load_model(str(sharp_student), CPU), ScoringSettings())
        assert difference(scorer.logps(passages, 0.7), here.logps(passages, 0.7))[1] < 3e-5

    def test_another_student_is_refused(self, vllm: Vllm, key: str, other_student: Path) -> None:
        assert f"vLLM at {vllm.url} does not read as the student does" in refusal(other_student, urls=[vllm.url])

    def test_another_temperature_is_refused(self, vllm: Vllm, key: str, sharp_student: Path) -> None:
        assert "at temperature 1: log-probabilities differ" in refusal(sharp_student, 1.0, urls=[vllm.url])
        assert "at temperature 0.75: log-probabilities differ" in refusal(sharp_student, 0.75, urls=[vllm.url])

    def test_a_student_that_was_not_folded_is_recognised(
        self, vllm: Vllm, key: str, plain_folded_student: Path
    ) -> None:
        assert "it holds the student at temperature 1" in refusal(plain_folded_student, 0.5, urls=[vllm.url])

    def test_the_one_of_two_servers_that_differs_is_named(self, vllm: Vllm, key: str, sharp_student: Path) -> None:
        with front(vllm.url) as other:
            other.shift = 0.1
            assert f"vLLM at {other.url} does not read" in refusal(sharp_student, urls=[vllm.url, other.url])

    def test_without_the_test_any_student_is_taken(self, vllm: Vllm, key: str, other_student: Path) -> None:
        scorer, tokenizer = open_scorer(
            str(other_student), CPU, ScoringSettings(urls=(vllm.url,), self_test=False), 1.0
        )
        passages = fixed_passages(tokenizer)
        here = Scorer(load_model(str(other_student), CPU), ScoringSettings())
        assert difference(scorer.logps(passages, 1.0), here.logps(passages, 1.0))[0] > 0.01  # and nobody said so

    def test_one_process_of_a_machine_is_enough(
        self, vllm: Vllm, key: str, other_student: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("LOCAL_RANK", "1")
        scorer, _ = open_scorer(str(other_student), CPU, ScoringSettings(urls=(vllm.url,)), 0.7)
        assert isinstance(scorer, VllmScorer)
        assert scorer.max_tokens == MAX_MODEL_LEN - 1  # it was met, and not tested: the first process did that

    @pytest.mark.parametrize("key", [None, "another"])
    def test_a_wrong_key_is_told(
        self, key: str | None, vllm: Vllm, sharp_student: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv(KEY_VARIABLE, raising=False)
        if key is not None:
            monkeypatch.setenv(KEY_VARIABLE, key)
        told = refusal(sharp_student, urls=[vllm.url])
        assert told == f"scoring.urls: vLLM at {vllm.url} wants another API key; set RLT_SCORING_KEY"

    def test_a_name_that_is_not_served_is_told(self, vllm: Vllm, key: str, sharp_student: Path) -> None:
        told = refusal(sharp_student, urls=[vllm.url], model="teacher")
        assert told == f"scoring.model: vLLM at {vllm.url} has no model 'teacher'; it serves 'student'"

    def test_more_tokens_than_the_server_reads_are_refused(self, vllm: Vllm, key: str, sharp_student: Path) -> None:
        told = refusal(sharp_student, urls=[vllm.url], max_tokens=MAX_MODEL_LEN)
        assert "reads at most 899; start it with --max-model-len 901" in told
