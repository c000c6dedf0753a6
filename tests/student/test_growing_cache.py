"""The growing cache against transformers' own."""

import pytest
import torch
from transformers import (
    DynamicCache,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from student.growing_cache import GrowingLayer, growing_cache

SMALL = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 16}
SMALL |= {"num_key_value_heads": 2, "max_position_embeddings": 512, "initializer_range": 0.5}
torch.manual_seed(0)
MODELS: dict[str, PreTrainedModel] = {
    "qwen2": Qwen2ForCausalLM(Qwen2Config(**SMALL)),
    "gpt2": GPT2LMHeadModel(GPT2Config(vocab_size=50, n_positions=512, n_embd=16, n_layer=2, n_head=2)),
    "sliding window": MistralForCausalLM(MistralConfig(**SMALL, sliding_window=8)),
}


@pytest.mark.parametrize("name", MODELS)
def test_it_changes_no_bit_of_what_is_sampled(name: str) -> None:
    model = MODELS[name].eval()
    prompt = torch.randint(1, 50, (3, 20), generator=torch.Generator().manual_seed(0))
    settings = GenerationConfig(
        do_sample=False,
        max_new_tokens=200,
        min_new_tokens=200,
        pad_token_id=0,
        return_dict_in_generate=True,
        output_logits=True,
    )
    plain = model.generate(prompt, generation_config=settings)
    growing = model.generate(prompt, generation_config=settings, past_key_values=growing_cache(model))
    assert torch.equal(plain.sequences, growing.sequences)
    assert torch.equal(torch.stack(plain.logits), torch.stack(growing.logits))
    assert len(plain.logits) == 200


def test_only_plain_layers_are_replaced() -> None:
    for name, kind in (("qwen2", GrowingLayer), ("sliding window", None)):
        cache = growing_cache(MODELS[name])
        assert cache is not None
        own = DynamicCache(config=MODELS[name].config)
        assert [type(layer) for layer in cache.layers] == [kind or type(layer) for layer in own.layers]
