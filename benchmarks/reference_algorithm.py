"""The reference algorithm of the RLT reward, told in our own words: what `rlt bench score` measures ours against.

It does what github.com/SakanaAI/RLT does at 86a3f5c, step by step and in the same order, one explanation at a time:

    decode the sampled tokens -> render both chats as text -> tokenise them again -> look for the spans token by token
    -> the student's forward, all logits / temperature, log-softmax over [tokens, vocabulary], the targets' entries
    -> the same with the teacher -> mean and min, mean and max -> a garbage collection

Read for its steps and rewritten; no line is taken from it. Left out, all in the reference's favour: bfloat16 (both
sides compute in float32 here), its second tokenisation for a consistency check, the statistics that it logs, its
penalties (a benchmark has no degenerate input) and torch.cuda.empty_cache.

T tokens of one text, V vocabulary.
"""

import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from student.configs import RewardConfig
from student.tags import Tags


@dataclass(frozen=True)
class Sampled:
    """What a trainer hands to its reward: the problem's text and the tokens that were sampled."""

    question: str
    solution: str
    explanation_ids: Sequence[int]


class ReferenceAlgorithm:
    """Rewards one explanation after the other; `collect` is whether garbage is collected after each."""

    def __init__(
        self,
        student: PreTrainedModel,
        teacher: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        tags: Tags,
        config: RewardConfig,
        *,
        collect: bool = True,
    ) -> None:
        self._student = student
        self._teacher = teacher
        self._tokenizer = tokenizer
        self._tags = tags
        self._config = config
        self._collect = collect
        self.collection_seconds = 0.0
        """CPU seconds spent collecting garbage so far."""

    def rewards(self, samples: Sequence[Sampled]) -> list[float]:
        """The reward of each explanation, in the order given."""
        rewards = []
        for sample in samples:
            rewards.append(self._reward(sample))
            if self._collect:
                begun = time.process_time()
                gc.collect()
                self.collection_seconds += time.process_time() - begun
        return rewards

    def _reward(self, sample: Sampled) -> float:
        explanation = str(self._tokenizer.decode(list(sample.explanation_ids)))
        student_text, teacher_text = self._student_text(sample, explanation), self._teacher_text(sample, explanation)
        student_ids, teacher_ids = self._tokenise(student_text), self._tokenise(teacher_text)
        explanation_ids, solution_ids = self._tokenise(explanation), self._tokenise(sample.solution)
        read, told = last_place(student_ids, explanation_ids), last_place(student_ids, solution_ids)
        written = last_place(teacher_ids, explanation_ids)
        student_logps = self._logps(self._student, student_text)
        teacher_logps = self._logps(self._teacher, teacher_text)
        return self._formula(
            student_logps[told.start - 1 : told.stop - 1],
            teacher_logps[written.start - 1 : written.stop - 1] - student_logps[read.start - 1 : read.stop - 1],
        )

    def _student_text(self, sample: Sampled, explanation: str) -> str:
        tags = self._tags
        thought = f"{tags.thought_open}{explanation}{tags.thought_close}"
        answer = f"{tags.answer_open}{sample.solution}{tags.answer_close}"
        return f"{self._chat(tags.student_system, sample.question)}{thought}{answer}{self._tokenizer.eos_token}"

    def _teacher_text(self, sample: Sampled, explanation: str) -> str:
        tags = self._tags
        solution = f"{tags.solution_open}{sample.solution}{tags.solution_close}"
        written = f"{tags.explanation_open}{explanation}{tags.explanation_close}"
        return f"{self._chat(tags.teacher_system, sample.question)}{solution}{written}{self._tokenizer.eos_token}"

    def _chat(self, system: str, question: str) -> str:
        turns = [{"role": "system", "content": system}, {"role": "user", "content": question}]
        return str(self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))

    def _tokenise(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    @torch.no_grad()
    def _logps(self, model: PreTrainedModel, text: str) -> Tensor:
        """log p of every token but the first, shape (T - 1,), by way of all logits."""
        encoded = self._tokenizer(text, add_special_tokens=False, return_tensors="pt")
        logits_TV = model(**encoded).logits[0, :-1]
        logps_TV = (logits_TV / self._config.temperature).log_softmax(-1)
        logps_T: Tensor = logps_TV.gather(1, encoded["input_ids"][0, 1:, None]).squeeze(1)
        return logps_T

    def _formula(self, solution_S: Tensor, kl_E: Tensor) -> float:
        """r = rSS - lambda rKL (arXiv 2506.08388, equations 2 to 5)."""
        weights = self._config
        rss = solution_S.mean() + weights.ss_min_weight * solution_S.min()
        rkl = kl_E.mean() + weights.kl_max_weight * kl_E.max()
        return float(weights.ss_weight * rss - weights.kl_weight * rkl)


def last_place(ids: Sequence[int], wanted: Sequence[int]) -> range:
    """Where `wanted` stands in `ids` for the last time; raises ValueError where it does not, as the reference does.

    >>> last_place([5, 1, 2, 7, 1, 2, 9], [1, 2])
    range(4, 6)
    """
    for start in range(len(ids) - len(wanted), -1, -1):
        if all(ids[start + offset] == token for offset, token in enumerate(wanted)):
            return range(start, start + len(wanted))
    raise ValueError(f"the {len(wanted)} tokens are not among the {len(ids)}")
