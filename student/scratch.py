"""`rlt scratch`: a small Qwen2 with random weights and a byte-level BPE tokenizer, so that nothing need be downloaded.

It is what a real model is, only small: `AutoModelForCausalLM` loads it, its chat template is ChatML, and the tags are
plain text of several tokens each; only the chat's markers are special. Every digit is a token of its own, which makes
arithmetic learnable. Left out on purpose: other architectures, and any training of the weights.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from student.configs import ScratchConfig
from student.errors import OutputError
from student.models import PLAIN_CHAT_TEMPLATE, cast_parameters, resolve_dtype, save_pair
from student.problem_files import read_problems
from student.problems import Problem
from student.run_folder import begin, finish, is_finished
from student.tags import RLT, STYLES

PAD, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIAL_TOKENS = [PAD, TURN_START, TURN_END]
"""Padding, the start of a turn, its end (the end-of-sequence token): Qwen2.5's own names."""

_WORDS = Regex(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Qwen2.5's pattern: tokens never cross words, and each digit stands alone."""


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE of at most `vocabulary` tokens: any text, once in NFC, survives encoding and decoding unchanged.

    The pieces (NFC, pattern, byte level) are Qwen2's, because `AutoTokenizer` puts those in for a Qwen2 folder whatever
    its tokenizer.json says: so every way of loading it gives the same ids.
    """
    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.NFC()
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(_WORDS, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=SPECIAL_TOKENS,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token=TURN_END,
        pad_token=PAD,
        additional_special_tokens=[TURN_START],
        chat_template=PLAIN_CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


@dataclass(frozen=True)
class ModelShape:
    """The size of a Qwen2."""

    hidden_size: int
    layers: int
    heads: int
    key_value_heads: int
    intermediate_size: int
    max_tokens: int
    rope_theta: float = 10_000.0


def random_model(tokenizer: PreTrainedTokenizerBase, shape: ModelShape, seed: int) -> Qwen2ForCausalLM:
    """A Qwen2 with tied embeddings whose weights are drawn from `seed`; torch's own generator is left as it was."""
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        intermediate_size=shape.intermediate_size,
        max_position_embeddings=shape.max_tokens,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2ForCausalLM(config)
    model.eval()
    return model


def corpus(problems: Sequence[Problem]) -> Iterator[str]:
    """Every text of `problems`, and the system messages often enough for their words to become tokens."""
    for problem in problems:
        yield from (text for text in (problem.question, problem.reasoning_trace, problem.solution) if text)
    messages = [message for tags in STYLES.values() for message in (tags.student_system, tags.teacher_system)]
    for _ in range(max(2, len(problems) // 20)):
        yield from messages


def make_scratch(config: ScratchConfig, problems: Sequence[Problem]) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """The model and tokenizer that `config` describes, the tokenizer trained on `problems`."""
    tokenizer = train_tokenizer(corpus(problems), config.vocabulary)
    shape = ModelShape(**{field.name: getattr(config, field.name) for field in fields(ModelShape)[:-1]})
    model = random_model(tokenizer, shape, config.seed)
    if config.dtype != "auto":
        cast_parameters(model, resolve_dtype(config, torch.device("cpu")))
    return model, tokenizer


def bytes_per_token(tokenizer: PreTrainedTokenizerBase, problems: Sequence[Problem]) -> float:
    """UTF-8 bytes a token over the problems' own texts: how much the tokenizer compresses."""
    texts = [
        text for problem in problems for text in (problem.question, problem.reasoning_trace, problem.solution) if text
    ]
    tokens = sum(len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"])
    return sum(len(text.encode("utf-8", errors="replace")) for text in texts) / tokens


def main(config: ScratchConfig) -> None:
    """Carries out `rlt scratch`; raises OutputError where the folder already holds another model."""
    out = Path(config.out)
    if is_finished(out, config):
        return
    if (out / "config.json").exists():
        raise OutputError(f"{out} already holds a model; give another folder or remove it")
    problems = read_problems(config, RLT, out.with_name(out.name + ".skipped.jsonl"))
    model, tokenizer = make_scratch(config, problems)
    begin(out, config)
    save_pair(model, tokenizer, out)
    counts = {"parameters": model.num_parameters(), "vocabulary": len(tokenizer), "problems": len(problems)}
    finish(out, counts | {"bytes_per_token": bytes_per_token(tokenizer, problems)})
