"""Log-probabilities of given tokens under a causal LM: what the reward is made of.

B rows, T tokens, H hidden size, V vocabulary, N scored positions of a batch.

The plain scorer: rows of similar length are right-padded into a token budget, the body runs once, and the head is
applied `head_rows` positions at a time, only where a number is needed, so no [T, V] tensor exists. Logits are fp32
before the softmax whatever the weights' precision. It is meant to be right and to last as the reference of faster ones.
Left out: packing, shared prefixes, other engines (each changes cost, never the numbers).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from student.configs import ScoringSettings
from student.errors import ModelError
from student.reading import Passage


@dataclass(frozen=True)
class PassageLogps:
    """log p of each explanation token, shape (E,), and of each solution token, shape (S,); nats, fp32, on the CPU."""

    explanation_E: Tensor
    solution_S: Tensor


class CausalHead:
    """From a causal LM's last hidden states to its logits, a few positions at a time.

    Applies what architectures put after the projection: Gemma's soft cap, Cohere's and Granite's scales. `verify` holds
    the result against the model's own logits, so an architecture that does something else is refused, not mis-scored.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._projection = model.get_output_embeddings()
        text_config = model.config.get_text_config()
        self._soft_cap: float | None = getattr(text_config, "final_logit_softcapping", None)
        self._scale = float(getattr(text_config, "logit_scale", None) or 1.0)
        self._scale /= float(getattr(text_config, "logits_scaling", None) or 1.0)

    def logits(self, hidden_NH: Tensor) -> Tensor:
        """fp32 logits, shape (N, V)."""
        logits_NV: Tensor = self._projection(hidden_NH).float() * self._scale
        if self._soft_cap is None:
            return logits_NV
        return torch.tanh(logits_NV / self._soft_cap) * self._soft_cap


class Scorer:
    """Reads passages with one frozen causal LM. Holds no state besides the model; safe to call in any order."""

    def __init__(self, model: PreTrainedModel, settings: ScoringSettings) -> None:
        self.model = model
        self.settings = settings
        self.head = CausalHead(model)
        self.max_tokens = settings.max_tokens or getattr(
            model.config.get_text_config(), "max_position_embeddings", None
        )
        self._verify_head()

    @torch.no_grad()
    def logps(self, passages: Sequence[Passage], temperature: float) -> list[PassageLogps]:
        """Per-token log-probabilities of each passage's spans, in the order given, logits divided by `temperature`."""
        results: dict[int, PassageLogps] = {}
        for batch in self.batches(passages):
            hidden = self.span_states([passages[index] for index in batch])
            for index, states in zip(batch, hidden, strict=True):
                results[index] = self._passage_logps(passages[index], states, temperature)
        return [results[index] for index in range(len(passages))]

    def batches(self, passages: Sequence[Passage]) -> Iterator[list[int]]:
        """Indices of the passages, similar lengths together, each batch within the padded token budget."""
        batch: list[int] = []
        for index in sorted(range(len(passages)), key=lambda index: len(passages[index].input_ids)):
            if batch and (len(batch) + 1) * len(passages[index].input_ids) > self.settings.tokens_per_batch:
                yield batch
                batch = []
            batch.append(index)
        if batch:
            yield batch

    @torch.no_grad()
    def span_states(self, passages: Sequence[Passage]) -> list[Tensor]:
        """For each passage the hidden states that predict its explanation and then its solution, shape (E + S, H)."""
        hidden_BTH = self._body(_padded([passage.input_ids for passage in passages]).to(self.model.device))
        return [hidden_TH[_predictors(passage)] for hidden_TH, passage in zip(hidden_BTH, passages, strict=True)]

    def _body(self, ids_and_mask: "_Rows") -> Tensor:
        output = self.model.base_model(
            input_ids=ids_and_mask.ids_BT, attention_mask=ids_and_mask.mask_BT, use_cache=False
        )
        hidden: Tensor = output.last_hidden_state
        return hidden

    def _passage_logps(self, passage: Passage, states_NH: Tensor, temperature: float) -> PassageLogps:
        targets_N = torch.tensor(_targets(passage), dtype=torch.long, device=states_NH.device)
        logps_N = torch.cat([
            _chosen(self.head.logits(states) / temperature, targets)
            for states, targets in zip(
                states_NH.split(self.settings.head_rows), targets_N.split(self.settings.head_rows), strict=True
            )
        ]).cpu()  # fmt: skip
        border = len(passage.explanation)
        return PassageLogps(logps_N[:border], logps_N[border:])

    @torch.no_grad()
    def _verify_head(self) -> None:
        ids_BT = torch.arange(1, 9, device=self.model.device).unsqueeze(0)
        own_TV = self.model(input_ids=ids_BT, use_cache=False).logits[0].float()
        ours_TV = self.head.logits(self.model.base_model(input_ids=ids_BT, use_cache=False).last_hidden_state[0])
        tolerance = 1e-3 if self.model.dtype == torch.float32 else 5e-2
        worst = (ours_TV - own_TV).abs().max().item() / max(1.0, own_TV.abs().max().item())
        if not worst <= tolerance:
            raise ModelError(
                f"{type(self.model).__name__}: body and head apart differ from the model's own logits by "
                f"{worst:.2g} (relative); this architecture cannot be scored, choose another model"
            )


@torch.no_grad()
def full_vocabulary_kl(
    teacher: Scorer,
    teacher_passages: Sequence[Passage],
    student: Scorer,
    student_passages: Sequence[Passage],
    temperature: float,
) -> list[Tensor]:
    """Exact KL( pi_T || pi_S ) at each explanation token, nats, shape (E,) a passage, summed over the vocabulary.

    Costs a teacher forward and both heads. Where the two vocabularies are padded to different sizes, the columns that
    both have are compared.
    """
    results: dict[int, Tensor] = {}
    for batch in student.batches(student_passages):
        student_states = student.span_states([student_passages[index] for index in batch])
        teacher_states = teacher.span_states([teacher_passages[index] for index in batch])
        for index, ours, theirs in zip(batch, student_states, teacher_states, strict=True):
            length = len(student_passages[index].explanation)
            results[index] = _kl_of_states(teacher.head, theirs[:length], student, ours[:length], temperature)
    return [results[index] for index in range(len(student_passages))]


def _kl_of_states(
    teacher_head: CausalHead, teacher_EH: Tensor, student: Scorer, student_EH: Tensor, temperature: float
) -> Tensor:
    rows = student.settings.head_rows
    pieces = [
        _kl_of_logits(teacher_head.logits(theirs) / temperature, student.head.logits(ours) / temperature)
        for theirs, ours in zip(teacher_EH.split(rows), student_EH.split(rows), strict=True)
    ]
    return torch.cat(pieces).cpu()


def _kl_of_logits(teacher_NV: Tensor, student_NV: Tensor) -> Tensor:
    shared = min(teacher_NV.shape[-1], student_NV.shape[-1])
    teacher_logp_NV = teacher_NV[:, :shared].log_softmax(-1)
    student_logp_NV = student_NV[:, :shared].log_softmax(-1).to(teacher_logp_NV.device)
    return (teacher_logp_NV.exp() * (teacher_logp_NV - student_logp_NV)).sum(-1)


def _chosen(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    return logits_NV.gather(-1, targets_N.unsqueeze(-1)).squeeze(-1) - logits_NV.logsumexp(-1)


def _targets(passage: Passage) -> list[int]:
    ids = passage.input_ids
    return [
        *ids[passage.explanation.start : passage.explanation.stop],
        *ids[passage.solution.start : passage.solution.stop],
    ]


def _predictors(passage: Passage) -> Tensor:
    """Positions whose next token is scored. Column i of the logits predicts token i + 1."""
    return torch.tensor([*passage.explanation, *passage.solution], dtype=torch.long) - 1


@dataclass(frozen=True)
class _Rows:
    ids_BT: Tensor
    mask_BT: Tensor

    def to(self, device: torch.device) -> "_Rows":
        return _Rows(self.ids_BT.to(device), self.mask_BT.to(device))


def _padded(rows: Sequence[Sequence[int]]) -> _Rows:
    """Right-padded ids (with 0, never read: attention is causal and the padding comes after) and their mask."""
    ids_BT = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
    lengths_B = torch.tensor([len(row) for row in rows])
    mask_BT = (torch.arange(ids_BT.shape[1]) < lengths_B.unsqueeze(1)).long()
    return _Rows(ids_BT, mask_BT)
