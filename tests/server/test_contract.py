"""The whole API, fuzzed by schemathesis from its own description: no request, sensible or not, makes it fail.

Half of what is sent fits the description, the other half misses it. A 5xx is a fault of ours, but for what the service
means to say with 503 and 504.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import product
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode

from tests.server.conftest import service_of
from tests.server.service_process import Service
from tests.student.test_run_reading import run_of

pytestmark = pytest.mark.slow

MEANT = {503, 504}
LONGEST = 16
"""Tokens of an explanation: what is asked is tried here, not how long it takes."""


@pytest.fixture(scope="module")
def fuzzed(servable_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service whose explanations are short."""
    folder = tmp_path_factory.mktemp("fuzzed")
    run_of(folder / "runs", metrics=[{"step": 1, "reward": -1.0}])
    short = {"limits.max-tokens": LONGEST, "limits.samples": 4, "limits.datasets": 10_000, "runs": folder / "runs"}
    service = service_of(servable_model_folder, folder, short, {}).start()
    service.key = service.create_key()  # what is sent may make another one, and then a service without any is closed
    yield service
    assert service.end() == 0, service.output()


@pytest.fixture(scope="module")
def known(fuzzed: Service) -> dict[str, str]:
    """The ids of things that are there, by the names that paths give them."""
    problem = {"question": "1 + 1?", "solution": "2"}
    line = {"custom_id": "a", "method": "POST", "url": "/v1/explanations", "body": problem}
    with fuzzed.client() as client:
        dataset = client.post("/v1/datasets", json={"problems": [problem]}).json()["id"]
        sent = {"file": ("requests.jsonl", json.dumps(line))}
        file = client.post("/v1/files", files=sent, data={"purpose": "batch"}).json()["id"]
        asked = {"input_file_id": file, "endpoint": "/v1/explanations", "completion_window": "24h"}
        batch = client.post("/v1/batches", json=asked).json()["id"]
        model = client.get("/v1/models").json()["data"][0]["id"]
        key = client.post("/v1/admin/keys", json={"name": "to be revoked"}).json()["id"]
        run = client.get("/v1/admin/runs").json()["data"][0]["id"]
    return {"dataset": dataset, "file": file, "batch": batch, "model": model, "key_id": key, "run": run}


def test_no_request_makes_the_service_fail(fuzzed: Service, known: dict[str, str]) -> None:
    schema = schemathesis.openapi.from_url(f"{fuzzed.url}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) >= 30
    statuses: Counter[int] = Counter()
    for operation, mode, ids in product(operations, GenerationMode, ({}, known)):
        with suppress(Unsatisfiable):  # nothing misses the description of what takes nothing
            given(operation.as_strategy(generation_mode=mode))(sender(ids, fuzzed.headers, statuses))()
    assert statuses.total() > 300
    assert {200, 400, 404, 422} <= statuses.keys()


def sender(ids: dict[str, str], headers: dict[str, str], statuses: Counter[int]) -> Callable[[Case], None]:
    """Sends a request, to one of `ids` where its path has a place for it, looks at the answer and counts it."""

    @settings(max_examples=8, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    def send(case: Case) -> None:
        case.path_parameters.update({name: ids[name] for name in case.path_parameters if name in ids})
        response = case.call(timeout=60, headers=headers)
        statuses[response.status_code] += 1
        assert response.status_code < 500 or response.status_code in MEANT, (case.as_curl_command(), response.text)
        if response.status_code >= 400:
            problem = response.json()
            assert problem["status"] == response.status_code
            assert problem["error"]["message"]

    return send
