"""What the student makes of a trace is what `rlt score` makes of it, token by token and whoever asks beside."""

import asyncio
import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from server.configs import ServiceConfig
from server.errors import EngineUnavailable, Invalid, NotFound
from server.teaching.understanding import LocalStudent, row_of
from server.wire import ScoreResponse
from student.configs import MeasureSettings, ModelSettings
from student.errors import ModelError
from student.explanations import Explanation, from_trace, read_explanations
from student.models import load_model, load_tokenizer, weights_digest
from student.problems import Problem
from student.reading import StudentFormat
from student.tags import STYLES
from teacher.configs import ScoreConfig
from teacher.prompts import TeacherFormat
from teacher.score import main as rlt_score
from tests.server.scoring import TRACE, same, same_measures, settings, trace

CPU = ModelSettings(device="cpu", threads=1)


def with_student(
    config: ServiceConfig, work: Callable[[LocalStudent], Any], kind: type[LocalStudent] = LocalStudent
) -> Any:
    async def run() -> Any:
        student = await kind.open(config)
        try:
            return await work(student)
        finally:
            await student.close()

    return asyncio.run(run())


def test_rows_get_the_scores_of_rlt_score(
    tiny_model_folder: Path, retrained_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path
) -> None:
    rows = [from_trace(problem) for problem in tiny_problems]
    rows[3] = rows[3].model_copy(update={"explanation": "", "closed": False})
    rows[4] = rows[4].model_copy(update={"error": "the prompt did not fit"})
    rows[5] = rows[5].model_copy(update={"explanation": "because " * 2000})
    rows[6] = rows[6].model_copy(update={"question": "why " * 2000})
    (tmp_path / "rows.jsonl").write_text("\n".join(row.model_dump_json() for row in rows), encoding="utf-8")
    values = {"traces": str(tmp_path / "rows.jsonl"), "out": str(tmp_path / "scored.jsonl"), "threads": 1}
    models = {"student": str(retrained_model_folder), "teacher": str(tiny_model_folder), "device": "cpu"}
    rlt_score(ScoreConfig.model_validate({**values, **models}))
    written = read_explanations(str(tmp_path / "scored.jsonl"), STYLES["rlt"])

    config = settings(tiny_model_folder, student=str(retrained_model_folder))
    scored, measured = with_student(
        config, lambda student: asyncio.gather(student.score(rows), student.score(rows, MeasureSettings()))
    )
    assert len(scored) == len(measured) == len(written) == 40
    for plain, ours, theirs in zip(scored, measured, written, strict=True):
        same(plain, theirs)
        assert plain.measures is None
        same(ours, theirs)
        same_measures(ours, theirs)
        assert (ours.student, ours.student_digest) == (retrained_model_folder.name, theirs.student_digest)
    assert sum(row.measures is not None and row.measures.gain is not None for row in measured) == 37
    assert sum(row.score is not None for row in scored) == 37


def test_many_callers_get_their_own_rows_in_their_order(tiny_model_folder: Path, tiny_problems: list[Problem]) -> None:
    rows = [from_trace(problem) for problem in tiny_problems]
    parts = [rows[:1], rows[1:9], [], rows[9:10], rows[10:]]

    async def work(student: LocalStudent) -> tuple[list[list[Explanation]], list[Explanation]]:
        return await asyncio.gather(*(student.score(part) for part in parts)), await student.score(rows)

    apart, at_once = with_student(settings(tiny_model_folder), work)
    assert [len(part) for part in apart] == [len(part) for part in parts]
    for ours, theirs in zip([row for part in apart for row in part], at_once, strict=True):
        same(ours, theirs)


class Watched(LocalStudent):
    """Notes which rows were read together."""

    read: list[list[str]]

    def _scored(self, rows: Sequence[Explanation], measures: Sequence[MeasureSettings | None]) -> list[Explanation]:
        self.read.append([row.id for row in rows])
        return super()._scored(rows, measures)


def test_callers_take_turns_and_what_nobody_waits_for_is_not_read(
    tiny_model_folder: Path, tiny_problems: list[Problem]
) -> None:
    rows = [from_trace(problem) for problem in tiny_problems]

    async def work(student: Watched) -> None:
        student.read = []
        long, left, short = (asyncio.create_task(student.score(part)) for part in (rows[:20], rows[20:39], rows[39:]))
        await asyncio.sleep(0)
        left.cancel()
        await asyncio.gather(long, short)
        assert student.read[0][:2] == [rows[0].id, rows[39].id], "one row of each who waits, then the next"
        assert {name for names in student.read for name in names} == {row.id for row in (*rows[:20], rows[39])}

    small = {"scoring": {"tokens_per_batch": 256}}
    with_student(settings(tiny_model_folder, **small), work, Watched)


def oracle(folder: Path, ids: list[int], positions: range) -> list[float]:
    """log p of the ids at `positions` at temperature 0.7, in float64 from the model's own logits."""
    model = load_model(str(folder), CPU)
    with torch.no_grad():
        logp_TV = (model(torch.tensor([ids])).logits[0].double() / 0.7).log_softmax(-1)
    return [logp_TV[place - 1, ids[place]].item() for place in positions]


def test_each_token_s_numbers_are_the_models_own(
    tiny_model_folder: Path, retrained_model_folder: Path, tiny_problems: list[Problem]
) -> None:
    problem = tiny_problems[0]
    config = settings(tiny_model_folder, student=str(retrained_model_folder))
    answer: ScoreResponse = with_student(config, lambda student: student.measure(trace(problem, per_token=True)))

    tokenizer = load_tokenizer(str(retrained_model_folder))
    reads, shows = StudentFormat(tokenizer, STYLES["rlt"]), TeacherFormat(tokenizer, STYLES["rlt"])
    thought = reads.encode(TRACE)
    informed, blind = (reads.read(problem.question, ids, problem.solution) for ids in (thought, []))
    theirs = shows.passage(problem.question, problem.solution, thought)
    student_E = oracle(retrained_model_folder, informed.input_ids, informed.explanation)
    teacher_E = oracle(tiny_model_folder, theirs.input_ids, theirs.explanation)
    informed_S = oracle(retrained_model_folder, informed.input_ids, informed.solution)
    blind_S = oracle(retrained_model_folder, blind.input_ids, blind.solution)

    assert answer.explanation_tokens is not None
    assert answer.solution_tokens is not None
    assert [token.id for token in answer.explanation_tokens] == thought
    assert [token.logp for token in answer.explanation_tokens] == pytest.approx(student_E, abs=1e-5)
    assert [token.teacher_logp for token in answer.explanation_tokens] == pytest.approx(teacher_E, abs=1e-5)
    kls = [their - our for their, our in zip(teacher_E, student_E, strict=True)]
    assert [token.kl for token in answer.explanation_tokens] == pytest.approx(kls, abs=1e-5)
    assert [token.logp for token in answer.solution_tokens] == pytest.approx(informed_S, abs=1e-5)
    assert [token.blind_logp for token in answer.solution_tokens] == pytest.approx(blind_S, abs=1e-5)
    gains = [with_it - without for with_it, without in zip(informed_S, blind_S, strict=True)]
    assert [token.gain for token in answer.solution_tokens] == pytest.approx(gains, abs=1e-5)
    assert answer.score.kl_max == pytest.approx(max(kls), abs=1e-5)
    assert answer.score.ss_mean == pytest.approx(sum(informed_S) / len(informed_S), abs=1e-5)


@pytest.mark.parametrize("estimator", ["k1", "k3", "exact"])
def test_the_parts_add_up_to_the_score_and_to_the_text(
    tiny_model_folder: Path, retrained_model_folder: Path, tiny_problems: list[Problem], estimator: str
) -> None:
    problem = tiny_problems[0]
    config = settings(tiny_model_folder, student=str(retrained_model_folder), reward={"kl_estimator": estimator})

    async def work(student: LocalStudent) -> tuple[ScoreResponse, ScoreResponse]:
        return await student.measure(trace(problem, per_token=True, per_step=True)), await student.measure(
            trace(problem)
        )

    detailed, plain = with_student(config, work)
    assert plain.explanation_tokens is plain.steps is None
    assert detailed.score.reward == pytest.approx(plain.score.reward, abs=1e-5)
    tokens, steps = detailed.explanation_tokens, detailed.steps
    assert "".join(token.text for token in tokens) == "".join(step.text for step in steps) == TRACE
    assert "".join(token.text for token in detailed.solution_tokens) == problem.solution
    assert all(TRACE[token.start :].startswith(token.text) for token in tokens)
    assert [step.start for step in steps] == [0, 27, TRACE.index("So 5.")]
    assert sum(step.tokens for step in steps) == len(tokens)
    kls = [token.kl for token in tokens]
    assert all(token.teacher_logp is not None for token in tokens)
    assert math.fsum(kls) / len(kls) == pytest.approx(detailed.score.kl_mean, abs=1e-5)
    assert max(step.kl_max for step in steps) == max(kls) == pytest.approx(detailed.score.kl_max, abs=1e-5)
    weighted = math.fsum(step.logp_mean * step.tokens for step in steps)
    assert weighted == pytest.approx(math.fsum(token.logp for token in tokens), abs=1e-4)


def test_each_step_has_its_credit_and_the_student_answers_itself(
    tiny_model_folder: Path, tiny_problems: list[Problem]
) -> None:
    problem = tiny_problems[0]
    every = {"step_credit": True, "verified": True, "own_tokens": 6}

    async def work(student: LocalStudent) -> list[ScoreResponse]:
        asked = [trace(problem, per_step=True, per_token=True, measures=every), trace(problem, measures=every)]
        with pytest.raises(Invalid, match="at most 32 here, got 40") as caught:
            await student.measure(trace(problem, measures={"most_steps": 40}))
        assert caught.value.param == "measures.most_steps"
        return [await student.measure(request) for request in asked]

    detailed, plain = with_student(settings(tiny_model_folder), work)
    measures = detailed.measures
    assert plain.steps is None
    assert plain.measures.steps is not None
    assert [step.credit for step in detailed.steps] == [step.credit for step in measures.steps]
    assert [TRACE[step.start : step.stop] for step in measures.steps] == [step.text for step in detailed.steps]
    assert sum(step.credit for step in detailed.steps) == pytest.approx(measures.gain, abs=1e-6)
    assert (measures.verified, plain.measures.student_answer) == (False, measures.student_answer)
    assert measures.student_answer is not None


def test_token_ids_that_spell_the_text_are_taken_and_others_are_not(
    tiny_model_folder: Path, tiny_problems: list[Problem]
) -> None:
    text = "She has 3 apples."
    tokenizer = load_tokenizer(str(tiny_model_folder))
    letters = [token for letter in text for token in tokenizer(letter, add_special_tokens=False)["input_ids"]]
    usual = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert len(letters) > len(usual)

    async def work(student: LocalStudent) -> list[list[int]]:
        answers = [
            await student.measure(trace(tiny_problems[0], text, token_ids=ids, per_token=True))
            for ids in (letters, [1, 2, 3], [10**9], [], None)
        ]
        assert all("".join(token.text for token in answer.explanation_tokens or ()) == text for answer in answers)
        return [[token.id for token in answer.explanation_tokens or ()] for answer in answers]

    assert with_student(settings(tiny_model_folder), work) == [letters, usual, usual, usual, usual]


def test_an_empty_trace_and_one_that_is_too_long_have_defined_parts(
    tiny_model_folder: Path, tiny_problems: list[Problem]
) -> None:
    long = "because of it\n\n" * 400

    async def work(student: LocalStudent) -> list[ScoreResponse]:
        texts = ("", "\n\n", long)
        asked = [trace(tiny_problems[0], text, closed=False, per_token=True, per_step=True) for text in texts]
        return [await student.measure(request) for request in asked]

    alone = settings(tiny_model_folder, teacher=None)
    empty, blank, cut = with_student(alone, work)
    assert (empty.explanation_tokens, empty.steps) == ([], [])
    assert all(token.gain == pytest.approx(0, abs=1e-6) for token in empty.solution_tokens or ())
    assert empty.teacher is empty.score.rkl is None
    assert [step.text for step in blank.steps] == ["\n\n"]
    assert "".join(step.text for step in cut.steps) == long
    assert "to fit the student" in cut.score.notes[1]
    read = cut.explanation_tokens
    assert long.startswith("".join(token.text for token in read))
    assert cut.steps[0].logp_mean is not None
    assert (cut.steps[-1].tokens, cut.steps[-1].logp_mean) == (0, None)
    assert sum(step.tokens for step in cut.steps) == len(read)


def test_what_cannot_be_read_names_the_field(tiny_model_folder: Path, tiny_problems: list[Problem]) -> None:
    problem = tiny_problems[0]

    async def work(student: LocalStudent) -> None:
        control = load_tokenizer(str(tiny_model_folder)).eos_token
        for per_token in (False, True):
            for field in ("question", "solution", "explanation"):
                with pytest.raises(Invalid, match="control token") as caught:
                    await student.measure(trace(problem, **{field: f"so {control}", "per_token": per_token}))
                assert caught.value.param == field
            with pytest.raises(Invalid, match="the student reads at most 1024"):
                await student.measure(trace(problem, question="why " * 2000, per_token=per_token))
        with pytest.raises(NotFound, match=f"there is {tiny_model_folder.name!r}") as missing:
            await student.measure(trace(problem, student="somebody"))
        assert (missing.value.param, missing.value.code) == ("student", "model_not_found")
        assert (await student.measure(trace(problem, student=tiny_model_folder.name))).student == student.name

    with_student(settings(tiny_model_folder), work)


def test_each_row_is_read_in_its_own_tags(tiny_model_folder: Path, tiny_problems: list[Problem]) -> None:
    row = from_trace(tiny_problems[0])
    rows = [row.model_copy(update={"tags": tags}) for tags in ("rlt", "think", None)]
    rlt, think, usual = with_student(settings(tiny_model_folder, tags="think"), lambda student: student.score(rows))
    assert abs(rlt.score.reward - think.score.reward) > 1e-4
    assert usual.score.reward == pytest.approx(think.score.reward, abs=1e-5)


def test_a_row_whose_numbers_break_fails_alone(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_model_folder, tmp_path / "broken")
    weights = load_file(folder / "model.safetensors")
    [poison] = load_tokenizer(str(folder))("@", add_special_tokens=False)["input_ids"]
    weights["model.embed_tokens.weight"] = weights["model.embed_tokens.weight"].clone()
    weights["model.embed_tokens.weight"][poison] = torch.inf
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    rows = [from_trace(problem) for problem in tiny_problems[:3]]
    rows[1] = rows[1].model_copy(update={"explanation": "a @ b"})
    # Untied, so that only who reads the token is struck.
    config = (folder / "config.json").read_text().replace('"tie_word_embeddings": true', '"tie_word_embeddings": false')
    (folder / "config.json").write_text(config)
    if "lm_head.weight" not in weights:
        weights["lm_head.weight"] = load_file(tiny_model_folder / "model.safetensors")["model.embed_tokens.weight"]
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    async def work(student: LocalStudent) -> list[Explanation]:
        with pytest.raises(Invalid, match="not finite"):
            await student.measure(trace(tiny_problems[0], "a @ b", per_token=True))
        return await student.score(rows)

    scored = with_student(settings(folder, teacher=None), work)
    assert [row.score is not None for row in scored] == [True, False, True]
    assert "not finite" in scored[1].unscored


class Failing(LocalStudent):
    """A fault of ours, or of torch's, at one row."""

    def _scored_alike(
        self, rows: Sequence[Explanation], measures: Sequence[MeasureSettings | None]
    ) -> list[Explanation]:
        if any("unlucky" in row.explanation for row in rows):
            raise RuntimeError("CUDA error: out of memory")
        return super()._scored_alike(rows, measures)


def test_a_failure_that_nobody_foresaw_is_that_of_one_row(
    tiny_model_folder: Path, tiny_problems: list[Problem]
) -> None:
    rows = [from_trace(problem) for problem in tiny_problems[:3]]
    rows[1] = rows[1].model_copy(update={"explanation": "unlucky"})

    async def work(student: LocalStudent) -> list[Explanation]:
        await student.score(rows)
        return await student.score(rows)

    scored = with_student(settings(tiny_model_folder), work, Failing)
    assert [row.score is not None for row in scored] == [True, False, True]
    assert scored[1].unscored == "scoring failed: RuntimeError"


def test_another_teacher_is_compared_with_after_a_swap(
    tiny_model_folder: Path, retrained_model_folder: Path, servable_model_folder: Path, tiny_problems: list[Problem]
) -> None:
    rows = [from_trace(problem) for problem in tiny_problems[:4]]
    expected = with_student(
        settings(tiny_model_folder, teacher=str(retrained_model_folder)), lambda student: student.score(rows)
    )

    async def work(student: LocalStudent) -> None:
        before = await student.score(rows)
        assert student.teacher_digest == weights_digest(str(tiny_model_folder))
        with pytest.raises(ModelError, match="its tensors are not those"):
            await student.reload_teacher(str(servable_model_folder))
        with pytest.raises(ModelError, match="no such folder"):
            await student.reload_teacher(str(tiny_model_folder / "none"))
        for ours, theirs in zip(await student.score(rows), before, strict=True):
            same(ours, theirs)
        await student.reload_teacher(str(retrained_model_folder))
        assert student.teacher_digest == weights_digest(str(retrained_model_folder))
        for ours, theirs in zip(await student.score(rows), expected, strict=True):
            same(ours, theirs)
        assert abs(expected[0].score.rkl - before[0].score.rkl) > 1e-3

    with_student(settings(tiny_model_folder), work)


def test_without_a_teacher_there_is_no_rkl_and_nothing_to_reload(
    tiny_model_folder: Path, retrained_model_folder: Path, tiny_problems: list[Problem]
) -> None:
    async def work(student: LocalStudent) -> None:
        await student.reload_teacher(str(retrained_model_folder))
        answer = await student.measure(trace(tiny_problems[0], per_token=True))
        assert (answer.teacher, answer.teacher_digest, answer.score.rkl) == (None, None, None)
        assert all(token.kl is token.teacher_logp is None for token in answer.explanation_tokens or ())

    with_student(settings(tiny_model_folder, score_teacher=False), work)


def test_models_that_read_other_tokens_are_refused(tiny_model_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model_folder, tmp_path / "other_tokens")
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = content["model"]["vocab"]
    vocabulary["!"], vocabulary['"'] = vocabulary['"'], vocabulary["!"]
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ModelError, match="--no-score-teacher"):
        asyncio.run(LocalStudent.open(settings(tiny_model_folder, student=str(folder))))


def test_who_waits_when_the_student_is_closed_is_told(tiny_model_folder: Path, tiny_problems: list[Problem]) -> None:
    rows = [from_trace(problem) for problem in tiny_problems]

    async def run() -> None:
        student = await LocalStudent.open(settings(tiny_model_folder))
        waiting = [asyncio.create_task(student.score(rows)) for _ in range(3)]
        await asyncio.sleep(0)
        await student.close()
        for outcome in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(outcome, EngineUnavailable)

    asyncio.run(run())


def test_a_request_is_the_row_that_it_describes(tiny_problems: list[Problem]) -> None:
    row = row_of(trace(tiny_problems[0], token_ids=[1, 2], closed=False, tags="think"))
    assert (row.problem_id, row.token_ids, row.closed, row.tags) == (tiny_problems[0].id, (1, 2), False, "think")
