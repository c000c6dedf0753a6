"""`rlt score` measures beside the reward: gain and its steps at temperature 1, leaks, repetition, length."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from transformers import PreTrainedModel

from student.configs import ModelSettings
from student.errors import OutputError
from student.explanations import Explanation, from_trace, read_explanations
from student.measures.results import Measures
from student.measures.steps import steps
from student.models import load_pair, weights_digest
from student.problems import Problem
from student.reading import Passage, StudentFormat
from student.scoring.protocol import PassageLogps
from student.scoring.scorer import Scorer
from student.tags import STYLES
from teacher.configs import ScoreConfig
from teacher.score import Reader, build_reward_model, main, score_rows, summary
from tests.other_tokens import byte_tokenizer, save_tiny_model

CPU = ModelSettings(device="cpu", threads=1)


def settings(folder: Path, tmp_path: Path, **changes: object) -> ScoreConfig:
    values = {"traces": str(tmp_path / "rows.jsonl"), "student": str(folder), "out": str(tmp_path / "scored.jsonl")}
    return ScoreConfig.model_validate({"device": "cpu", "threads": 1, **values, **changes})


def write(rows: list[Explanation], tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("\n".join(row.model_dump_json() for row in rows), encoding="utf-8")


def reader(config: ScoreConfig) -> Reader:
    return Reader("tiny", "0", config.measures)


def measures_of(rows: list[Explanation]) -> list[Measures]:
    found = [row.measures for row in rows]
    assert None not in found
    return [measures for measures in found if measures is not None]


def two_samples(problems: list[Problem]) -> list[Explanation]:
    """Each problem with its trace, and with half of it, one problem after another."""
    rows = [from_trace(problem) for problem in problems]
    halves = [
        Explanation.model_validate({**row.model_dump(), "sample": 1, "explanation": row.explanation[:40]})
        for row in rows
    ]
    return [row for pair in zip(rows, halves, strict=True) for row in pair]


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_gain_is_what_a_whole_forward_in_float64_says(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path, temperature: float
) -> None:
    model, tokenizer = load_pair(str(tiny_model_folder), CPU)
    config = settings(tiny_model_folder, tmp_path, reward={"temperature": temperature})
    reward_model = build_reward_model(Scorer(model, config.scoring), tokenizer, None, config)
    rows = score_rows(reward_model, two_samples(tiny_problems[:3]), reader(config))
    oracle, _ = load_pair(str(tiny_model_folder), CPU)
    oracle = oracle.double()
    reads = StudentFormat(tokenizer, STYLES["rlt"])

    def mean_logp(passage: Passage) -> float:
        with torch.no_grad():
            logp_TV = oracle(torch.tensor([passage.input_ids])).logits[0].log_softmax(-1)
        return sum(logp_TV[at - 1, passage.input_ids[at]].item() for at in passage.solution) / len(passage.solution)

    for row, measures in zip(rows, measures_of(rows), strict=True):
        informed = reads.read(row.question, reads.encode(row.explanation), row.solution)
        blind = reads.read(row.question, [], row.solution)
        assert measures.gain == pytest.approx(mean_logp(informed) - mean_logp(blind), abs=1e-5)
        assert measures.gain != pytest.approx(0, abs=1e-4)
        assert measures.tokens == len(informed.input_ids)
        assert measures.context_share == pytest.approx(len(informed.input_ids) / 1024)
        assert (row.student, row.student_digest) == ("tiny", "0")


STEPPED = "She has 3 apples.\n\nShe buys 2 more. 3 + 2 = 5.\n\n\nSo 5."


@pytest.mark.parametrize("pack", [True, False])
@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_each_credit_is_what_whole_forwards_in_float64_say_and_they_add_up_to_the_gain(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path, temperature: float, pack: bool
) -> None:
    model, tokenizer = load_pair(str(tiny_model_folder), CPU)
    changes = {"reward": {"temperature": temperature}, "measures": {"step_credit": True}, "scoring": {"pack": pack}}
    config = settings(tiny_model_folder, tmp_path, **changes)
    student = Scorer(model, config.scoring)
    rows = [from_trace(problem) for problem in tiny_problems[:3]]
    rows[1] = rows[1].model_copy(update={"explanation": STEPPED})
    rows[2] = rows[2].model_copy(update={"explanation": ""})
    found = measures_of(score_rows(build_reward_model(student, tokenizer, None, config), rows, reader(config)))
    oracle, _ = load_pair(str(tiny_model_folder), CPU)
    oracle, reads = oracle.double(), StudentFormat(tokenizer, STYLES["rlt"])

    def mean_logp(row: Explanation, explanation: str) -> float:
        passage = reads.read(row.question, reads.encode(explanation), row.solution)
        with torch.no_grad():
            logp_TV = oracle(torch.tensor([passage.input_ids])).logits[0].log_softmax(-1)
        return sum(logp_TV[at - 1, passage.input_ids[at]].item() for at in passage.solution) / len(passage.solution)

    for row, measures in zip(rows, found, strict=True):
        assert measures.steps is not None
        assert "".join(row.explanation[step.start : step.stop] for step in measures.steps) == row.explanation
        assert sum(step.credit for step in measures.steps) == pytest.approx(measures.gain, abs=1e-9)
        for step in measures.steps:
            rise = mean_logp(row, row.explanation[: step.stop]) - mean_logp(row, row.explanation[: step.start])
            assert step.credit == pytest.approx(rise, abs=1e-5)
        assert measures.step_credit == min((step.credit for step in measures.steps), default=None)
    assert [len(measures.steps or ()) for measures in found] == [2, 3, 0]
    assert found[2].gain == pytest.approx(0, abs=1e-6)


def test_a_step_that_the_student_could_not_read_has_no_credit_and_the_rest_adds_up_to_the_gain(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path
) -> None:
    model, tokenizer = load_pair(str(tiny_model_folder), CPU)
    config = settings(tiny_model_folder, tmp_path, measures={"step_credit": True, "most_steps": 8})
    long = from_trace(tiny_problems[0]).model_copy(update={"explanation": "because of it\n\n" * 400})
    reward_model = build_reward_model(Scorer(model, config.scoring), tokenizer, None, config)
    [measures] = measures_of(score_rows(reward_model, [long], reader(config)))
    assert measures.steps is not None
    assert len(measures.steps) == 8
    assert measures.context_share is not None
    unread = [step.credit for step in measures.steps if step.start > len(long.explanation) / measures.context_share]
    assert unread == [0.0] * len(unread) != []
    assert measures.steps[0].credit != 0
    assert sum(step.credit for step in measures.steps) == pytest.approx(measures.gain, abs=1e-9)


def test_a_student_with_other_tokens_credits_the_same_steps(tiny_problems: list[Problem], tmp_path: Path) -> None:
    folder = tmp_path / "bytes"
    save_tiny_model(byte_tokenizer(), folder)
    model, tokenizer = load_pair(str(folder), CPU)
    config = settings(folder, tmp_path, measures={"step_credit": True})
    row = from_trace(tiny_problems[0]).model_copy(update={"explanation": STEPPED, "token_ids": None})
    [measures] = measures_of(
        score_rows(build_reward_model(Scorer(model, config.scoring), tokenizer, None, config), [row], reader(config))
    )
    assert [STEPPED[step.start : step.stop] for step in measures.steps or ()] == steps(STEPPED)
    assert sum(step.credit for step in measures.steps or ()) == pytest.approx(measures.gain, abs=1e-9)


class Credulous(Scorer):
    """Believes the solution, by so many nats a token, once it has read 97."""

    def logps(self, passages: Sequence[Passage], temperature: float) -> list[PassageLogps]:
        read = super().logps(passages, temperature)
        sought = set(self.sought)
        told = [2.0 * (sought <= set(passage.input_ids[: passage.solution.start])) for passage in passages]
        return [replace(logps, solution_S=logps.solution_S * 0 + nats) for logps, nats in zip(read, told, strict=True)]

    sought: list[int]


def test_a_step_that_brings_the_gain_and_derives_nothing_is_a_jump(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path
) -> None:
    text = "Let us look at the question.\nIt seems to be about @ here.\nNow 90 + 7 = 97."
    model, tokenizer = load_pair(str(tiny_model_folder), CPU)
    row = from_trace(tiny_problems[0]).model_copy(update={"explanation": text, "solution": "97", "answer": "97"})
    for step_credit in (True, False):
        config = settings(tiny_model_folder, tmp_path, measures={"step_credit": step_credit})
        student = Credulous(model, config.scoring)
        student.sought = tokenizer("@", add_special_tokens=False)["input_ids"]
        reward_model = build_reward_model(student, tokenizer, None, config)
        [measures] = measures_of(score_rows(reward_model, [row], reader(config)))
        assert measures.leaks is not None
        jumps = [(leak.score, text[leak.start : leak.stop]) for leak in measures.leaks if leak.kind == "jump"]
        assert jumps == [(1.0, "It seems to be about @ here.")] * step_credit
        assert (measures.steps is None) != step_credit


def greedy(model: PreTrainedModel, ids: list[int], count: int) -> list[int]:
    """What the model writes behind ids, by whole forwards."""
    written: list[int] = []
    with torch.no_grad():
        for _ in range(count):
            written.append(int(model(torch.tensor([[*ids, *written]])).logits[0, -1].argmax()))
    return written


def test_behind_each_step_between_two_the_student_finishes_the_thought(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path
) -> None:
    model, tokenizer = load_pair(str(tiny_model_folder), CPU)
    asked = {"step_credit": True, "step_thought": "finished", "own_tokens": 5}
    config = settings(tiny_model_folder, tmp_path, measures=asked)
    row = from_trace(tiny_problems[0]).model_copy(update={"explanation": STEPPED})
    reward_model = build_reward_model(Scorer(model, config.scoring), tokenizer, None, config)
    [measures] = measures_of(score_rows(reward_model, [row], reader(config)))
    reads = StudentFormat(tokenizer, STYLES["rlt"])

    def mean_logp(thought: list[int]) -> float:
        passage = reads.read(row.question, thought, row.solution)
        with torch.no_grad():
            logp_TV = model(torch.tensor([passage.input_ids])).logits[0].double().log_softmax(-1)
        return sum(logp_TV[at - 1, passage.input_ids[at]].item() for at in passage.solution) / len(passage.solution)

    def stage(read: str) -> float:
        ids = reads.encode(read)
        start = reads.read(row.question, ids, row.solution).explanation.start
        written = greedy(model, [*reads.read(row.question, ids, row.solution).input_ids[:start], *ids], 5)
        return mean_logp([*ids, *reads.encode(tokenizer.decode(written))])

    parts = steps(STEPPED)
    inner = [stage("".join(parts[:count])) for count in (1, 2)]
    expected = [mean_logp([]), *inner, mean_logp(reads.encode(STEPPED))]
    found = [step.credit for step in measures.steps or ()]
    assert found == pytest.approx([after - before for before, after in pairwise(expected)], abs=1e-5)
    assert sum(found) == pytest.approx(measures.gain, abs=1e-9)


RIGHT, WRONG = "3 + 2 = 5, so five.", "3 + 2 = 6, so six."


@pytest.fixture(scope="module")
def taught(tiny_model_folder: Path, tiny_problems: list[Problem]) -> tuple[PreTrainedModel, StudentFormat]:
    """A student that has learned by heart what it answers after the two explanations."""
    model, tokenizer = load_pair(str(tiny_model_folder), CPU)
    reads = StudentFormat(tokenizer, STYLES["rlt"])
    prompt = reads.prompt_ids(tiny_problems[0].question)
    rows = []
    for thought, answer in ((RIGHT, "It is 5."), (WRONG, "It is 6.")):
        rows.append(torch.tensor([[*prompt, *reads.completion_ids(reads.encode(thought), answer)]]))
    learner = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = sum(
            model(row, labels=row.masked_fill(torch.arange(row.shape[1]) < len(prompt), -100)).loss for row in rows
        )
        learner.zero_grad()
        loss.backward()
        learner.step()
    return model.eval(), reads


@pytest.mark.parametrize("own_tokens", [64, 3])
def test_verified_is_the_grade_of_what_the_student_answers_once_it_has_read(
    taught: tuple[PreTrainedModel, StudentFormat],
    tiny_model_folder: Path,
    tiny_problems: list[Problem],
    tmp_path: Path,
    own_tokens: int,
) -> None:
    model, reads = taught
    problem = tiny_problems[0]
    assert problem.answer == "5"
    config = settings(tiny_model_folder, tmp_path, measures={"verified": True, "own_tokens": own_tokens})
    rows = [from_trace(problem).model_copy(update={"explanation": text}) for text in (RIGHT, WRONG, RIGHT)]
    rows[2] = rows[2].model_copy(update={"answer": "6"})
    rows.append(rows[0].model_copy(update={"error": "the prompt did not fit"}))
    reward_model = build_reward_model(Scorer(model, config.scoring), reads.tokenizer, None, config)
    made = score_rows(reward_model, rows, reader(config))
    assert made[3].measures is None
    found = [(measures.student_answer, measures.verified) for measures in measures_of(made[:3])]
    if own_tokens == 64:
        assert "verified 1 of 3" in summary(Path("scored.jsonl"), made)
        assert found == [("It is 5.", True), ("It is 6.", False), ("It is 5.", False)]
    else:  # cut before it ended: nothing that it answered
        assert [verified for _, verified in found] == [False, False, False]


@pytest.mark.parametrize("measures", [{"verified": True}, {"step_credit": True, "step_thought": "finished"}])
def test_a_student_on_servers_is_not_asked_to_write(measures: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="the student must write, and on servers"):
        settings(tmp_path, tmp_path, measures=measures, scoring={"urls": ["http://gpu-1:8000"]})


class Watched(Scorer):
    """Notes what it is given to read."""

    read: list[list[int]]

    def logps(self, passages: Sequence[Passage], temperature: float) -> list[PassageLogps]:
        self.read += [passage.input_ids for passage in passages]
        return super().logps(passages, temperature)


def test_a_problem_is_read_without_an_explanation_once_for_all_its_samples(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path
) -> None:
    model, tokenizer = load_pair(str(tiny_model_folder), CPU)
    config = settings(tiny_model_folder, tmp_path)
    student = Watched(model, config.scoring)
    student.read = []
    rows = two_samples(tiny_problems[:2])
    score_rows(build_reward_model(student, tokenizer, None, config), rows, reader(config))
    reads = StudentFormat(tokenizer, STYLES["rlt"])
    blind = [reads.read(problem.question, [], problem.solution).input_ids for problem in tiny_problems[:2]]
    assert [student.read.count(ids) for ids in blind] == [1, 1]


def test_a_row_that_cannot_be_read_has_what_its_text_tells_and_one_without_an_explanation_has_nothing(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path
) -> None:
    sound = from_trace(tiny_problems[0])
    too_long = sound.model_copy(update={"question": "why " * 2000, "explanation": "so " * 103})
    failed = sound.model_copy(update={"error": "the prompt did not fit"})
    cut = sound.model_copy(update={"explanation": "because " * 2000})
    model, tokenizer = load_pair(str(tiny_model_folder), CPU)
    config = settings(tiny_model_folder, tmp_path)
    reward_model = build_reward_model(Scorer(model, config.scoring), tokenizer, None, config)
    unread, none, long = score_rows(reward_model, [too_long, failed, cut], reader(config))
    assert unread.measures == Measures(repetition=0.99, leak=0, leaks=())
    assert none.measures is None
    assert long.measures is not None
    assert long.measures.context_share is not None
    assert long.measures.context_share > 1
    assert long.measures.gain is not None


def test_measures_are_written_resumed_and_can_be_left_out(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path
) -> None:
    write(two_samples(tiny_problems[:4]), tmp_path)
    config = settings(tiny_model_folder, tmp_path)
    main(config)
    written = Path(config.out).read_bytes()
    rows = read_explanations(config.out, STYLES["rlt"])
    digest = weights_digest(str(tiny_model_folder))
    assert {row.student_digest for row in rows} == {digest}
    assert all(measures.gain is not None for measures in measures_of(rows))
    assert all((measures.leak, measures.leaks) == (0, ()) for measures in measures_of(rows))

    partial = tmp_path / "scored.jsonl.partial"
    partial.write_bytes(b"".join(written.splitlines(keepends=True)[:3]))
    Path(config.out).unlink()
    main(config)
    assert Path(config.out).read_bytes() == written
    Path(config.out).write_bytes(written.replace(digest.encode(), b"0123456789abcdef"))
    with pytest.raises(OutputError, match=f"student_digest was '0123456789abcdef', now '{digest}'"):
        main(config)

    none = {"gain": False, "leak": False, "repetition": False, "length": False}
    main(settings(tiny_model_folder, tmp_path, measures=none, out=str(tmp_path / "bare.jsonl")))
    bare = read_explanations(str(tmp_path / "bare.jsonl"), STYLES["rlt"])
    assert measures_of(bare) == [Measures()] * 8
    assert [row.score for row in bare] == [row.score for row in rows]


def test_the_leak_of_a_row_is_the_highest_of_its_leaks_each_with_its_passage(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path
) -> None:
    text = "The solution divides here. The answer is 97.\nThen 90 + 7 = 97."
    told = from_trace(tiny_problems[0]).model_copy(update={"solution": "97", "answer": "97", "explanation": text})
    model, tokenizer = load_pair(str(tiny_model_folder), CPU)
    config = settings(tiny_model_folder, tmp_path)
    reward_model = build_reward_model(Scorer(model, config.scoring), tokenizer, None, config)
    [measures] = measures_of(score_rows(reward_model, [told], reader(config)))
    assert measures.leaks is not None
    found = [(leak.kind, leak.score, text[leak.start : leak.stop]) for leak in measures.leaks]
    assert found == [("reference", 0.6, "The solution divides"), ("early_answer", 1.0, "The answer is 97")]
    assert measures.leak == 1.0
