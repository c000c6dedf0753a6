"""A causal LM without its head: the hidden states that predict a passage's explanation and solution.

    packed   many passages in one row, a shared beginning read once (plan.py, attention.py)
    rows     one passage a row, padded on the right, through the model's own attention

A packed state is the same number as a row's. Whether a model can be packed is tried once, on a few tokens; what has
windows is packed as long as no passage is longer than one. T tokens of a row, B rows, H hidden size.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor
from transformers import PreTrainedModel

from student.reading import Passage
from student.scoring.attention import NAME, CannotPack
from student.scoring.flex import BLOCK
from student.scoring.linear import OneDnnLinear
from student.scoring.plan import Pack, packs, predictors

PAD_TO = 256
"""A pack is filled up to a multiple of so many tokens on a CPU, and a short one to its whole budget: oneDNN keeps a
compiled product for every length that it meets, some 30 MB for a handful of them."""
SHORT_PACK = 1024
"""Tokens of a pack that is filled up to its whole budget."""


class Body:
    """The layers of one model; holds no state but the model."""

    def __init__(self, model: PreTrainedModel, tokens_at_once: int, pack: bool) -> None:
        self._model = model
        self._tokens = tokens_at_once
        self._window = _window(model)
        self._packs = pack and self._can_pack()

    def states(self, passages: Sequence[Passage]) -> Iterator[dict[int, Tensor]]:
        """By passage number the states that predict its explanation and then its solution, shape (E + S, H).

        A batch at a time, in whatever order they are read: at most `tokens_at_once` tokens, padding included.
        """
        packed = [number for number, passage in enumerate(passages) if self._suits(passage)]
        rows = [number for number, passage in enumerate(passages) if not self._suits(passage)]
        for numbers, read in ((packed, self._packed), (rows, self._rows)):
            for batch in read([passages[number] for number in numbers]):
                yield {numbers[place]: states_NH for place, states_NH in batch.items()}

    def _suits(self, passage: Passage) -> bool:
        return self._packs and (self._window is None or len(passage.input_ids) <= self._window)

    def _packed(self, passages: Sequence[Passage]) -> Iterator[dict[int, Tensor]]:
        for pack in packs(passages, self._tokens):
            hidden_TH = self._read_pack(pack)
            yield {number: hidden_TH[places] for number, places in pack.places(passages)}

    def _rows(self, passages: Sequence[Passage]) -> Iterator[dict[int, Tensor]]:
        for numbers in batches([len(passage.input_ids) for passage in passages], self._tokens):
            hidden_BTH = self._read_rows([passages[number].input_ids for number in numbers])
            yield {
                number: hidden_TH[predictors(passages[number])]
                for number, hidden_TH in zip(numbers, hidden_BTH, strict=True)
            }

    def _read_pack(self, pack: Pack) -> Tensor:
        padding = [0] * (-len(pack.ids) % _filled_to(self._model.device, self._tokens, len(pack.ids)))
        ids_BT = torch.tensor([[*pack.ids, *padding]], device=self._model.device)
        positions_BT = torch.tensor([[*pack.positions, *padding]], device=self._model.device)
        with _attention(self._model), self._products():
            output = self._model.base_model(input_ids=ids_BT, position_ids=positions_BT, use_cache=False, packing=pack)
        hidden_TH: Tensor = output.last_hidden_state[0]
        return hidden_TH

    def _read_rows(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """No mask: attention is causal, and the padding, token 0, comes after what is wanted."""
        ids_BT = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
        with self._products():
            output = self._model.base_model(input_ids=ids_BT.to(self._model.device), use_cache=False)
        hidden_BTH: Tensor = output.last_hidden_state
        return hidden_BTH

    def _products(self) -> OneDnnLinear | nullcontext[None]:
        on_cpu = self._model.device.type == "cpu" and self._model.dtype == torch.float32
        return OneDnnLinear() if on_cpu else nullcontext()

    @torch.no_grad()
    def _can_pack(self) -> bool:
        """Whether two passages that share a beginning have the same states in a pack as in rows of their own."""
        text_config = self._model.config.get_text_config()
        if not set(getattr(text_config, "layer_types", None) or ()) <= {"full_attention", "sliding_attention"}:
            return False
        ids = [number % text_config.vocab_size for number in range(1, 16)]
        trial = [Passage(ids, range(6, 13), range(13, 15)), Passage([*ids[:6], *ids[9:12]], range(6, 8), range(8, 9))]
        if self._window is not None and len(ids) > self._window:
            return False
        try:
            packed = {number: states for batch in self._packed(trial) for number, states in batch.items()}
        except (CannotPack, TypeError):  # TypeError: a model that does not hand arguments on to its attention
            return False
        return all(_alike(packed[number], states) for batch in self._rows(trial) for number, states in batch.items())


def batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Numbers of rows, similar lengths together, each batch within the padded token budget.

    >>> list(batches([9, 2, 3], 8))
    [[1, 2], [0]]
    """
    batch: list[int] = []
    for number in sorted(range(len(lengths)), key=lambda number: lengths[number]):
        if batch and (len(batch) + 1) * lengths[number] > budget:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def _filled_to(device: torch.device, budget: int, tokens: int) -> int:
    """Of what a pack's length of `tokens` becomes a multiple: on a GPU of a block, since FlexAttention skips those."""
    if device.type == "cpu":
        return budget if tokens <= budget <= SHORT_PACK else PAD_TO
    return BLOCK if device.type == "cuda" else 1


def _alike(one: Tensor, other: Tensor) -> bool:
    tolerance = 1e-4 if one.dtype == torch.float32 else 5e-2
    return bool((one - other).abs().max() <= tolerance * max(1.0, float(other.abs().max())))


def _window(model: PreTrainedModel) -> int | None:
    """The shortest window of the model's attention; None where each token sees all before it."""
    text_config = model.config.get_text_config()
    window: int | None = getattr(text_config, "sliding_window", None)
    return window if getattr(text_config, "use_sliding_window", True) else None


@contextmanager
def _attention(model: PreTrainedModel) -> Iterator[None]:
    """The model attends as packs need it, for as long as this lasts."""
    config = model.config.get_text_config()
    before = config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before
