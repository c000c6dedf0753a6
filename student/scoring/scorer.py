"""Log-probabilities of a passage's tokens under a causal LM in this process, and the exact KL between two of them.

The model's layers are bodies.py's, its head is heads.py's; here the two are put together, and once held against the
model's own logits. Left out: models elsewhere.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from student.configs import ScoringSettings
from student.errors import ModelError
from student.reading import Passage
from student.scoring.bodies import Body
from student.scoring.heads import CausalHead, kl_of_states
from student.scoring.plan import targets
from student.scoring.protocol import PassageLogps as PassageLogps

TOKENS_PER_BATCH = {"cpu": 4096}
"""Where the settings leave it open; more costs memory and saves nothing."""
TOKENS_PER_BATCH_ELSEWHERE = 16_384


class Scorer:
    """Reads passages with one frozen causal LM. Holds no state besides the model; safe to call in any order."""

    def __init__(self, model: PreTrainedModel, settings: ScoringSettings) -> None:
        self.model = model
        self.settings = settings
        self.head = CausalHead(model, settings.head_rows)
        self._verify_head()
        self.tokens_per_batch = settings.tokens_per_batch or TOKENS_PER_BATCH.get(
            model.device.type, TOKENS_PER_BATCH_ELSEWHERE
        )
        self.body = Body(model, self.tokens_per_batch, settings.pack)
        self.max_tokens = settings.max_tokens or getattr(
            model.config.get_text_config(), "max_position_embeddings", None
        )

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
        chosen = [token for number in batch for token in targets(passages[number])]
        targets_N = torch.tensor(chosen, dtype=torch.long, device=self.model.device)
        logps_N = self.head.chosen_logps(torch.cat(list(batch.values())), targets_N, temperature).cpu()
        return dict(zip(batch, logps_N.split([len(states) for states in batch.values()]), strict=True))

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
    for batch in student.body.states(student_passages):
        lengths = [len(student_passages[number].explanation) for number in batch]
        theirs_NH = torch.cat(_explanation_states(teacher, [teacher_passages[number] for number in batch]))
        ours_NH = torch.cat([states[:length] for states, length in zip(batch.values(), lengths, strict=True)])
        kl_N = kl_of_states(teacher.head, theirs_NH, student.head, ours_NH, temperature).cpu()
        results.update(zip(batch, kl_N.split(lengths), strict=True))
    return [results[number] for number in range(len(student_passages))]


def _explanation_states(scorer: Scorer, passages: Sequence[Passage]) -> list[Tensor]:
    """The states that predict each passage's explanation, in order."""
    read = {number: states for batch in scorer.body.states(passages) for number, states in batch.items()}
    return [read[number][: len(passage.explanation)] for number, passage in enumerate(passages)]
