"""Kinds of GPU: memory, and the rates that the arithmetic divides by."""

from dataclasses import dataclass
from typing import Literal

CardName = Literal["h200", "h100", "a100"]


@dataclass(frozen=True)
class Card:
    """One kind of GPU."""

    name: str
    memory: float
    """Bytes."""
    flops: float
    """FLOP a second in bfloat16, dense."""
    bandwidth: float
    """Bytes a second between memory and cores."""
    link: float
    """Bytes a second to another GPU of the machine, one way."""
    network: float
    """Bytes a second to a GPU of another machine, one way."""
    source: str


GIB = 2.0**30
CARDS: dict[CardName, Card] = {
    "h200": Card("H200", 139 * GIB, 790e12, 4.3e12, 450e9, 50e9, "both rates measured, links as specified"),
    "h100": Card("H100 SXM", 79 * GIB, 989e12, 3.35e12, 450e9, 50e9, "as specified"),
    "a100": Card("A100 SXM 80GB", 79 * GIB, 312e12, 2.0e12, 300e9, 25e9, "as specified"),
}
