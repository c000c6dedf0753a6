"""A copy of a model whose logits are divided by a temperature: for engines that ignore one, as vLLM does for prompts.

    z(h) / T = z(h / T)       where z = W norm(x) + b, and so h = n(x) w (+ c): divide w, b and c by T
    norms that multiply by 1 + w (Gemma): w' = (1 + w) / T - 1
    soft cap: s tanh(z / s) / T = s' tanh((z / T) / s') with s' = s / T, a line of config.json

Exact but for the rounding of w' to the weights' precision (bfloat16: 0.2 % an element, at most). Nothing is believed of
an architecture: its norm is tried out by itself, and the copy is read beside the original before it counts. Left out:
models whose final norm is not found by shape, those inside a vision model, weights that are not safetensors.

    python -m student.scoring.temperature STUDENT TEMPERATURE OUT
"""

import argparse
import copy
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub import snapshot_download
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from student.configs import ModelSettings, ScoringSettings
from student.errors import ModelError, OutputError, RltError
from student.models import load_model, load_tokenizer, move_in, quiet, weights_digest, whole_or_removed
from student.scoring.scorer import Scorer
from student.scoring.self_test import difference, on_cpu, read_here

MARK = "rlt_temperature.json"
"""Beside the copy's weights: the temperature, and what it is a copy of."""
SOFT_CAP = "final_logit_softcapping"
_OTHER_WEIGHTS = {".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx"}

Change = Callable[[Tensor], Tensor]


def fold_temperature(student: str, temperature: float, out: Path) -> None:
    """Writes to `out` the student of a folder or hub name so that its logits are those divided by `temperature`.

    `out` takes the disk space of the original, and the check that compares the two the memory of one of them. Raises
    ModelError where the architecture does not allow it, or the copy does not read as the original does at that
    temperature, and OutputError where there is a model in `out` already; nothing is left there then.
    """
    if not temperature > 0:
        raise ModelError(f"temperature {temperature:g}: must be above 0")
    refuse_folded(student)
    load_tokenizer(student)  # which a server needs too; says what is no model
    if (out / "config.json").exists():
        raise OutputError(f"{out}: holds a model already; choose another folder or remove it")
    source = _folder(student)
    changes = _changes(student, temperature)
    writing = out / "model.partial"
    shutil.rmtree(writing, ignore_errors=True)
    writing.mkdir(parents=True)
    with whole_or_removed(writing):
        _copy(source, writing, changes, student)
        _divide_soft_cap(writing / "config.json", temperature)
        _compare(student, temperature, writing)
        mark = {"temperature": temperature, "student": student, "weights": weights_digest(student)}
        (writing / MARK).write_text(json.dumps(mark, indent=2) + "\n", encoding="utf-8")
        move_in(writing, out)


def refuse_folded(student: str) -> None:
    """Raises ModelError for a copy that `fold_temperature` made: it would be divided by the temperature twice."""
    mark = Path(student) / MARK
    if mark.is_file():
        told = json.loads(mark.read_text(encoding="utf-8"))
        raise ModelError(
            f"student {student!r}: is a copy with temperature {told['temperature']:g} in its weights, for vLLM to "
            f"serve; name the original, {told['student']!r}"
        )


def _folder(student: str) -> Path:
    return Path(student) if Path(student).is_dir() else Path(snapshot_download(student))


def _changes(student: str, temperature: float) -> dict[str, Change]:
    """What is done to which tensor; raises ModelError for an architecture where that is not exact."""
    config = AutoConfig.from_pretrained(student)
    if config.get_text_config() is not config:
        raise _unfoldable(student, "it is part of a model that reads more than text")
    with quiet(), torch.device("meta"):
        model = cast(PreTrainedModel, AutoModelForCausalLM.from_config(config))
    name, norm = _final_norm(model, student)
    offset = _offset(norm, student)

    head = next(name for name, module in model.named_modules() if module is model.get_output_embeddings())
    biases = {f"{name}.bias", f"{head}.bias"} & {name for name, _ in model.named_parameters()}
    return {f"{name}.weight": lambda weight: (weight + offset) / temperature - offset} | {
        bias: lambda bias: bias / temperature for bias in biases
    }


def _final_norm(model: PreTrainedModel, student: str) -> tuple[str, nn.Module]:
    """The one norm of the hidden size beside the layers, by its full name."""
    body = model.base_model
    size = model.config.hidden_size
    own = [child for child in body.children() if tuple(getattr(getattr(child, "weight", None), "shape", ())) == (size,)]
    if len(own) != 1:
        raise _unfoldable(student, f"{len(own)} modules look like its final norm")
    return next((name, module) for name, module in model.named_modules() if module is own[0])


def _offset(norm: nn.Module, student: str) -> float:
    """What the norm adds to its weight before it multiplies: 0, or 1 as Gemma's; raises ModelError for other norms."""
    trial: Any = copy.deepcopy(norm).to_empty(device="cpu").float()
    x_NH = torch.linspace(-2, 3, 4 * trial.weight.numel()).view(4, -1).sin()

    def with_weight(value: float) -> Tensor:
        for name, parameter in trial.named_parameters():
            nn.init.constant_(parameter, value if name == "weight" else 0.0)
        return cast(Tensor, trial(x_NH))

    with torch.no_grad():
        zero_NH, one_NH, minus_NH = with_weight(0.0), with_weight(1.0), with_weight(-1.0)
    for offset, gone_NH in ((0.0, zero_NH), (1.0, minus_NH)):
        step_NH = one_NH - zero_NH
        if torch.allclose(zero_NH, offset * step_NH, atol=1e-6) and not gone_NH.any() and step_NH.any():
            return offset
    raise _unfoldable(student, f"{type(norm).__name__} does not multiply by its weight, or by 1 more")


def _copy(source: Path, out: Path, changes: dict[str, Change], student: str) -> None:
    """The files of `source`, its tensors changed."""
    owed = set(changes)
    for file in sorted(file for file in source.iterdir() if file.is_file()):
        if file.suffix == ".safetensors":
            owed -= _copy_weights(file, out / file.name, changes)
        elif file.suffix not in _OTHER_WEIGHTS:
            shutil.copyfile(file, out / file.name)
    if owed:
        raise _unfoldable(student, f"its safetensors have no {', '.join(sorted(owed))}")


def _copy_weights(source: Path, out: Path, changes: dict[str, Change]) -> set[str]:
    """Copies a file of tensors; returns which it changed."""
    with safe_open(source, "pt") as tensors:
        here, metadata = changes.keys() & set(tensors.keys()), tensors.metadata()
    if not here:
        shutil.copyfile(source, out)
        return set()
    weights = load_file(source)
    weights |= {name: changes[name](weights[name].double()).to(weights[name].dtype) for name in here}
    save_file(weights, out, metadata=metadata)
    return here


def _divide_soft_cap(file: Path, temperature: float) -> None:
    config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    if config.get(SOFT_CAP):
        config[SOFT_CAP] /= temperature
        file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _compare(student: str, temperature: float, copied: Path) -> None:
    """Raises ModelError where the copy at temperature 1 is not the original at `temperature`."""
    expected = read_here(student, ModelSettings(device="cpu"), ScoringSettings(), temperature)
    model = load_model(str(copied), on_cpu(student, ModelSettings()))
    seen = Scorer(model, ScoringSettings()).logps(expected.passages, 1.0)
    mean, worst = difference(seen, expected.expected)
    if not mean <= expected.tolerance:
        raise _unfoldable(student, f"the copy's log-probabilities are off by {mean:.2g} nats a token, {worst:.2g} one")


def _unfoldable(student: str, why: str) -> ModelError:
    return ModelError(
        f"model {student!r}: a temperature cannot be put into its weights: {why}; score in this process, or at "
        "temperature 1"
    )


def main() -> None:
    """`python -m student.scoring.temperature STUDENT TEMPERATURE OUT`."""
    parser = argparse.ArgumentParser(description="Copy a student with a temperature in its weights, for vLLM to serve.")
    parser.add_argument("student", help="folder or hub name")
    parser.add_argument("temperature", type=float, help="what its logits are divided by")
    parser.add_argument("out", type=Path, help="folder for the copy")
    asked = parser.parse_args()
    try:
        fold_temperature(asked.student, asked.temperature, asked.out)
    except (RltError, OSError) as error:
        sys.exit(str(error))
    print(f"{asked.out}: {asked.student} at temperature {asked.temperature:g}; vllm serve {asked.out}")


if __name__ == "__main__":
    main()
