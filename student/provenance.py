"""How a row came about, beyond what names it: the engine and its versions, the prompt's template, how it was sampled.

With problem, weights, seed and temperature, which are columns of the row itself, this is what makes the row again.
Left out: verdicts and scores, which are columns too.
"""

from importlib.metadata import PackageNotFoundError, version

import pyarrow as pa
from pydantic import BaseModel, ConfigDict


class Provenance(BaseModel):
    """Of one sampled explanation; None is what the one who made it did not say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine: str | None = None
    """What sampled it: transformers, vllm."""
    software: str | None = None
    """Names and versions of what computed it, `torch 2.13.0, vllm 0.31.0`."""
    precision: str | None = None
    """Of the weights while sampling."""
    prompt_digest: str | None = None
    """16 hex digits of chat template, system message and tags: equal prompts for equal problems."""
    top_p: float | None = None
    max_tokens: int | None = None


def software(*packages: str) -> str:
    """Names and versions of the packages that are installed, as a row says them.

    >>> software("pydantic", "no-such-package").startswith("pydantic 2.")
    True
    """
    return ", ".join(f"{package} {found}" for package in packages if (found := _version(package)) is not None)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


PROVENANCE_SCHEMA = pa.struct(
    [
        *((name, pa.string()) for name in ("engine", "software", "precision", "prompt_digest")),
        ("top_p", pa.float64()),
        ("max_tokens", pa.int64()),
    ]
)
"""The columns of Provenance in Parquet."""
