"""LoRA (arXiv 2106.09685): only two thin matrices beside each linear layer are trained, and merged into it at the end.

    y = W x + (alpha / rank) B A x,   A (rank, in) random, B (out, rank) zero at first; saved is W + (alpha / rank) B A

W stays as it was loaded, in 16 bits on a GPU, and needs neither gradient nor optimizer. What is saved is a plain model;
checkpoints hold the adapter alone. Left out: adapters of the output head, quantised weights, models that FSDP or
DeepSpeed divides.
"""

from typing import Any, cast

import torch
from peft import LoraConfig as PeftLora
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel

from student import processes
from student.configs import LoraConfig
from student.errors import ConfigError
from student.models import cast_parameters


def peft_config(lora: LoraConfig | None) -> PeftLora | None:
    """The settings in PEFT's words, None for None; raises ConfigError where the processes divide the model."""
    if lora is None:
        return None
    if processes.divide_models():
        raise ConfigError(
            "lora: an adapter is not merged into a model that processes divide; train without FSDP and DeepSpeed "
            "(torchrun gives each process the whole model), or without lora"
        )
    targets: Any = "all-linear" if lora.targets == "all" else ["q_proj", "k_proj", "v_proj", "o_proj"]
    return PeftLora(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )


def base_of(model: nn.Module) -> PreTrainedModel:
    """The causal LM inside the adapter's wrapper, adapter layers included; the model itself where it has none."""
    return cast(PreTrainedModel, model.get_base_model() if isinstance(model, PeftModel) else model)


def merged(model: PeftModel) -> PreTrainedModel:
    """The causal LM with the adapter in its weights, as it was before it had one; computed in float32."""
    cast_parameters(model, torch.float32)
    whole = cast(PreTrainedModel, cast(Any, model).merge_and_unload())
    return whole.requires_grad_(True)
