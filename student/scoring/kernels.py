"""What a GPU's head is computed with: the fused kernels that TRL keeps, and what to do where they are not to be had.

heads.py says what the numbers are and computes them in plain torch, tile by tile; here are the same numbers by Triton,
which reads each tile of logits once. A tile's product comes from cuBLAS in fp32 whatever the weights' precision. For
that reason TRL's ChunkedLogProbFunction itself is not called: it rounds each logit to the weights' precision before it
sums. Its tiles, and the kernel that folds them, are taken apart; its divergence keeps fp32 tiles and is taken whole.
These are another project's inner parts: TRL is pinned to one version, and a test holds them against it.

On a device without Triton TRL folds in torch, which is how the tests run this on a CPU; they run the Triton kernels
too, by Triton's interpreter. TRL is imported when it is first called, since that takes seconds. Nothing here has been
timed on a GPU yet: benchmarks/gpu_score.py does it.

N positions, H hidden size, V vocabulary, C columns of a tile.
"""

import logging
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar

import torch
from torch import Tensor

TILE_ROWS = 4096
TILE_COLUMNS = 32_768
"""TRL's own sizes, 0.5 GiB of fp32: a product large enough to keep a GPU busy."""

P = ParamSpec("P")
R = TypeVar("R")
logger = logging.getLogger(__name__)


class Projection(NamedTuple):
    """An output layer: z = cap(scale (h W^T + b)), cap(z) = c tanh(z / c) or z."""

    weight_VH: Tensor
    bias_V: Tensor | None = None
    scale: float = 1.0
    soft_cap: float | None = None

    def first(self, vocabulary: int) -> "Projection":
        """That of the first `vocabulary` tokens."""
        bias_V = None if self.bias_V is None else self.bias_V[:vocabulary]
        return self._replace(weight_VH=self.weight_VH[:vocabulary], bias_V=bias_V)

    def precise(self, hidden_NH: Tensor) -> Tensor:
        """`hidden_NH` in the finer precision of the two, which is what their product is made of."""
        return hidden_NH.to(torch.promote_types(hidden_NH.dtype, self.weight_VH.dtype))


class Fallback(Generic[P, R]):
    """Calls `fast`, and from its first failure on `plain`: the same numbers, later. Says so once, in a warning.

    Kernels are compiled when they are first called, for whatever GPU, driver and compiler are there. What is out of
    memory is not helped by another kernel, and rises.
    """

    def __init__(self, name: str, fast: Callable[P, R], plain: Callable[P, R]) -> None:
        self.name, self._fast, self._plain = name, fast, plain
        self.failed = False

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The result of one of the two."""
        if not self.failed:
            try:
                return self._fast(*args, **kwargs)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # noqa: BLE001 - compilers of kernels raise what they like
                self.failed = True
                reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
                logger.warning("%s cannot be used here (%s): scoring goes on without it, slower", self.name, reason)
        return self._plain(*args, **kwargs)


@torch.no_grad()
def chosen_logps(hidden_NH: Tensor, targets_N: Tensor, projection: Projection, temperature: float) -> Tensor:
    """log p of each position's target, logits divided by `temperature`, fp32, shape (N,)."""
    if not len(hidden_NH):  # nothing to launch a kernel for
        return hidden_NH.new_zeros(0, dtype=torch.float32)
    pieces = [
        _chosen_logps(projection.precise(states), targets, projection, temperature)
        for states, targets in zip(hidden_NH.split(TILE_ROWS), targets_N.split(TILE_ROWS), strict=True)
    ]
    return torch.cat(pieces)


def _chosen_logps(hidden_NH: Tensor, targets_N: Tensor, projection: Projection, temperature: float) -> Tensor:
    from trl.kernels.chunked_divergence import _project

    vocabulary = len(projection.weight_VH)
    buffer_NC = hidden_NH.new_empty(len(hidden_NH), min(vocabulary, TILE_COLUMNS), dtype=torch.float32)
    max_N = hidden_NH.new_full((len(hidden_NH),), -torch.inf, dtype=torch.float32)
    sum_N, target_N = torch.zeros_like(max_N), torch.zeros_like(max_N)
    for start in range(0, vocabulary, TILE_COLUMNS):
        stop = min(start + TILE_COLUMNS, vocabulary)
        tile_NC = buffer_NC[:, : stop - start]
        _project(tile_NC, hidden_NH, projection.weight_VH, projection.bias_V, start, stop, hidden_NH.dtype)
        _fold(tile_NC, targets_N, (max_N, sum_N, target_N), start, projection, temperature)
    return target_N - max_N - sum_N.log()


def _fold(
    tile_NC: Tensor,
    targets_N: Tensor,
    running: tuple[Tensor, Tensor, Tensor],
    start: int,
    projection: Projection,
    temperature: float,
) -> None:
    """A tile of products into the running maximum, sum of exponentials and target's logit of each row, in place."""
    from trl.kernels import chunked_logprob

    max_N, sum_N, target_N = running
    fold: Any = chunked_logprob._forward_tile
    if chunked_logprob._use_triton(tile_NC.device):
        fold = chunked_logprob._forward_kernel[(len(tile_NC),)]
    unused_N = torch.zeros_like(max_N)
    fold(
        tile_NC,
        tile_NC.stride(0),
        targets_N,
        max_N,
        sum_N,
        *(unused_N,) * 4,  # entropy and others that are not asked for below
        target_N,
        start,
        tile_NC.shape[1],
        projection.scale,
        projection.soft_cap or 1.0,
        1 / temperature,
        HAS_SOFTCAP=projection.soft_cap is not None,
        HAS_ENTROPY=False,
        HAS_LOG_SUM_SQ_PROBS=False,
        HAS_MEAN_LOGITS=False,
        HAS_IS_TOP1=False,
        BLOCK_SIZE=chunked_logprob._BLOCK_SIZE,
    )


@torch.no_grad()
def exact_kl(
    teacher_NH: Tensor, teacher: Projection, student_NH: Tensor, student: Projection, temperature: float
) -> Tensor:
    """KL( teacher || student ) of the two next-token distributions at each position, nats, fp32, shape (N,).

    Logits are divided by `temperature`; of vocabularies padded to different sizes the columns that both have count.
    """
    from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

    shared = min(len(teacher.weight_VH), len(student.weight_VH))
    theirs, ours = teacher.first(shared), student.first(shared)
    kl_N, _entropy_N = ChunkedDivergenceFunction.apply(
        ours.precise(student_NH),
        ours.weight_VH,
        ours.bias_V,
        theirs.precise(teacher_NH),
        theirs.weight_VH,
        theirs.bias_V,
        0.0,  # beta: the forward KL
        temperature,
        ours.scale,
        ours.soft_cap,
        theirs.scale,
        theirs.soft_cap,
    )
    result_N: Tensor = kl_N
    return result_N
