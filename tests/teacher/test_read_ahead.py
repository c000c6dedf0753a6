"""Groups are read while others are sampled; the numbers, and what the trainer gets of the server, stay the same."""

import threading
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import GenerationConfig

from student.configs import RewardConfig, RolloutSettings, ScoringSettings
from student.models import load_model
from student.problems import Problem
from student.reading import Passage, assemble
from student.scoring.protocol import PassageLogps
from student.scoring.scorer import Scorer
from teacher.grpo import Rollout, TeacherTrainer
from teacher.read_ahead import Group, ReadAhead, generate_by_group
from teacher.sampled_logps import sampled_logps
from tests.teacher.rl import CPU, run, settings

PATIENCE_SECONDS = 60.0


class CountingStudent:
    """A student that tells how many passages it was given, call by call."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self.max_tokens = scorer.max_tokens
        self.calls: list[int] = []

    def logps(self, passages: Sequence[Passage], temperature: float) -> list[PassageLogps]:
        self.calls.append(len(passages))
        return self._scorer.logps(passages, temperature)


def test_what_was_read_is_not_read_again_until_it_is_forgotten(tiny_model_folder: Path) -> None:
    scorer = Scorer(load_model(str(tiny_model_folder), CPU), ScoringSettings())
    student = CountingStudent(scorer)
    ahead = ReadAhead(student)
    passages = [assemble([5, 6], [7, 8, 9][:length], [10], [11, 12]) for length in (1, 2, 3, 2)]
    first = ahead.logps(passages[:2], 1.0)
    everything = ahead.logps(passages, 1.0)
    assert student.calls == [2, 1]  # the fourth is the second once more
    assert everything[:2] == first
    for logps, own in zip(everything, scorer.logps(passages, 1.0), strict=True):
        torch.testing.assert_close(logps.explanation_E, own.explanation_E, rtol=0, atol=1e-5)
        torch.testing.assert_close(logps.solution_S, own.solution_S, rtol=0, atol=1e-5)
    hot = ahead.logps(passages[:1], 0.7)
    assert not torch.equal(hot[0].solution_S, first[0].solution_S)  # a temperature has its own numbers
    ahead.forget()
    ahead.logps(passages[:1], 1.0)
    assert student.calls == [2, 1, 1, 1]
    assert ahead.max_tokens == 1024


class EchoingClient:
    """Stands in for TRL's client: a prompt's explanations are its own ids and a number; `before` runs ahead of each."""

    def __init__(self, before: Callable[[Sequence[list[int]]], None]) -> None:
        self._before = before

    def generate(
        self, prompts: Sequence[list[int]], features: None = None, n: int = 1, **sampling: Any
    ) -> dict[str, list[Any]]:
        self._before(prompts)
        completions = [[*prompt, number] for prompt in prompts for number in range(n)]
        return {
            "prompt_ids": list(prompts),
            "completion_ids": completions,
            "logprobs": [[[-float(token)] for token in completion] for completion in completions],
            "logprob_token_ids": [[[token] for token in completion] for completion in completions],
        }


PROMPTS = [[1], [2, 2], [3, 3, 3]]


def test_groups_are_shown_as_they_come_and_joined_in_the_order_asked_for() -> None:
    shown: list[Group] = []
    last_was_shown = threading.Event()

    def before(prompts: Sequence[list[int]]) -> None:
        if prompts != [PROMPTS[-1]]:  # the others are held back until the last group has been read
            assert last_was_shown.wait(PATIENCE_SECONDS)

    def arrived(groups: list[Group]) -> None:
        assert threading.current_thread() is threading.main_thread()
        shown.extend(groups)
        last_was_shown.set()

    client = EchoingClient(before)
    generate_by_group(client, arrived)
    answer = client.generate(prompts=PROMPTS, features=None, n=2, temperature=0.7)
    assert answer == EchoingClient(lambda prompts: None).generate(prompts=PROMPTS, n=2)
    assert shown[0] == ([3, 3, 3], [[3, 3, 3, 0], [3, 3, 3, 1]])
    assert len(shown) < 3  # whoever came last is left to the reward


def test_one_prompt_alone_is_left_to_the_reward() -> None:
    client = EchoingClient(lambda prompts: None)
    generate_by_group(client, lambda groups: pytest.fail("nothing was sampled meanwhile"))
    assert client.generate(prompts=[[1]], n=2)["completion_ids"] == [[1, 0], [1, 1]]


def test_a_request_that_fails_is_not_swallowed() -> None:
    def before(prompts: Sequence[list[int]]) -> None:
        if prompts == [PROMPTS[1]]:
            raise ConnectionError("the server is gone")

    client = EchoingClient(before)
    generate_by_group(client, lambda groups: None)
    with pytest.raises(ConnectionError, match="the server is gone"):
        client.generate(prompts=PROMPTS, n=2)


class ServerOfOneModel:
    """Stands in for TRL's client of a vLLM server: weights come in as they do there, a model of its own samples.

    A request for one prompt alone is answered only when `may_answer` says so. Sampling depends on the prompt and on how
    often weights came, on nothing else.
    """

    folder: Path
    may_answer: Callable[[], bool]

    def __init__(self, **connection: Any) -> None:
        self._model = load_model(str(self.folder), CPU)
        self._syncs = 0
        self._sampling = threading.Lock()

    def init_communicator(self, device: torch.device) -> None: ...

    def reset_prefix_cache(self) -> None: ...

    def get_server_info(self) -> dict[str, Any]:
        return {"model_config": {"logprobs_mode": "processed_logprobs"}}

    def update_named_params(self, metadata: Any, named: Any) -> None:
        self._syncs += 1
        self._model.load_state_dict({name: parameter.detach().clone() for name, parameter in named}, strict=False)

    def generate(
        self, prompts: Sequence[list[int]], n: int, temperature: float, max_tokens: int, **sampling: Any
    ) -> dict[str, list[Any]]:
        if len(prompts) == 1:
            assert self.may_answer()
        sampled = [self._group(prompt, n, temperature, max_tokens) for prompt in prompts]
        completions = [completion for group, _ in sampled for completion in group]
        return {
            "prompt_ids": list(prompts),
            "completion_ids": completions,
            "logprobs": [[[logp] for logp in row.tolist()] for _, logps in sampled for row in logps],
            "logprob_token_ids": [[[token] for token in completion] for completion in completions],
        }

    def _group(self, prompt: list[int], n: int, temperature: float, max_tokens: int) -> tuple[Any, list[Tensor]]:
        config = GenerationConfig(
            do_sample=True,
            max_new_tokens=max_tokens,
            temperature=temperature,
            top_k=0,
            eos_token_id=None,
            pad_token_id=0,
        )
        generator: Any = self._model
        with self._sampling, torch.random.fork_rng(devices=[]), sampled_logps(self._model, temperature) as noted:
            torch.manual_seed(sum(prompt) * 1000 + self._syncs)
            ids_GT = generator.generate(input_ids=torch.tensor([prompt] * n), generation_config=config)
        completions = ids_GT[:, len(prompt) :].tolist()
        logps = noted.of(completions)
        assert logps is not None
        return completions, logps


@pytest.mark.vllm
@pytest.mark.skipif(find_spec("vllm") is None, reason="vllm is not installed")
def test_with_a_server_the_student_reads_while_it_samples_and_every_reward_is_what_it_was(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = load_model(str(tiny_model_folder), CPU)
    readings = 0
    was_read = threading.Condition()

    def note(*_: Any) -> None:
        nonlocal readings
        with was_read:
            readings += 1
            was_read.notify_all()

    asked = readings_before = 0

    def may_answer() -> bool:
        """Of the two groups of a step, the second is held back until the student has read something of the first."""
        nonlocal asked, readings_before
        with was_read:
            asked += 1
            if asked % 2:
                readings_before = readings
                return True
            return was_read.wait_for(lambda: readings > readings_before, PATIENCE_SECONDS)

    def rollouts_of(name: str) -> tuple[dict[int, list[Rollout]], list[dict[str, float]]]:
        seen: dict[int, list[Rollout]] = {}

        def observe(step: int, rollouts: Sequence[Rollout]) -> dict[str, float]:
            seen[step] = list(rollouts)
            return {}

        config = settings(tiny_model_folder, tmp_path / name, steps=2, learning_rate=1e-4).model_copy(
            update={
                "reward": RewardConfig(temperature=0.7),
                "rollout": RolloutSettings(engine="vllm-server", max_tokens=12, max_prompt_tokens=700),
            }
        )
        trainer = run(tiny_model_folder, tiny_problems, config, student=student, observers=[observe])
        return seen, [row for row in trainer.state.log_history if "reward" in row]

    monkeypatch.setattr("trl.generation.vllm_generation.VLLMClient", ServerOfOneModel)
    monkeypatch.setattr(ServerOfOneModel, "folder", tiny_model_folder, raising=False)
    monkeypatch.setattr(ServerOfOneModel, "may_answer", staticmethod(may_answer), raising=False)
    student.get_input_embeddings().register_forward_hook(note)

    ahead, log = rollouts_of("ahead")
    assert asked == 4  # two prompts in each of two steps
    assert all(row["seconds/score_ahead"] > 0 for row in log)
    assert all(row["seconds/score_ahead"] <= row["seconds/generate"] for row in log)
    assert {row["teacher/extra_forwards"] for row in log} == {0.0}

    monkeypatch.setattr(TeacherTrainer, "_read_groups_ahead", lambda *_: None)
    at_once, plain_log = rollouts_of("at_once")
    assert asked == 4
    assert all(row["seconds/score_ahead"] == 0 for row in plain_log)
    for ours, theirs in zip(ahead[0], at_once[0], strict=True):
        assert ours.draft.explained == theirs.draft.explained
        assert ours.score.reward == pytest.approx(theirs.score.reward, abs=1e-5)
    assert [row["reward"] for row in log] == pytest.approx([row["reward"] for row in plain_log], abs=1e-3)
