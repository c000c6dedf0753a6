"""Loading and saving a model and its tokenizer, with every way that fails as one line that says what to do.

What comes back is ready for all parts: the tokenizer pads, ends and has a chat template; the model is on its device, in
its precision, in eval mode. Left out on purpose: adding tokens (an embedding that was never trained), quantisation, and
the repair of a folder: a model that lacks weights is refused, where transformers would draw them at random.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, cast

import httpx
import torch
from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

from student import processes
from student.configs import ModelSettings
from student.errors import ModelError, OutputError

PLAIN_CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + eos_token + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""ChatML with the tokenizer's own end-of-sequence token as the end of a turn, for models that bring no template."""

_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt")
_PAD_CANDIDATES = ("<|endoftext|>", "<|finetune_right_pad_id|>", "<|reserved_special_token_0|>", "<pad>", "[PAD]")
_LOAD_FAILURES = (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError, HFValidationError)


def load_pair(
    name: str, settings: ModelSettings, *, to_train: bool = False
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model and its tokenizer; raises ModelError where one is unreadable or they do not fit each other."""
    tokenizer = load_tokenizer(name)
    model = load_model(name, settings, to_train=to_train)
    check_fit(model, tokenizer, name)
    return model, tokenizer


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder or hub name, made ready by `prepare_tokenizer`; raises ModelError."""
    folder = _local_folder(name)
    if folder is not None and not any((folder / file).is_file() for file in _TOKENIZER_FILES):
        raise ModelError(
            f"model {name!r}: the folder has no tokenizer ({_TOKENIZER_FILES[0]}); save one beside the weights"
        )
    with quiet(), _one_line(name, "tokenizer"):
        loader = PreTrainedTokenizerFast if folder is not None and _is_plain(folder) else AutoTokenizer
        tokenizer = cast(PreTrainedTokenizerBase, loader.from_pretrained(name))
    return prepare_tokenizer(tokenizer, name)


def _is_plain(folder: Path) -> bool:
    """Whether the folder's tokenizer.json is the whole truth about its tokenizer.

    `AutoTokenizer` (transformers 5) would replace its normaliser and splitter by those of the model's family.
    """
    config = folder / "tokenizer_config.json"
    named = json.loads(config.read_text(encoding="utf-8")).get("tokenizer_class") if config.is_file() else None
    return (folder / "tokenizer.json").is_file() and named in ("PreTrainedTokenizerFast", "TokenizersBackend")


def prepare_tokenizer(tokenizer: PreTrainedTokenizerBase, name: str) -> PreTrainedTokenizerBase:
    """`tokenizer` with a pad token and a chat template where it had none; raises ModelError without an end token.

    The pad token is one the embedding already has, and differs from the end token where the vocabulary allows.
    """
    if tokenizer.eos_token_id is None:
        raise ModelError(
            f"model {name!r}: its tokenizer has no end-of-sequence token; set eos_token in tokenizer_config.json"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = _spare_token(tokenizer)
    if tokenizer.chat_template is None:
        processes.tell(f"model {name!r} has no chat template: using a plain ChatML one")
        tokenizer.chat_template = PLAIN_CHAT_TEMPLATE
    return tokenizer


def _spare_token(tokenizer: PreTrainedTokenizerBase) -> str:
    vocabulary = tokenizer.get_vocab()
    candidates = [token for token in (*_PAD_CANDIDATES, tokenizer.unk_token) if token in vocabulary]
    return next((str(token) for token in candidates if token != tokenizer.eos_token), str(tokenizer.eos_token))


def load_model(name: str, settings: ModelSettings, *, to_train: bool = False) -> PreTrainedModel:
    """The causal LM of a folder or hub name, in eval mode, on its device and in its precision; raises ModelError.

    A model `to_train` stays on the CPU where the processes will divide it: no GPU may have room for all of it.
    """
    folder = _local_folder(name)
    if folder is not None:
        _check_files(folder, name)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    device = resolve_device(settings)
    with quiet(), _one_line(name, "weights"):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            name, dtype=resolve_dtype(settings, device), output_loading_info=True
        )
    model, found = loaded
    if missing := sorted(found["missing_keys"]):
        raise ModelError(
            f"model {name!r}: its weights lack {len(missing)} tensors (first: {missing[0]}); get them again"
        )
    if getattr(model.config.get_text_config(), "attn_logit_softcapping", None):
        model.set_attn_implementation("eager")  # sdpa leaves Gemma 2's cap out without a word
    divided = to_train and processes.divide_models()
    return cast(PreTrainedModel, model.to("cpu" if divided else device).eval())


def check_fit(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Raises ModelError where the tokenizer can write a token that the model has no embedding for."""
    rows = cast(torch.nn.Embedding, model.get_input_embeddings()).num_embeddings
    if len(tokenizer) > rows:
        raise ModelError(
            f"model {name!r}: its tokenizer has {len(tokenizer)} tokens but its embedding {rows} rows; "
            "use the tokenizer that the model was trained with"
        )


def resolve_device(settings: ModelSettings) -> torch.device:
    """The device that `settings.device` means here; raises ModelError where it is not there."""
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if settings.device == "auto":
        return _of_this_process(next(device for device in ("cuda", "mps", "cpu") if there[device]))
    if not there[settings.device]:
        raise ModelError(f"device {settings.device!r} is not available to torch {torch.__version__}; use device 'auto'")
    return _of_this_process(settings.device)


def _of_this_process(device: str) -> torch.device:
    """The GPU that torchrun gave this process; the one device of its kind elsewhere."""
    return torch.device(device, processes.index_on_machine()) if device == "cuda" else torch.device(device)


def training_device(model: PreTrainedModel) -> torch.device:
    """Where `model` is trained: where it is, or on the GPU of this process, which will be given a part of it."""
    divided = processes.divide_models() and torch.cuda.is_available()
    return _of_this_process("cuda") if divided else model.device


def resolve_dtype(settings: ModelSettings, device: torch.device) -> torch.dtype:
    """The precision that `settings.dtype` means on `device`: auto is bfloat16 on CUDA, float32 elsewhere."""
    if settings.dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return cast(torch.dtype, getattr(torch, settings.dtype))


def training_settings(settings: ModelSettings) -> ModelSettings:
    """`settings` for a model that will be trained: its weights are held in float32, whatever it computes in.

    bfloat16 weights near 0.02 are 1e-4 apart: a step of AdamW at a learning rate of 1e-5 would round to nothing.
    """
    return ModelSettings(device=settings.device, dtype="float32", threads=settings.threads)


def cast_parameters(model: torch.nn.Module, dtype: torch.dtype) -> None:
    """Casts the parameters alone, in place: `model.to(dtype)` would round the rotary frequencies (a buffer) too."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)


def save_pair(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, out: Path) -> None:
    """Saves both into the folder `out`, whose config.json appears last: a folder that has one is whole."""
    writing = out / "model.partial"
    shutil.rmtree(writing, ignore_errors=True)
    with whole_or_removed(writing), quiet():
        model.save_pretrained(writing)
        tokenizer.save_pretrained(writing)
    move_in(writing, out)


@contextmanager
def whole_or_removed(folder: Path) -> Iterator[None]:
    """Removes `folder` where writing it fails; raises OutputError where safetensors or torch met a full disk."""
    try:
        yield
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, SafetensorError) or "inline_container" in str(error) or "StreamWriter" in str(error):
            reason = str(error).splitlines()[0][:200]
            raise OutputError(
                f"{folder}: cannot be written ({reason}); free some space or choose another folder"
            ) from error
        raise


def move_in(writing: Path, out: Path) -> None:
    """Moves the files of `writing` into `out`, config.json last, and removes `writing`."""
    for file in sorted(writing.iterdir(), key=lambda file: file.name == "config.json"):
        file.replace(out / file.name)
    writing.rmdir()


def weights_digest(name: str) -> str:
    """16 hex digits over the weight files of a folder; of a hub name, the commit in the cache, or else the name.

    Raises ModelError for what can be neither.
    """
    if not Path(name).is_dir():
        try:
            cached = try_to_load_from_cache(name, "config.json")
        except HFValidationError as error:
            raise ModelError(f"model {name!r}: no such folder, and no name of the hub; check the path") from error
        return Path(cached).parent.name if isinstance(cached, str) else name
    digest = hashlib.sha256()
    for file in _weight_files(Path(name)):
        digest.update(file.name.encode())
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]


def _weight_files(folder: Path) -> list[Path]:
    return sorted(file for pattern in _WEIGHTS for file in folder.glob(pattern))


def _local_folder(name: str) -> Path | None:
    """The folder that `name` means, None for a hub name; raises ModelError for what can be neither."""
    path = Path(name)
    if path.is_dir():
        return path
    if path.exists():
        raise ModelError(f"model {name!r}: is a file; give the folder that holds config.json and the weights")
    if path.is_absolute() or name.startswith(".") or name.count("/") > 1:
        raise ModelError(f"model {name!r}: no such folder; check the path")
    _check_reachable(name)
    return None


@cache
def _check_reachable(name: str) -> None:
    """Raises ModelError unless the hub name is cached or answers: transformers would retry for a minute, aloud."""
    try:
        if not isinstance(try_to_load_from_cache(name, "config.json"), str):
            get_hf_file_metadata(hf_hub_url(name, "config.json"), timeout=10)
    except (httpx.HTTPError, OSError, HFValidationError) as error:
        raise ModelError(
            f"model {name!r}: no such folder, and not reachable as a hub name ({type(error).__name__}); "
            "check the spelling, the network or HF_HUB_OFFLINE"
        ) from error


def _check_files(folder: Path, name: str) -> None:
    if not (folder / "config.json").is_file():
        raise ModelError(f"model {name!r}: the folder has no config.json; give a folder saved by save_pretrained")
    if not _weight_files(folder):
        raise ModelError(f"model {name!r}: the folder has no weights ({', '.join(_WEIGHTS)}); copy them there")


@contextmanager
def _one_line(name: str, part: str) -> Iterator[None]:
    """Turns any failure of transformers to load `part` into a ModelError: the boundary of this module."""
    try:
        yield
    except Exception as error:
        # tokenizers raises bare Exceptions for a file that is JSON but no tokenizer.
        if not isinstance(error, _LOAD_FAILURES) and type(error) is not Exception:
            raise
        if _local_folder(name) is None:
            reason = (
                "no such folder, and not reachable as a hub name; check the spelling, the network or HF_HUB_OFFLINE"
            )
        else:
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            reason = f"its {part} cannot be read ({first[:200]}); copy or download the folder again"
        raise ModelError(f"model {name!r}: {reason}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Silences transformers' progress bars and load reports, which say nothing that `_one_line` does not."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
