"""A student with another tokenizer reads the explanation's text: rSS is what it alone gives, rKL that of the spans.

Every number is held against the models' own logits in float64; the spans of the oracle come from decoding beginnings.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from student.chat import encode
from student.configs import KlEstimator, RewardConfig, ScoringSettings
from student.errors import ScoringError
from student.reading import Passage, StudentFormat
from student.rewards import ESTIMATORS
from student.scoring.alignment import plain_ids
from student.scoring.protocol import PassageLogps
from student.scoring.scorer import Scorer
from student.tags import STYLES
from teacher.errors import NoExactKl
from teacher.prompts import Explained, TeacherFormat
from teacher.reward_model import Draft, RewardModel
from tests.other_tokens import bpe_tokenizer, byte_tokenizer, sentencepiece_tokenizer, tiny_model

TAGS = STYLES["rlt"]
TOKENIZERS = {"bpe": bpe_tokenizer, "bytes": byte_tokenizer, "sentencepiece": sentencepiece_tokenizer}
PAIRS = [("bpe", "bytes"), ("bytes", "bpe"), ("sentencepiece", "bpe"), ("bpe", "sentencepiece")]
each_pair = pytest.mark.parametrize(("one", "other"), PAIRS)
QUESTION, SOLUTION = "Ann has 3 apples and buys 4. How many?", "The answer is \\boxed{7}."
TEXTS = ["She starts with 3 apples.\n\n3 + 4 = 7 🙂, née 漢字!", " so 7", "7", "apples 🙃🙂"]


@cache
def model_of(name: str, seed: int) -> PreTrainedModel:
    return tiny_model(TOKENIZERS[name](), seed)


def reward_model(one: str, other: str, max_tokens: int | None = None, **reward: object) -> RewardModel:
    settings = ScoringSettings(max_tokens=max_tokens)
    return RewardModel(
        TeacherFormat(TOKENIZERS[one](), TAGS),
        StudentFormat(TOKENIZERS[other](), TAGS),
        Scorer(model_of(other, 2), settings),
        RewardConfig.model_validate({"temperature": 0.7, **reward}),
        Scorer(model_of(one, 1), ScoringSettings()),
    )


def draft_of(tokenizer: PreTrainedTokenizerBase, text: str) -> Draft:
    ids = encode(tokenizer, text)
    return Draft(QUESTION, SOLUTION, Explained(ids, text, closed=True, sampled_tokens=len(ids)))


def logps_of(model: PreTrainedModel, passage: Passage, places: Sequence[int]) -> Tensor:
    """From the model's own logits, in float64."""
    with torch.no_grad():
        logits_TV = model.double()(torch.tensor([passage.input_ids])).logits[0] / 0.7
    model.float()
    logp_TV = logits_TV.log_softmax(-1)
    return torch.stack([logp_TV[place - 1, passage.input_ids[place]] for place in places])


def whole(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], text: str) -> dict[str, int]:
    """How many leading tokens spell each beginning of the text, by decoding them all."""
    spelled = {tokenizer.decode(list(ids[:stop])): stop for stop in range(1, len(ids) + 1)}
    return {beginning: stop for beginning, stop in spelled.items() if beginning and text.startswith(beginning)}


def kl_by_decoding(
    one: str, other: str, text: str, teacher_E: Tensor, student_R: Tensor, estimator: KlEstimator
) -> Tensor:
    """The KL of each teacher's token, where characters that both split in the same way are one span."""
    theirs = whole(TOKENIZERS[one](), encode(TOKENIZERS[one](), text), text)
    ours = whole(TOKENIZERS[other](), encode(TOKENIZERS[other](), text), text)
    common = sorted(theirs.keys() & ours.keys(), key=len)
    kl, t, s = [], 0, 0
    for beginning in common:
        t_stop, s_stop = theirs[beginning], ours[beginning]
        span = ESTIMATORS[estimator](teacher_E[t:t_stop].sum(), student_R[s:s_stop].sum()) / (t_stop - t)
        kl += [span] * (t_stop - t)
        t, s = t_stop, s_stop
    return torch.stack(kl)


@each_pair
@pytest.mark.parametrize("text", TEXTS)
def test_rss_is_the_student_s_own_and_rkl_that_of_the_spans(one: str, other: str, text: str) -> None:
    model, draft = reward_model(one, other), draft_of(TOKENIZERS[one](), text)
    [score] = model.scores([draft])

    reads = StudentFormat(TOKENIZERS[other](), TAGS)
    ours = reads.read(QUESTION, reads.encode(text), SOLUTION)
    theirs = TeacherFormat(TOKENIZERS[one](), TAGS).passage(QUESTION, SOLUTION, draft.explained.explanation_ids)
    solution_S = logps_of(model_of(other, 2), ours, ours.solution)
    assert score.ss_mean == pytest.approx(solution_S.mean().item(), abs=1e-5)
    assert score.ss_min == pytest.approx(solution_S.min().item(), abs=1e-5)
    assert score.rss == pytest.approx((solution_S.mean() + 0.01 * solution_S.min()).item(), abs=1e-5)

    teacher_E = logps_of(model_of(one, 1), theirs, theirs.explanation)
    student_R = logps_of(model_of(other, 2), ours, ours.explanation)
    kl_E = kl_by_decoding(one, other, text, teacher_E, student_R, "k1")
    assert len(kl_E) == len(teacher_E)
    assert score.kl_mean == pytest.approx(kl_E.mean().item(), abs=1e-5)
    # all the nats of the text by the teacher's tokens, wherever the cuts are
    assert score.kl_mean == pytest.approx(((teacher_E.sum() - student_R.sum()) / len(teacher_E)).item(), abs=1e-5)
    if text.isascii():  # bytes of one character may be spans of their own, which decoding does not show
        assert score.kl_max == pytest.approx(kl_E.max().item(), abs=1e-5)
    assert score.kl_max is not None
    assert score.rkl == pytest.approx(score.kl_mean + 0.01 * score.kl_max, abs=1e-9)
    assert score.reward == pytest.approx(score.rss - 3 * score.rkl, abs=1e-9)
    assert score.notes == ()


@each_pair
def test_k3_is_never_negative_and_is_that_of_each_span(one: str, other: str) -> None:
    text = "She has 3 + 4 apples, so 7 apples."
    model, draft = reward_model(one, other, kl_estimator="k3"), draft_of(TOKENIZERS[one](), text)
    [seen] = model.sightings([draft])
    assert seen.teacher_logps_E is not None
    assert seen.kl_E is not None
    expected_E = kl_by_decoding(
        one, other, text, seen.teacher_logps_E.double(), seen.logps.explanation_E.double(), "k3"
    )
    torch.testing.assert_close(seen.kl_E.double(), expected_E, rtol=1e-4, atol=1e-4)
    assert (seen.kl_E >= 0).all()


@each_pair
def test_only_spans_that_were_sampled_and_read_whole_count(one: str, other: str) -> None:
    text = "She has 3 + 4 apples, so 7 apples."
    model, draft = reward_model(one, other), draft_of(TOKENIZERS[one](), text)
    [all_seen] = model.sightings([draft])
    assert all_seen.kl_E is not None
    last_encoded_anew = replace(draft, explained=replace(draft.explained, sampled_tokens=len(all_seen.kl_E) - 1))
    [seen] = model.sightings([last_encoded_anew])
    assert seen.kl_E is not None
    assert 0 < len(seen.kl_E) < len(all_seen.kl_E)
    assert torch.equal(seen.kl_E, all_seen.kl_E[: len(seen.kl_E)])

    room = len(all_seen.passage.input_ids) - 5
    short = reward_model(one, other, max_tokens=room)
    [cut] = short.sightings([draft])
    assert cut.passage.cut_tokens == 5
    assert cut.kl_E is not None
    assert 0 < len(cut.kl_E) < len(all_seen.kl_E)
    torch.testing.assert_close(cut.kl_E, all_seen.kl_E[: len(cut.kl_E)], rtol=1e-4, atol=1e-4)
    assert short.score(draft, cut).notes == ("cut by 5 tokens to fit the student",)


@each_pair
def test_an_empty_explanation_costs_what_it_costs_with_one_tokenizer(one: str, other: str) -> None:
    [score] = reward_model(one, other).scores([draft_of(TOKENIZERS[one](), "")])
    assert (score.kl_mean, score.kl_max) == (1.0, 1.0)
    assert "empty explanation" in score.notes


def test_tokens_that_spell_nothing_are_an_empty_explanation() -> None:
    tokenizer = sentencepiece_tokenizer()
    ids = [tokenizer.convert_tokens_to_ids("▁")]
    assert tokenizer.decode(ids) == ""
    draft = Draft(QUESTION, SOLUTION, Explained(ids, "", closed=True, sampled_tokens=1))
    [score] = reward_model("sentencepiece", "bpe").scores([draft])
    assert "empty explanation" in score.notes


@each_pair
def test_whatever_a_teacher_samples_has_a_score(one: str, other: str) -> None:
    """Halves of characters, and texts that are control tokens of the student's or its own."""
    teacher, student = TOKENIZERS[one](), TOKENIZERS[other]()
    wild = [*encode(teacher, "🙂")[:-1], *teacher.all_special_ids, *range(5, 200, 7)]
    spelled = plain_ids(teacher, f"so {student.eos_token}{student.pad_token} 7")
    for ids in (wild, spelled):
        explained = Explained(ids, teacher.decode(ids), closed=False, sampled_tokens=len(ids))
        model = reward_model(one, other)
        [seen] = model.sightings([Draft(QUESTION, SOLUTION, explained)])
        read = [seen.passage.input_ids[place] for place in seen.passage.explanation]
        assert not set(read) & {student.eos_token_id, student.pad_token_id}
        assert seen.kl_E is not None
        assert len(seen.kl_E) == len(ids)
        assert model.score(Draft(QUESTION, SOLUTION, explained), seen).notes == ("no end tag",)


def test_a_student_with_the_teacher_s_tokens_reads_them_as_they_were_sampled() -> None:
    tokenizer = bpe_tokenizer.__wrapped__()  # another object of the same tokens, as from another folder
    model = RewardModel(
        TeacherFormat(bpe_tokenizer(), TAGS),
        StudentFormat(tokenizer, TAGS),
        Scorer(model_of("bpe", 2), ScoringSettings()),
        RewardConfig(),
    )
    odd = [token for letter in "She has" for token in encode(tokenizer, letter)]  # not how the text is encoded
    assert odd != encode(tokenizer, "She has")
    [seen] = model.sightings([Draft(QUESTION, SOLUTION, Explained(odd, "She has", closed=True, sampled_tokens=7))])
    assert [seen.passage.input_ids[place] for place in seen.passage.explanation] == odd


@each_pair
def test_exact_kl_between_different_vocabularies_is_refused_in_one_line_that_names_both_settings(
    one: str, other: str
) -> None:
    with pytest.raises(
        NoExactKl, match=r"kl_estimator is 'exact'.*different tokenizers.*k1 or k3, or a student"
    ) as told:
        reward_model(one, other, kl_estimator="exact")
    assert "\n" not in str(told.value)


class Elsewhere:
    """A student that gives log-probabilities and nothing else, as one on a server does."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self.max_tokens = scorer.max_tokens

    def logps(self, passages: Sequence[Passage], temperature: float) -> list[PassageLogps]:
        return self._scorer.logps(passages, temperature)


def test_any_student_that_gives_log_probs_will_do_except_for_the_exact_kl() -> None:
    scorer = Scorer(model_of("bytes", 2), ScoringSettings())
    formats = TeacherFormat(bpe_tokenizer(), TAGS), StudentFormat(byte_tokenizer(), TAGS)
    teacher, draft = Scorer(model_of("bpe", 1), ScoringSettings()), draft_of(bpe_tokenizer(), TEXTS[0])
    far = RewardModel(*formats, Elsewhere(scorer), RewardConfig(), teacher)
    assert far.scores([draft]) == RewardModel(*formats, scorer, RewardConfig(), teacher).scores([draft])
    same = TeacherFormat(byte_tokenizer(), TAGS), StudentFormat(byte_tokenizer(), TAGS)
    with pytest.raises(NoExactKl, match=r"kl_estimator is 'exact'.*scoring\.urls.*k1 or k3, or leave"):
        RewardModel(*same, Elsewhere(scorer), RewardConfig(kl_estimator="exact"))


def test_a_problem_that_does_not_fit_the_student_is_refused_whatever_its_tokens() -> None:
    with pytest.raises(ScoringError, match="reads at most 100"):
        reward_model("bpe", "bytes", max_tokens=100).check(draft_of(bpe_tokenizer(), "7"))
