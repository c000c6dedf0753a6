"""A student on vLLM gives the numbers of the student here, whatever happens to its servers meanwhile."""

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from student.configs import ModelSettings, ScoringSettings
from student.errors import ModelError, ScoringError
from student.models import load_model
from student.reading import Passage, assemble
from student.scoring import vllm_server
from student.scoring.protocol import PassageLogps
from student.scoring.remote import VllmScorer
from student.scoring.scorer import Scorer
from student.scoring.self_test import SelfTest, difference, read_here
from student.scoring.vllm_server import KEY_VARIABLE
from tests.student.scoring.front import Front, front
from tests.student.scoring.vllm_process import FOLDED, MAX_MODEL_LEN, Vllm

pytestmark = [pytest.mark.vllm, pytest.mark.slow]
CPU = ModelSettings(device="cpu")

Open = Callable[..., VllmScorer]


def passages(count: int, seed: int = 0) -> list[Passage]:
    draw = random.Random(seed)
    lengths = [(9, draw.randint(0, 60), 3, draw.randint(0, 9)) for _ in range(count)]
    return [assemble(*([draw.randrange(3, 400) for _ in range(n)] for n in row)) for row in lengths]


@pytest.fixture(scope="module")
def here(sharp_student: Path) -> Scorer:
    """The student in this process."""
    return Scorer(load_model(str(sharp_student), CPU), ScoringSettings())


@pytest.fixture(scope="module")
def self_test(sharp_student: Path) -> SelfTest:
    """What it makes of the fixed texts."""
    return read_here(str(sharp_student), CPU, ScoringSettings(), FOLDED)


@pytest.fixture
def open_at(vllm: Vllm, self_test: SelfTest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Opens a scorer on some fronts or addresses, tested."""
    monkeypatch.setenv(KEY_VARIABLE, vllm.key)
    opened: list[VllmScorer] = []

    def open_them(*servers: Front | str, **settings: object) -> VllmScorer:
        urls = [server.url if isinstance(server, Front) else server for server in servers]
        scorer = VllmScorer(ScoringSettings.model_validate({"urls": urls, **settings}), FOLDED)
        opened.append(scorer)
        scorer.meet()
        scorer.examine(self_test)
        return scorer

    yield open_them
    for scorer in opened:
        scorer.close()


def alike(seen: list[PassageLogps], expected: list[PassageLogps]) -> bool:
    """Equal to 3e-5 nats, passage by passage."""
    shapes = [(len(each.explanation_E), len(each.solution_S)) for each in seen]
    assert shapes == [(len(each.explanation_E), len(each.solution_S)) for each in expected]
    return difference(seen, expected)[1] < 3e-5


def test_the_numbers_are_those_of_the_student_here_in_the_order_given(vllm: Vllm, open_at: Open, here: Scorer) -> None:
    rows = passages(60)
    assert alike(open_at(vllm.url).logps(rows, FOLDED), here.logps(rows, FOLDED))


def test_at_temperature_1_too(vllm: Vllm, plain_folded_student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, vllm.key)
    scorer = VllmScorer(ScoringSettings(urls=(vllm.url,)), 1.0)
    scorer.meet()
    scorer.examine(read_here(str(plain_folded_student), CPU, ScoringSettings(), 1.0))
    rows = passages(20)
    local = Scorer(load_model(str(plain_folded_student), CPU), ScoringSettings())
    assert alike(scorer.logps(rows, 1.0), local.logps(rows, 1.0))
    assert scorer.logps([], 1.0) == []
    scorer.close()


def test_a_passage_of_all_the_tokens_that_the_server_reads_is_scored_and_one_more_is_refused(
    vllm: Vllm, open_at: Open, here: Scorer
) -> None:
    scorer = open_at(vllm.url)
    assert scorer.max_tokens == MAX_MODEL_LEN - 1
    whole = assemble([5] * 300, [6, 7] * 150, [8], [9] * 298)
    assert alike(scorer.logps([whole], FOLDED), here.logps([whole], FOLDED))
    with pytest.raises(ScoringError, match="takes 900 tokens, and the student on its servers reads at most 899"):
        scorer.logps([assemble([5] * 300, [6, 7] * 150, [8], [9] * 299)], FOLDED)
    assert open_at(vllm.url, max_tokens=700).max_tokens == 700


def test_another_temperature_than_the_servers_is_refused(vllm: Vllm, open_at: Open) -> None:
    with pytest.raises(ModelError, match=r"opened for temperature 0\.7, and 1 is asked"):
        open_at(vllm.url).logps(passages(1), 1.0)


def test_two_servers_share_the_passages_and_none_gets_more_at_a_time_than_is_said(
    vllm: Vllm, open_at: Open, here: Scorer
) -> None:
    rows = passages(40)
    with front(vllm.url) as one, front(vllm.url) as other:
        scorer = open_at(one, other, in_flight=3)
        crowd(one, 3)
        crowd(other, 3)
        before = one.passages, other.passages
        assert alike(scorer.logps(rows, FOLDED), here.logps(rows, FOLDED))
        carried = one.passages - before[0], other.passages - before[1]
        assert sum(carried) == 40
        assert min(carried) >= 10
        assert max(one.most_at_a_time, other.most_at_a_time) == 3


def test_callers_in_threads_and_in_an_event_loop_share_the_limit(vllm: Vllm, open_at: Open, here: Scorer) -> None:
    rows = passages(24)
    expected = here.logps(rows, FOLDED)
    with front(vllm.url) as one:
        scorer = open_at(one, in_flight=2)

        crowd(one, 2)

        async def both() -> list[list[PassageLogps]]:
            elsewhere = asyncio.to_thread(scorer.logps, rows, FOLDED)
            task = asyncio.create_task(elsewhere)
            await asyncio.sleep(0.05)
            return [scorer.logps(rows, FOLDED), await task]

        assert all(alike(seen, expected) for seen in asyncio.run(both()))
        assert one.most_at_a_time == 2


def crowd(one: Front, most: int) -> None:
    """Has the front hold its passages until so many are there at once: on a busy machine, too, as many come as may."""

    def hold(ids: list[int]) -> None:
        until = time.monotonic() + 20
        while one.most_at_a_time < most and time.monotonic() < until:
            time.sleep(0.01)

    one.on_passage = hold


def away(one: Front, seconds: float, after: int, shift: float = 0.0) -> None:
    """Has the front break off and refuse connections once, after some passages; it comes back with that shift."""
    carried = one.passages

    def go_and_return() -> None:
        one.stop()
        time.sleep(seconds)
        one.mood, one.shift = "carry", shift
        one.start()

    def leave(ids: list[int]) -> None:
        if one.passages - carried >= after:
            one.on_passage = lambda ids: None
            one.mood = "drop"
            threading.Thread(target=go_and_return, daemon=True).start()

    one.on_passage = leave


def test_a_server_that_is_gone_midway_and_comes_back_costs_nothing_but_time(
    vllm: Vllm, open_at: Open, here: Scorer, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = passages(30)
    with front(vllm.url) as one:
        scorer = open_at(one, in_flight=4)
        away(one, seconds=1.5, after=10)
        assert alike(scorer.logps(rows, FOLDED), here.logps(rows, FOLDED))
        assert f"vLLM at {one.url} does not answer" in capsys.readouterr().err


def test_what_a_server_leaves_undone_is_done_by_the_others(vllm: Vllm, open_at: Open, here: Scorer) -> None:
    rows = passages(30)
    with front(vllm.url) as gone:
        scorer = open_at(gone, vllm.url, in_flight=4)
        gone.on_passage = lambda ids: gone.stop()
        assert alike(scorer.logps(rows, FOLDED), here.logps(rows, FOLDED))


def test_an_overloaded_server_is_asked_again(vllm: Vllm, open_at: Open, here: Scorer) -> None:
    rows = passages(8)
    with front(vllm.url) as one:
        scorer = open_at(one)
        one.mood = "busy"
        threading.Timer(1.0, lambda: setattr(one, "mood", "carry")).start()
        assert alike(scorer.logps(rows, FOLDED), here.logps(rows, FOLDED))


def test_servers_that_stay_away_end_the_run_with_one_line(vllm: Vllm, open_at: Open) -> None:
    with front(vllm.url) as one:
        scorer = open_at(one, retry_seconds=1)
        one.stop()
        began = time.monotonic()
        with pytest.raises(
            ModelError, match=f"no vLLM server has answered for 1 s, last asked was {one.url}.*start it"
        ):
            scorer.logps(passages(4), FOLDED)
        assert time.monotonic() - began < 10


def test_a_server_that_comes_back_with_another_student_is_not_believed(vllm: Vllm, open_at: Open) -> None:
    with front(vllm.url) as one:
        scorer = open_at(one, in_flight=2)
        away(one, seconds=0.5, after=4, shift=0.1)
        with pytest.raises(ModelError, match=f"vLLM at {one.url} does not read as the student does"):
            scorer.logps(passages(20), FOLDED)


def test_nor_is_one_that_was_changed_in_a_silence(vllm: Vllm, open_at: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    with front(vllm.url) as one:
        scorer = open_at(one)
        one.shift = 0.1
        scorer.logps(passages(1), FOLDED)
        monkeypatch.setattr(vllm_server, "SAME_SECONDS", 0.1)
        time.sleep(0.2)
        with pytest.raises(ModelError, match=f"vLLM at {one.url} does not read as the student does"):
            scorer.logps(passages(1), FOLDED)


def test_a_passage_that_always_fails_is_told_and_the_others_are_not_blamed(vllm: Vllm, open_at: Open) -> None:
    rows = passages(6)

    def choke(ids: list[int]) -> None:
        if ids == rows[3].input_ids:
            raise ValueError("out of range float values")

    with front(vllm.url) as one:
        scorer = open_at(one, retry_seconds=2)
        one.on_passage = choke
        with pytest.raises(ModelError, match=r"fails at one passage again and again \(500: out of range float values"):
            scorer.logps(rows, FOLDED)


def test_what_is_refused_is_told_and_not_asked_again(vllm: Vllm, open_at: Open) -> None:
    with front(vllm.url) as one:
        scorer = open_at(one)
        before = one.asked
        with pytest.raises(ModelError, match=f"vLLM at {one.url} refused, 400: Token id 100000 is out"):
            scorer.logps([assemble([5], [100_000], [], [7])], FOLDED)
        assert one.asked == before + 1


def test_a_span_that_nothing_is_asked_of_is_empty(vllm: Vllm, open_at: Open) -> None:
    [seen] = open_at(vllm.url).logps([assemble([5, 6], [], [7], [])], FOLDED)
    assert seen.explanation_E.shape == seen.solution_S.shape == (0,)
