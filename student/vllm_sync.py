"""New weights for the vLLM engine inside the training process, where TRL's own way does not work: on a CPU.

vLLM on CPU prepacks its linear layers for oneDNN and drops the original parameters, so TRL's `load_weights` on the live
model fails ("'Parameter' object has no attribute 'weight_loader'"). `reload_weights` runs vLLM's own loading again,
packing included, except for a head tied to the embedding: it is packed at the first load only, and would go on with
the old weights (vLLM 0.31; sampled log-probabilities were 0.2 nats off after one step). It is packed again by hand. On
a GPU TRL's way is kept.
"""

from typing import Any


def reload_weights_on_cpu(generation: Any) -> None:
    """Makes `generation`, TRL's VLLMGeneration in colocate mode, hand over weights through vLLM's public reload."""

    def sync_weights() -> None:
        weights = ((name, parameter.clone()) for name, parameter in generation._iter_named_params())
        generation.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": weights})
        generation.llm.apply_model(_pack_head)
        generation.llm.reset_prefix_cache()

    generation.sync_weights = sync_weights


def _pack_head(model: Any) -> None:
    model.lm_head.quant_method.process_weights_after_loading(model.lm_head)
