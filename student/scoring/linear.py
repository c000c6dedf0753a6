"""x W^T + b on a CPU, in fp32, by oneDNN where torch has it: half the time of torch's own BLAS on AMD's processors.

torch reaches oneDNN's product only through an operator without a public name, so it is looked for, held against torch's
own result once, and left alone where either fails.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

Product = Callable[[Tensor, Tensor, Tensor | None], Tensor]
ROWS: Final = 128
"""Rows are filled up to a multiple of so many: oneDNN compiles its product anew for every number of rows that it meets,
and keeps it, some 30 MB for a handful of packs that were not filled up."""


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """As torch.nn.functional.linear, which it calls wherever oneDNN is not to be had or would not help."""
    suits = x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32 and not torch.is_grad_enabled()
    if suits and x.numel() > x.shape[-1] and (by_onednn := _onednn()):
        return _filled_up(by_onednn, x, weight, bias)
    return functional.linear(x, weight, bias)


def _filled_up(product: Product, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    rows = x.numel() // x.shape[-1]
    if not (missing := -rows % ROWS):
        return product(x, weight, bias)
    full = functional.pad(x.reshape(rows, -1), (0, 0, 0, missing))
    return product(full, weight, bias)[:rows].view(*x.shape[:-1], -1)


class OneDnnLinear(TorchFunctionMode):
    """While it lasts, every linear layer of this thread computes by `linear`."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called for every function of torch's."""
        if func is functional.linear:
            return linear(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


@cache
def _onednn() -> Product | None:
    """oneDNN's product, where it exists and is right."""
    operator = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    if operator is None or not torch.backends.mkldnn.is_available():
        return None

    def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        result: Tensor = operator(x, weight, bias, "none", [], "")
        return result

    x, weight, bias = (torch.linspace(-1, 1, count) for count in (2 * 64, 32 * 64, 32))
    x, weight = x.view(2, 64), weight.view(32, 64)
    try:
        right = torch.allclose(product(x, weight, bias), functional.linear(x, weight, bias), atol=1e-5)
    except RuntimeError:  # what an operator raises that was built for another machine
        return None
    return product if right else None
