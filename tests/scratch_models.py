"""The settings of the small random models that tests make: two layers, 400 tokens, a context of 1,024."""

from pathlib import Path

from student.configs import ScratchConfig


def small_model(folder: Path, hidden_size: int, heads: int) -> ScratchConfig:
    """A Qwen2 with two key-value heads. vLLM's CPU code takes heads of 32 dimensions or more."""
    return ScratchConfig(
        problems="unused",
        out=str(folder),
        vocabulary=400,
        hidden_size=hidden_size,
        layers=2,
        heads=heads,
        key_value_heads=2,
        intermediate_size=2 * hidden_size,
        max_tokens=1024,
    )
