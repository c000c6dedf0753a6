"""The sizes of a model that memory and time depend on: a decoder as Qwen2 and Llama have it.

    parameters = L (h (q + 2k) + b (q + 2k) + q h + 3 h f + 2h) + h + V h (1 tied, else 2)

with L blocks of width h, q and k the widths of queries and of keys, f that of the SwiGLU, V words, b = 1 where the
projections have a bias. Left out: mixtures of experts.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from student.errors import ModelError


@dataclass(frozen=True)
class Shape:
    """The sizes of one model."""

    name: str
    layers: int
    hidden: int
    queries: int
    keys: int
    """Width of the keys, which is that of the values."""
    intermediate: int
    vocabulary: int
    tied: bool
    biased: bool

    @property
    def block(self) -> int:
        """Parameters of a block."""
        projected = self.queries + 2 * self.keys
        attention = self.hidden * projected + self.biased * projected + self.queries * self.hidden
        return attention + 3 * self.hidden * self.intermediate + 2 * self.hidden

    @property
    def ends(self) -> int:
        """Parameters outside the blocks: embedding, last norm, head."""
        return self.hidden + self.vocabulary * self.hidden * (1 if self.tied else 2)

    @property
    def parameters(self) -> int:
        """All of them."""
        return self.layers * self.block + self.ends

    def adapter(self, rank: int, *, attention_only: bool) -> int:
        """Parameters of a LoRA adapter: rank (in + out) of each linear layer that has one."""
        attention = 2 * (self.hidden + self.queries) + 2 * (self.hidden + self.keys)
        feed_forward = 0 if attention_only else 3 * (self.hidden + self.intermediate)
        return rank * self.layers * (attention + feed_forward)

    @property
    def kv_bytes(self) -> int:
        """Bytes of keys and values a token, in bfloat16."""
        return 2 * 2 * self.layers * self.keys

    def forward_flops(self, tokens: float, length: float) -> float:
        """FLOP to read `tokens` in sequences of `length`: 2 a parameter, and the attention to what went before."""
        looked_up = self.vocabulary * self.hidden if not self.tied else 0
        return tokens * (2 * (self.parameters - looked_up) + 4 * self.layers * self.queries * length / 2)


QWEN: dict[str, Shape] = {
    "1.5B": Shape("Qwen2.5-1.5B", 28, 1536, 1536, 256, 8960, 151_936, tied=True, biased=True),
    "7B": Shape("Qwen2.5-7B", 28, 3584, 3584, 512, 18_944, 152_064, tied=False, biased=True),
    "32B": Shape("Qwen2.5-32B", 64, 5120, 5120, 1024, 27_648, 152_064, tied=False, biased=True),
}
"""Shapes that have a name."""


def shape_of(name: str, setting: str) -> Shape:
    """The shape that a name or a model's folder means; raises ModelError, which names the setting."""
    if name in QWEN:
        return QWEN[name]
    file = Path(name) / "config.json"
    if not file.is_file():
        raise ModelError(
            f"{setting}: {name!r} is neither a shape ({', '.join(QWEN)}) nor a folder with a config.json; give one"
        )
    try:
        return _shape(name, json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{setting}: {file} does not describe a dense decoder ({error!r}); name a shape") from error


def _shape(name: str, config: dict[str, Any]) -> Shape:
    hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
    head = int(config.get("head_dim") or hidden // heads)
    return Shape(
        name,
        layers=int(config["num_hidden_layers"]),
        hidden=hidden,
        queries=heads * head,
        keys=int(config.get("num_key_value_heads") or heads) * head,
        intermediate=int(config["intermediate_size"]),
        vocabulary=int(config["vocab_size"]),
        tied=bool(config.get("tie_word_embeddings", False)),
        biased=config.get("model_type") == "qwen2" or bool(config.get("attention_bias", False)),
    )
