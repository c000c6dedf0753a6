"""Bounds on rows, distributions and neighbours, over REST: exactly the rows that `rlt select` would keep."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import httpx
import numpy as np
import pytest

from server.datasets.bounds import Bounds
from server.service import Parts
from student.curation.filters import filtered, value_of
from student.curation.settings import Filters
from student.explanations import Explanation, Score
from student.measures.results import Measure, Measures
from tests.server.in_process import in_app
from tests.server.stored_datasets import row, store_dataset

RANDOM = np.random.default_rng(0)


def made_up(problem: int, sample: int) -> Explanation:
    """A scored row, one in seven dropped, one in eleven failed, one in five without measures."""
    number = 3 * problem + sample
    reward, leak = RANDOM.normal(-2, 1), RANDOM.uniform()
    measures = Measures(leak=leak, tokens=int(RANDOM.integers(20, 4000)), verified=bool(number % 2))
    return row(
        problem,
        sample,
        score=Score(reward=reward, rss=reward / 2, ss_mean=-1, ss_min=-3),
        measures=None if number % 5 == 0 else measures,
        dropped="best_of: others were better" if number % 7 == 0 else None,
        error="refused" if number % 11 == 0 else None,
    )


UNITS = [[made_up(problem, sample) for problem in range(first, first + 20) for sample in range(3)] for first in (0, 20)]
ROWS = [each for unit in UNITS for each in unit]
OK = [each for each in ROWS if each.error is None and each.dropped is None]
BOUNDS = {"min_reward": -2.5, "max_leak": 0.5}
KEPT = [each for each in OK if filtered(each, Filters(at_least={"reward": -2.5}, at_most={"leak": 0.5})).kept]


def values(rows: Sequence[Explanation], measure: Measure) -> list[float]:
    return [value for each in rows if (value := value_of(each, measure)) is not None]


def test_every_measure_has_both_its_bounds() -> None:
    assert set(Bounds.model_fields) == {f"{side}_{name}" for name in get_args(Measure) for side in ("min", "max")}


def test_distributions_are_numpys_of_the_very_rows_and_tell_what_each_bound_leaves_out(tmp_path: Path) -> None:
    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        dataset = await store_dataset(parts, UNITS)
        asked = BOUNDS | {"min_gain": 0}
        found = (await client.get(f"/v1/datasets/{dataset}/distributions", params=BOUNDS)).raise_for_status().json()
        assert (found["rows"], found["matching"]) == (len(OK), len(KEPT))
        assert set(found["measures"]) == {"reward", "rss", "leak", "tokens", "verified"}
        for measure, told in found["measures"].items():
            for rows, of in ((OK, told["all"]), (KEPT, told["matching"])):
                known = values(rows, measure)
                assert of["rows"] == sum(of["histogram"]) == len(known)
                assert of["mean"] == pytest.approx(np.mean(known))
                for share, value in of["quantiles"].items():
                    exact = np.quantile(known, float(share), method="inverted_cdf")
                    assert value == pytest.approx(exact, rel=1e-12 if share in "01" else 1.001e-3)
        nothing = (await client.get(f"/v1/datasets/{dataset}/distributions", params=asked)).raise_for_status().json()
        assert nothing["matching"] == 0
        assert nothing["missed"] == {
            "min_reward": sum(value < -2.5 for value in values(OK, "reward")),
            "max_leak": len(OK) - sum(value <= 0.5 for value in values(OK, "leak")),
            "min_gain": len(OK),
        }
        assert nothing["measures"]["reward"]["matching"] is None
        assert nothing["measures"]["reward"]["all"] == found["measures"]["reward"]["all"]

    in_app(tmp_path, scenario)


def test_rows_manifests_and_exports_keep_to_the_same_bounds(tmp_path: Path) -> None:
    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        dataset = await store_dataset(parts, UNITS)
        ids = [each.id for each in KEPT]
        assert [each["id"] for each in await pages(client, f"/v1/datasets/{dataset}/rows", BOUNDS)] == ids
        assert [each["id"] for each in await pages(client, f"/v1/datasets/{dataset}/manifests", BOUNDS)] == ids
        export = await client.get(f"/v1/datasets/{dataset}/export", params=BOUNDS)
        assert [json.loads(line)["id"] for line in export.text.splitlines()] == ids
        for path, params, field in (
            ("export", {"format": "folder", "min_reward": 0}, "min_reward"),
            ("rows", {"min_reward": "much"}, "min_reward"),
            ("rows", {"min_rewards": 0}, "min_rewards"),
            ("distributions", {"max_leak": "nan"}, "max_leak"),
        ):
            answer = await client.get(f"/v1/datasets/{dataset}/{path}", params=params)
            assert (answer.status_code, answer.json()["error"]["param"]) == (422, field), answer.text

    in_app(tmp_path, scenario)


async def pages(client: httpx.AsyncClient, url: str, params: dict[str, float]) -> list[dict[str, Any]]:
    """What a list holds, page by page."""
    found: list[dict[str, Any]] = []
    asked: dict[str, Any] = params | {"limit": 4}
    while True:
        page = (await client.get(url, params=asked)).raise_for_status().json()
        found += page["data"]
        if not page["has_more"]:
            return found
        asked["after"] = page["last_id"]


def test_a_row_stands_between_those_that_keep_to_the_bounds(tmp_path: Path) -> None:
    odd = row(99, question="?", problem_id="a/b c#1")

    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        dataset = await store_dataset(parts, [*UNITS, [odd]])
        url = f"/v1/datasets/{dataset}/rows"
        kept, places = {each.id for each in KEPT}, {each.id: place for place, each in enumerate(ROWS)}
        for each in (ROWS[0], KEPT[0], KEPT[len(KEPT) // 2], UNITS[0][-1], UNITS[1][0], KEPT[-1], ROWS[-1]):
            found = (await client.get(f"{url}/{each.id}", params=BOUNDS)).raise_for_status().json()
            before = [other.id for other in ROWS[: places[each.id]] if other.id in kept]
            behind = [other.id for other in ROWS[places[each.id] + 1 :] if other.id in kept]
            assert found["previous"] == (before or [None])[-1]
            assert found["next"] == (behind or [None])[0]
            assert Explanation.model_validate(found["row"]) == each
            same = [other.id for other in ROWS if other.problem_id == each.problem_id]
            assert [other["id"] for other in found["candidates"]] == same
        assert (await client.get(f"{url}/a%2Fb%20c%231-0")).json()["row"]["question"] == "?"
        assert (await client.post(f"{url}/a%2Fb%20c%231-0/replay")).status_code == 503  # found; no teacher
        missing = await client.get(f"{url}/p0-9")
        assert (await client.post(f"{url}/p0-9/replay")).status_code == 404
        assert (missing.status_code, "p0-9" in missing.text) == (404, True)

    in_app(tmp_path, scenario)
