"""Explanations over the service are those of `rlt explain`, told as they are written, and never the end tag."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from server.configs import EngineSettings, Limits
from server.engine.local_engine import open_local
from server.engine.opening import open_engine
from server.engine.protocol import Generation
from server.errors import EngineRefused, Invalid, NotFound, Unavailable
from server.teaching.explaining import (
    Ask,
    Delta,
    UntilTag,
    asked,
    check_scoring,
    choice,
    explain,
    failed,
    prompt,
    rank,
    response,
    stream,
    together,
)
from server.teaching.teachers import Teachers
from server.wire import ExplanationRequest, ScoreRequest, ScoreResponse
from student.configs import ModelSettings, SamplingSettings
from student.explanations import Explanation, Score
from student.models import load_tokenizer
from student.problem_files import write_problems
from student.problems import Problem
from teacher.configs import ExplainConfig
from teacher.explain import main as rlt_explain
from tests.server.scripted_engine import ScriptedEngine

CPU = ModelSettings(device="cpu", threads=1)
CLOSE = "<|end_of_explanation|>"


def request(problem: Problem, **changes: Any) -> ExplanationRequest:
    values = {"question": problem.question, "solution": problem.solution, "temperature": 1.0, "max_tokens": 16}
    return ExplanationRequest.model_validate({**values, "seed": 5, **changes})


def ask_of(problem: Problem, **changes: Any) -> Ask:
    return asked(request(problem, **changes), Limits())


def settings(folder: Path) -> EngineSettings:
    return EngineSettings(teacher=str(folder), device="cpu", threads=1)


def with_teacher(folder: Path, work: Callable[[Teachers], Any]) -> Any:
    """What `work` returns, on the model in `folder`."""

    async def run() -> Any:
        engine = await open_local(str(folder), CPU)
        try:
            return await work(await Teachers.open(settings(folder), engine))
        finally:
            await engine.close()

    return asyncio.run(run())


def with_script(folder: Path, text: str, work: Callable[[Teachers, ScriptedEngine], Any], **options: Any) -> Any:
    """What `work` returns where the teacher writes `text`, {seed} filled in."""

    async def run() -> Any:
        tokenizer = load_tokenizer(str(folder))
        engine = ScriptedEngine(tokenizer, lambda asked: text.replace("{seed}", str(asked.seed)), **options)
        return await work(await Teachers.open(settings(folder), engine), engine)

    return asyncio.run(run())


def test_the_rows_are_those_of_rlt_explain(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path
) -> None:
    write_problems(tiny_problems[:3], tmp_path / "problems.jsonl")
    out = tmp_path / "rows.jsonl"
    sampling = SamplingSettings(temperature=1.0, max_tokens=16, seed=5)
    values = {"problems": str(tmp_path / "problems.jsonl"), "teacher": str(tiny_model_folder), "out": str(out)}
    rlt_explain(
        ExplainConfig.model_validate({**values, "samples": 2, "device": "cpu", "threads": 1, "sampling": sampling})
    )
    written = [Explanation.model_validate_json(line) for line in out.read_text().splitlines()]

    async def work(teachers: Teachers) -> list[Explanation]:
        asks = [ask_of(problem, n=2) for problem in tiny_problems[:3]]
        return [row for rows in await asyncio.gather(*(explain(teachers, ask) for ask in asks)) for row in rows]

    rows = with_teacher(tiny_model_folder, work)
    assert [row.id for row in rows] == [row.id for row in written]
    of_a_file = {"answer", "teacher", "provenance"}
    assert [row.model_dump(exclude=of_a_file) for row in rows] == [row.model_dump(exclude=of_a_file) for row in written]
    assert {row.teacher for row in rows} == {tiny_model_folder.name}


def test_a_stream_is_what_the_whole_answer_is(tiny_model_folder: Path, tiny_problems: list[Problem]) -> None:
    ask = ask_of(tiny_problems[0], n=3, max_tokens=30)

    async def work(teachers: Teachers) -> tuple[list[Explanation], list[Any]]:
        return await explain(teachers, ask), [event async for event in stream(teachers, ask)]

    rows, events = with_teacher(tiny_model_folder, work)
    streamed = [event for event in events if isinstance(event, Explanation)]
    assert sorted(streamed, key=lambda row: row.sample) == rows
    for row in rows:
        deltas = [event.text for event in events if isinstance(event, Delta) and event.index == row.sample]
        assert "".join(deltas) == row.explanation
        assert len(deltas) > 1


@pytest.mark.parametrize(
    ("text", "explanation", "closed"),
    [
        (f"So 3 + 4 = 7.\n\n{CLOSE} and more{CLOSE}", "So 3 + 4 = 7.\n\n", True),
        (f"a < b <| c {CLOSE}", "a < b <| c ", True),
        ("it ends in <|end_of_", "it ends in <|end_of_", False),
        (f"é😀 {CLOSE}", "é😀 ", True),
        (CLOSE, "", True),
        ("", "", False),
    ],
)
def test_no_delta_holds_a_part_of_the_end_tag(
    tiny_model_folder: Path, tiny_problems: list[Problem], text: str, explanation: str, closed: bool
) -> None:
    async def work(teachers: Teachers, engine: ScriptedEngine) -> list[Any]:
        return [event async for event in stream(teachers, ask_of(tiny_problems[0], max_tokens=100))]

    *deltas, row = with_script(tiny_model_folder, text, work)
    assert "".join(delta.text for delta in deltas) == row.explanation == explanation
    assert row.closed == closed
    assert all(delta.text for delta in deltas)


def test_text_is_held_back_only_while_it_may_become_the_tag() -> None:
    until = UntilTag("</think>")
    assert [until.passed(text) for text in ("a<", "/", "b</thi", "</think>c", "d")] == ["a", "", "</b", "</thi", ""]


def test_rows_without_a_seed_differ_and_with_one_come_again(tiny_problems: list[Problem]) -> None:
    seeds = [tuple(ask_of(tiny_problems[0], seed=seed, n=2).seeds) for seed in (None, None, 7, 7, 8)]
    assert len(set(seeds)) == 4
    assert seeds[2] == seeds[3]
    assert all(0 <= seed < 2**63 for pair in seeds for seed in pair)


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"n": 5}, "n"),
        ({"n": 1, "best_of": 5}, "best_of"),
        ({"max_tokens": 101}, "max_tokens"),
        ({"question": "?" * 51}, "question"),
        ({"solution": "!" * 51}, "solution"),
    ],
)
def test_more_than_the_limits_allow_is_refused(tiny_problems: list[Problem], changes: Any, param: str) -> None:
    limits = Limits(samples=4, max_tokens=100, text_characters=50)
    short = Problem(question="1 + 1?", solution="2")
    with pytest.raises(Invalid, match=f"^{param}: at most") as caught:
        asked(request(short, **changes), limits)
    assert caught.value.param == param
    unset = ExplanationRequest(question="1 + 1?", solution="2")
    assert asked(unset, limits).max_tokens == 100, "nobody asked for 4096"


def test_what_cannot_be_asked_names_the_field(tiny_model_folder: Path, tiny_problems: list[Problem]) -> None:
    async def work(teachers: Teachers) -> None:
        control = teachers.tokenizer.eos_token
        for changes, error, param in [
            ({"question": "why? " * 2000}, Invalid, "question"),
            ({"solution": f"7{control}"}, Invalid, "solution"),
            ({"question": f"{control}?"}, Invalid, "question"),
            ({"model": "geometry"}, NotFound, "model"),
        ]:
            with pytest.raises(error) as caught:
                await explain(teachers, ask_of(tiny_problems[0], **changes))
            assert caught.value.param == param

    with_teacher(tiny_model_folder, work)


def test_max_tokens_is_lowered_to_what_the_context_leaves(
    tiny_model_folder: Path, tiny_problems: list[Problem]
) -> None:
    async def work(teachers: Teachers) -> None:
        made = await prompt(teachers, ask_of(tiny_problems[0], max_tokens=5000))
        assert len(made.token_ids) + made.max_tokens == 1024

    with_teacher(tiny_model_folder, work)


def test_a_big_text_makes_the_prompt_that_its_format_makes(tiny_model_folder: Path) -> None:
    async def work(teachers: Teachers, engine: ScriptedEngine) -> None:
        problem = Problem(question="How many? " * 3000, solution="4")
        made = await prompt(teachers, ask_of(problem))
        assert made.token_ids == teachers.form().prompt_ids(problem.question, problem.solution)

    with_script(tiny_model_folder, "", work)


def test_the_tag_style_of_a_request_is_the_prompts_and_the_rows(
    tiny_model_folder: Path, tiny_problems: list[Problem]
) -> None:
    async def work(teachers: Teachers, engine: ScriptedEngine) -> None:
        ask = ask_of(tiny_problems[0], tags="think", max_tokens=100)
        [row] = await explain(teachers, ask)
        assert (row.explanation, row.closed, row.tags) == ("so ", True, "think")
        assert teachers.tokenizer.decode((await prompt(teachers, ask)).token_ids).endswith("<think>\n")

    with_script(tiny_model_folder, "so </think> 7", work)


def test_a_reader_that_leaves_ends_the_engine_s_work(tiny_model_folder: Path, tiny_problems: list[Problem]) -> None:
    async def work(teachers: Teachers, engine: ScriptedEngine) -> None:
        ask = ask_of(tiny_problems[0], n=3, max_tokens=100)
        events = stream(teachers, ask)
        assert isinstance(await anext(events), Delta)
        engine.may_go.clear()
        await events.aclose()
        assert engine.running == 0
        whole = asyncio.create_task(explain(teachers, ask))
        while engine.running < 3:
            await asyncio.sleep(0)
        whole.cancel()
        await asyncio.gather(whole, return_exceptions=True)
        assert engine.running == 0

    with_script(tiny_model_folder, "on and on " * 5, work)


def test_a_slow_reader_holds_no_swap_up(tiny_model_folder: Path, tiny_problems: list[Problem]) -> None:
    async def work(teachers: Teachers, engine: ScriptedEngine) -> None:
        before = teachers.known(None).digest
        events = stream(teachers, ask_of(tiny_problems[0], max_tokens=100))
        await anext(events)
        async with asyncio.timeout(60):
            await teachers.swap(str(tiny_model_folder))
        row = [event async for event in events][-1]
        assert isinstance(row, Explanation)
        assert row.teacher_digest == before

    with_script(tiny_model_folder, "on and on", work)


def test_one_sample_that_is_refused_ends_its_siblings(tiny_model_folder: Path, tiny_problems: list[Problem]) -> None:
    async def work(teachers: Teachers, engine: ScriptedEngine) -> None:
        generate = engine.generate
        ask = ask_of(tiny_problems[0], n=3)

        async def refusing(asked: Generation) -> Any:
            if asked.seed == ask.seeds[1]:
                raise EngineRefused("not this one")
            return await generate(asked)

        engine.may_go.clear()
        engine.generate = refusing  # type: ignore[method-assign]
        with pytest.raises(EngineRefused, match="not this one"):
            await explain(teachers, ask)
        assert engine.running == 0

    with_script(tiny_model_folder, "on and on", work)


def test_together_keeps_the_order_and_takes_one_or_none() -> None:
    async def later(turns: int) -> int:
        for _ in range(turns):
            await asyncio.sleep(0)
        return turns

    async def run() -> list[list[int]]:
        return [await together([later(turn) for turn in turns]) for turns in ([3, 0, 2], [1], [])]

    assert asyncio.run(run()) == [[3, 0, 2], [1], []]


def test_rows_that_could_not_be_made_are_those_of_rlt_explain(tiny_model_folder: Path, tmp_path: Path) -> None:
    long = Problem(question="How many? " * 2000, solution="4")
    write_problems([long], tmp_path / "problems.jsonl")
    out = tmp_path / "rows.jsonl"
    values = {"problems": str(tmp_path / "problems.jsonl"), "teacher": str(tiny_model_folder), "out": str(out)}
    rlt_explain(ExplainConfig.model_validate({**values, "device": "cpu", "sampling": {"seed": 5, "temperature": 1.0}}))
    written = Explanation.model_validate_json(out.read_text())
    [row] = failed(ask_of(long), "rlt", str(written.error))
    of_a_teacher = {"teacher", "teacher_digest"}
    assert row.model_dump(exclude=of_a_teacher) == written.model_dump(exclude=of_a_teacher)


def scored_row(sample: int, reward: float | None, rkl: float | None = None) -> Explanation:
    score = None if reward is None else Score(reward=reward, rss=-reward, ss_mean=0, ss_min=0, rkl=rkl)
    return Explanation(
        problem_id="p",
        sample=sample,
        question="q",
        solution="s",
        explanation="",
        closed=True,
        finished=True,
        score=score,
    )


def test_ranking_puts_the_best_first_and_what_has_no_score_last() -> None:
    rows = [scored_row(0, -2.0, 0.3), scored_row(1, None), scored_row(2, -1.0, 0.4), scored_row(3, -3.0, 0.1)]

    def order(by: Any, n: int = 4) -> list[int]:
        return [row.sample for row in rank(rows, by, n)]

    assert order("reward") == [2, 0, 3, 1]
    assert order("rss") == [3, 0, 2, 1]
    assert order("rkl") == [3, 0, 2, 1]
    assert order("reward", 1) == [2]
    assert order(None, 2) == [0, 1]
    assert [row.sample for row in rank([scored_row(0, -1.0), scored_row(1, -1.0, 0.5)], "rkl", 2)] == [1, 0]


class Judge:
    """A student that likes later samples better; its teacher wrote nothing of ours."""

    name = "judge"
    digest = "j"
    teacher_name: str | None = "somebody"
    teacher_digest: str | None = "other"

    async def score(self, rows: Any, measures: Any = None) -> list[Explanation]:
        """Scores by the sample's number."""
        score = {row.sample: Score(reward=row.sample, rss=0, ss_mean=0, ss_min=0, rkl=0.5) for row in rows}
        return [row.model_copy(update={"score": score[row.sample]}) for row in rows]

    async def measure(self, request: ScoreRequest) -> ScoreResponse:
        """Nobody asks."""
        raise NotImplementedError

    async def reload_teacher(self, folder: str) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""


def test_best_of_returns_the_best_with_the_tokens_of_all(tiny_model_folder: Path, tiny_problems: list[Problem]) -> None:
    async def work(teachers: Teachers, engine: ScriptedEngine) -> None:
        body = request(tiny_problems[0], best_of=3, n=2, max_tokens=100)
        made = await prompt(teachers, asked(body, Limits()))
        rows = await explain(teachers, made.ask, Judge())
        answer = response(body, made, rows)
        assert [each.index for each in answer.explanations] == [2, 1]
        assert answer.usage.completion_tokens == sum(len(row.token_ids or ()) for row in rows)
        assert answer.usage.prompt_tokens == len(made.token_ids)
        assert answer.explanations[0].seed == made.ask.seeds[2]
        assert answer.explanations[0].explanation == f"{made.ask.seeds[2]} "

    with_script(tiny_model_folder, f"{{seed}} {CLOSE}", work)


def test_a_score_that_compares_with_other_weights_says_so(
    tiny_model_folder: Path, tiny_problems: list[Problem]
) -> None:
    async def work(teachers: Teachers, engine: ScriptedEngine) -> None:
        judge = Judge()
        [row] = await explain(teachers, ask_of(tiny_problems[0]), judge)
        assert choice(row).score is not None
        assert choice(row).score.notes == ("rkl compares with 'somebody', which did not write this",)
        judge.teacher_digest = row.teacher_digest
        streamed = [event async for event in stream(teachers, ask_of(tiny_problems[0]), judge)][-1]
        assert streamed.score.notes == ()

    with_script(tiny_model_folder, "so", work)


def test_scores_are_promised_only_where_somebody_makes_them() -> None:
    check_scoring(None, False, None)
    check_scoring(Judge(), True, "rkl")
    with pytest.raises(Unavailable) as caught:
        check_scoring(None, True, None)
    assert caught.value.code == "no_student"
    alone = Judge()
    alone.teacher_name = None
    check_scoring(alone, True, "reward")
    with pytest.raises(Invalid, match="no rkl"):
        check_scoring(alone, True, "rkl")


@pytest.mark.vllm
@pytest.mark.slow
def test_on_vllm_too_rows_are_those_of_their_weights_before_and_after_a_swap(
    vllm_url: str, servable_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path
) -> None:
    other = shutil.copytree(servable_model_folder, tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    save_file({name: tensor * 1.5 for name, tensor in weights.items()}, other / "model.safetensors", {"format": "pt"})
    asks = [ask_of(problem, temperature=0, max_tokens=24) for problem in tiny_problems[:6]]

    async def rows_of(teachers: Teachers) -> list[tuple[str, ...]]:
        rows = [row for rows in await asyncio.gather(*(explain(teachers, ask) for ask in asks)) for row in rows]
        return [(str(row.teacher_digest), row.explanation, *map(str, row.token_ids or ())) for row in rows]

    async def on_vllm() -> list[list[tuple[str, ...]]]:
        config = settings(servable_model_folder).model_copy(update={"engine_urls": [vllm_url]})
        async with open_engine(config, tmp_path) as engine:
            teachers = await Teachers.open(config, engine)
            made = [await rows_of(teachers)]
            for folder in (other, servable_model_folder):
                await teachers.swap(str(folder))
                made.append(await rows_of(teachers))
            streamed = [event async for event in stream(teachers, asks[0])]
            assert "".join(event.text for event in streamed[:-1] if isinstance(event, Delta)) == made[0][0][1]
            return made

    before, after, again = asyncio.run(on_vllm())
    assert before == again == with_teacher(servable_model_folder, rows_of)
    assert after == with_teacher(other, rows_of)
    assert before != after
