"""The model that a toy chain begins with: a Qwen3 of 0.18 M random parameters and the toy world's tokenizer.

Three layers, since two do not learn the step table; weights of standard deviation 0.1, five times transformers'
default, which so narrow a model needs to get under way; a RoPE base of 100, for sequences of 36 tokens. Heads of 32
dimensions, more than so narrow a model needs, are the smallest that vLLM runs on a CPU: `rlt serve` serves this model.
"""

from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase, Qwen3Config, Qwen3ForCausalLM

from student.models import save_pair
from teacher.demo.world import toy_tokenizer


def make_initial(out: Path, seed: int, tokenizer: PreTrainedTokenizerBase | None = None) -> None:
    """Writes the folder `out` with an untrained model drawn from `seed`, for the toy world or another's tokenizer."""
    tokenizer = tokenizer or toy_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen3ForCausalLM(shape(tokenizer)).eval()
    save_pair(model, tokenizer, out)


def shape(tokenizer: PreTrainedTokenizerBase) -> Qwen3Config:
    """The configuration of the toy model."""
    return Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=32,
        intermediate_size=128,
        max_position_embeddings=max(64, tokenizer.model_max_length),
        rope_parameters={"rope_type": "default", "rope_theta": 100.0},
        initializer_range=0.1,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
