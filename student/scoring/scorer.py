"""Log-probabilities of a passage's tokens under a causal LM in this process, and the exact KL between two of them.

The model's layers are bodies.py's, its head is heads.py's; here the two are put together, and once held against the
model's own logits. Left out: models elsewhere.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from student.configs import ScoringSettings
from student.errors import ModelError
from student.reading import Passage
from student.scoring.bodies import SHORT_PACK, Body
from student.scoring.heads import CausalHead, kl_and_logps
from student.scoring.protocol import PassageLogps as PassageLogps

TOKENS_ON_CPU = 4096
TOKENS_ELSEWHERE = 16_384
"""Where the settings leave it open."""
LARGE_VOCABULARY = 32_768
"""From here on the head takes most of the time on a CPU: short packs cost nothing there, and a tenth of the memory."""


class Scorer:
    """Reads passages with one frozen causal LM. Holds no state besides the model; safe to call in any order."""

    def __init__(self, model: PreTrainedModel, settings: ScoringSettings) -> None:
        self.model = model
        self.settings = settings
        self.head = CausalHead(model, settings.head_rows)
        self._verify_head()
        self.tokens_per_batch = settings.tokens_per_batch or self._tokens_that_suit()
        self.body = Body(model, self.tokens_per_batch, settings.pack)
        self.max_tokens = settings.max_tokens or getattr(
            model.config.get_text_config(), "max_position_embeddings", None
        )

    def _tokens_that_suit(self) -> int:
        if self.model.device.type != "cpu":
            return TOKENS_ELSEWHERE
        return SHORT_PACK if self.head.vocabulary >= LARGE_VOCABULARY else TOKENS_ON_CPU

    @torch.no_grad()
    def logps(self, passages: Sequence[Passage], temperature: float) -> list[PassageLogps]:
        """Per-token log-probabilities of each passage's spans, in the order given, logits divided by `temperature`."""
        results: dict[int, PassageLogps] = {}
        for batch in self.body.states(passages):
            for number, logps_N in self._batch_logps(batch, passages, temperature).items():
                border = len(passages[number].explanation)
                results[number] = PassageLogps(logps_N[:border], logps_N[border:])
        return [results[number] for number in range(len(passages))]

    def _batch_logps(
        self, batch: Mapping[int, Tensor], passages: Sequence[Passage], temperature: float
    ) -> dict[int, Tensor]:
        """All positions of a batch through the head together."""
        spans = (span for number in batch for span in (passages[number].explanation_ids, passages[number].solution_ids))
        logps_N = self.head.chosen_logps(torch.cat(list(batch.values())), self.tensor(spans), temperature).cpu()
        return dict(zip(batch, logps_N.split([len(states) for states in batch.values()]), strict=True))

    def tensor(self, spans: Iterable[Sequence[int]]) -> Tensor:
        """The token ids of all spans, one after another, where the model is."""
        return torch.tensor([token for ids in spans for token in ids], dtype=torch.long, device=self.model.device)

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
def logps_and_exact_kl(
    teacher: Scorer,
    teacher_passages: Sequence[Passage],
    student: Scorer,
    student_passages: Sequence[Passage],
    temperature: float,
) -> list[tuple[PassageLogps, Tensor]]:
    """What `student.logps` returns, and the exact KL( pi_T || pi_S ) at each explanation token, nats, shape (E,).

    Summed over the vocabulary, at the cost of a teacher forward and the teacher's head. Where the two vocabularies are
    padded to different sizes, the columns that both have are compared.
    """
    results: dict[int, tuple[PassageLogps, Tensor]] = {}
    for batch in student.body.states(student_passages):
        read = [student_passages[number] for number in batch]
        lengths = [len(passage.explanation) for passage in read]
        explanations_NH = torch.cat([states[:length] for states, length in zip(batch.values(), lengths, strict=True)])
        solutions_NH = torch.cat([states[length:] for states, length in zip(batch.values(), lengths, strict=True)])
        theirs_NH = torch.cat(_explanation_states(teacher, [teacher_passages[number] for number in batch]))
        explanation_targets_N = student.tensor(passage.explanation_ids for passage in read)
        solution_targets_N = student.tensor(passage.solution_ids for passage in read)
        kl_N, explanation_N = kl_and_logps(
            teacher.head, theirs_NH, student.head, explanations_NH, explanation_targets_N, temperature
        )
        solution_N = student.head.chosen_logps(solutions_NH, solution_targets_N, temperature)
        logps = zip(
            explanation_N.cpu().split(lengths),
            solution_N.cpu().split([len(passage.solution) for passage in read]),
            strict=True,
        )
        for number, spans, kl_E in zip(batch, logps, kl_N.cpu().split(lengths), strict=True):
            results[number] = PassageLogps(*spans), kl_E
    return [results[number] for number in range(len(student_passages))]


def _explanation_states(scorer: Scorer, passages: Sequence[Passage]) -> list[Tensor]:
    """The states that predict each passage's explanation, in order."""
    read = {number: states for batch in scorer.body.states(passages) for number, states in batch.items()}
    return [read[number][: len(passage.explanation)] for number, passage in enumerate(passages)]
