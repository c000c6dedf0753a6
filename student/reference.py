"""The reference model in a checkpoint: whole in one file, however the processes of a run divide it among themselves.

TRL forgets it; after it has moved towards the policy it is not the model that the run began with. Divided by FSDP2 a
parameter is a DTensor, by ZeRO-3 it is empty but inside DeepSpeed's own context. Left out: FSDP1.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

REFERENCE_FILE = "reference.safetensors"
"""The reference model in a checkpoint."""


def save_reference(model: nn.Module, folder: Path, *, writes: bool) -> None:
    """Saves the parameters of `model` into `folder`; every process takes part, the one that `writes` writes."""
    whole: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        with _gathered(parameter):
            values = parameter.full_tensor() if isinstance(parameter, DTensor) else parameter
            if writes:
                whole[name] = values.detach().cpu().contiguous()
    if writes:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(whole, folder / REFERENCE_FILE)


@torch.no_grad()
def load_reference(model: nn.Module, folder: Path) -> None:
    """Puts the parameters that `save_reference` saved into `model`; every process takes part."""
    whole = load_file(folder / REFERENCE_FILE)
    for name, parameter in model.named_parameters():
        with _gathered(parameter):
            values = whole[name].to(parameter.device)
            if isinstance(parameter, DTensor):
                values = distribute_tensor(values, parameter.device_mesh, parameter.placements)
            parameter.copy_(values)


@contextmanager
def _gathered(parameter: nn.Parameter) -> Iterator[None]:
    """Inside, a parameter that ZeRO-3 has divided is whole; the first process's values are divided again after it."""
    if not hasattr(parameter, "ds_id"):
        yield
        return
    from deepspeed.runtime.zero import GatheredParameters

    with GatheredParameters([parameter], modifier_rank=0):
        yield
