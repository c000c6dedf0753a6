"""Tokenizers unlike `rlt scratch`'s, and tiny models for them: bytes, SentencePiece's kind, one that changes texts."""

from functools import cache
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from student.models import save_pair
from student.scratch import SPECIAL_TOKENS, ModelShape, corpus, random_model, train_tokenizer
from tests.conftest import TINY_PROBLEMS

SHAPE = ModelShape(hidden_size=32, layers=2, heads=4, key_value_heads=2, intermediate_size=64, max_tokens=4096)


@cache
def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A token a byte: three special tokens and 256 others."""
    return train_tokenizer(corpus(TINY_PROBLEMS), len(SPECIAL_TOKENS) + 256)


@cache
def bpe_tokenizer(vocabulary: int = 400) -> PreTrainedTokenizerFast:
    """Words and parts of them, of bytes; characters that the problems lack are split."""
    return train_tokenizer([*corpus(TINY_PROBLEMS), *["🙂🙃" * 9, "漢漢", "née "] * 9], vocabulary)


@cache
def sentencepiece_tokenizer() -> PreTrainedTokenizerFast:
    """As Llama 2 and Mistral have it: a space before the text, words with their space, bytes for unknown characters."""
    bpe = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    bpe.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    bpe.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=special, max_token_length=8, show_progress=False)
    bpe.train_from_iterator(corpus(TINY_PROBLEMS), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        unk_token="<unk>",
        eos_token="</s>",
        pad_token="<unk>",
        chat_template="{% for message in messages %}{{ message['content'] + '</s>' }}{% endfor %}",
        clean_up_tokenization_spaces=False,
    )


@cache
def lower_casing_tokenizer() -> PreTrainedTokenizerFast:
    """Does not give a text back: capitals become small letters, and characters are composed."""
    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        corpus(TINY_PROBLEMS),
        trainers.BpeTrainer(vocab_size=400, special_tokens=["<end>"], initial_alphabet=alphabet, show_progress=False),
    )
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<end>", pad_token="<end>")


def tiny_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> PreTrainedModel:
    """A random Qwen2 of two layers for that tokenizer, sure enough of itself for its log-probabilities to differ."""
    model = random_model(tokenizer, SHAPE, seed)
    for parameter in model.parameters():
        parameter.data *= 4
    return model


def save_tiny_model(tokenizer: PreTrainedTokenizerFast, folder: Path, seed: int = 1) -> Path:
    """The same in a folder, with its tokenizer."""
    save_pair(tiny_model(tokenizer, seed), tokenizer, folder)
    return folder
