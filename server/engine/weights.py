"""Whether one checkpoint can take the place of another in an engine that runs: the same architecture, other numbers.

An engine that finds out while it loads has lost the old weights by then; so config.json and the headers of the
safetensors files are compared before. This file is imported inside vLLM's workers too and loads nothing heavy itself.
"""

import json
from pathlib import Path
from typing import Any

_MAY_DIFFER = {
    "_name_or_path",
    "architectures",
    "bos_token_id",
    "dtype",
    "eos_token_id",
    "initializer_range",
    "pad_token_id",
    "torch_dtype",
    "transformers_version",
    "use_cache",
}


def misfit(old: str, new: str) -> str | None:
    """Why the weights of `new` cannot replace those of `old`, both folders or hub names; None where they can."""
    folder = Path(new)
    if not (folder / "config.json").is_file():
        return f"model {new!r}: no such folder with a config.json; give a folder saved by save_pretrained"
    present = _folder(old)
    if present is None:
        return None
    mine, its = (json.loads((path / "config.json").read_text(encoding="utf-8")) for path in (present, folder))
    for name in sorted((mine.keys() & its.keys()) - _MAY_DIFFER):
        if mine[name] != its[name]:
            return f"model {new!r}: {name} is {its[name]!r} where the teacher has {mine[name]!r}; {_REMEDY}"
    return _other_tensors(_shapes(present), _shapes(folder), new)


_REMEDY = "start the service on it instead"


def _other_tensors(old: dict[str, Any], new: dict[str, Any], name: str) -> str | None:
    if not new:
        return f"model {name!r}: the folder has no readable *.safetensors; save its weights as safetensors"
    other = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key)) if old else []
    if other:
        return f"model {name!r}: {len(other)} tensors are not as in the teacher (first: {other[0]}); {_REMEDY}"
    return None


def _shapes(folder: Path) -> dict[str, Any]:
    """Shape of every tensor by name, from the headers alone; empty where there are no readable safetensors."""
    from safetensors import SafetensorError, safe_open

    shapes: dict[str, Any] = {}
    try:
        for file in sorted(folder.glob("*.safetensors")):
            with safe_open(file, "pt") as tensors:
                shapes |= {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118
    except (SafetensorError, OSError):
        return {}
    return shapes


def _folder(name: str) -> Path | None:
    """Where the files of a folder or hub name lie; None where that is not known here."""
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(name, "config.json")
    return Path(cached).parent if isinstance(cached, str) else None
