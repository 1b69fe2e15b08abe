"""What stands between the CNN's convolutions in a training step on a CPU with AVX-512.

Max-pooling, and batch norm with GELU, each in one call: a step is 6 to 10 % shorter than with
PyTorch's, which pass over the arrays more often (docs/benchmarks.md).
"""

from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from visavis.models.compiled import VECTOR, Source, call, empty

SOURCE: Source = "activation.cpp"


def pooled(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h2 w2"]:
    """The largest of 3 x 3 pixels around each second one where sides are odd, else of 2 x 2.

    Raises:
        ValueError: a side is odd and the other one even, or the channels are no multiple of 16.
    """
    if x.shape[2] % 2 != x.shape[3] % 2 or x.shape[1] % VECTOR:
        raise ValueError(f"pictures of {tuple(x.shape)} cannot be pooled here")
    return _Pooled.apply(x)


def normed_gelu(
    x: Float[Tensor, "n c h w"], norm: nn.BatchNorm2d, shortcut: Float[Tensor, "n c h w"] | None
) -> Float[Tensor, "n c h w"]:
    """GELU of the batch's norm, to which the shortcut is added; running averages move as usual.

    Args:
        norm: in training mode, with a momentum.

    Raises:
        ValueError: the channels are no multiple of 16, or the shortcut is not like x.
    """
    other = x if shortcut is None else shortcut
    if x.shape[1] % VECTOR or (x.shape, x.dtype) != (other.shape, other.dtype):
        raise ValueError(
            f"pictures of {tuple(x.shape)}, {x.dtype} and {tuple(other.shape)}, "
            f"{other.dtype} cannot be activated here"
        )
    weight, bias = norm.weight.float(), norm.bias.float()
    y, mean, variance = _NormedGELU.apply(x, weight, bias, shortcut, norm.eps)
    count = _pixels(x)[0]
    momentum = cast(float, norm.momentum)
    cast(Tensor, norm.running_mean).lerp_(mean, momentum)
    cast(Tensor, norm.running_var).lerp_(variance * (count / max(1, count - 1)), momentum)
    cast(Tensor, norm.num_batches_tracked).add_(1)
    return y


class _Pooled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h2 w2"]:
        x = x.contiguous(memory_format=torch.channels_last)
        n, channels, rows, columns = x.shape
        largest = empty(x, n, channels, (rows + 1) // 2, (columns + 1) // 2)
        which = torch.empty_like(largest, dtype=torch.uint16)
        call(SOURCE, "pool", x, largest, which, sizes=(n, rows, columns, channels))
        ctx.save_for_backward(which)
        ctx.shape = x.shape
        return largest

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Float[Tensor, "n c h2 w2"]) -> Tensor:
        (which,) = ctx.saved_tensors
        n, channels, rows, columns = ctx.shape
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        by_x = empty(gradient, *ctx.shape)
        call(SOURCE, "unpool", gradient, which, by_x, sizes=(n, rows, columns, channels))
        return by_x


class _NormedGELU(torch.autograd.Function):
    """Ioffe & Szegedy 2015, arXiv 1502.03167, algorithm 1, and its gradient.

    All is taken of what x is apart from its first pixel, so that a large mean costs no digits.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Float[Tensor, "n c h w"],
        weight: Float[Tensor, " c"],
        bias: Float[Tensor, " c"],
        shortcut: Float[Tensor, "n c h w"] | None,
        epsilon: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        x = x.contiguous(memory_format=torch.channels_last)
        if shortcut is not None:
            shortcut = shortcut.contiguous(memory_format=torch.channels_last)
        sums = x.new_empty(2, x.shape[1], dtype=torch.float32)
        call(SOURCE, "moments", x, sums, sizes=_pixels(x))
        shifted_mean, squares = sums / _pixels(x)[0]
        variance = (squares - shifted_mean.square()).clamp(min=0)
        mean = x[0, :, 0, 0].float() + shifted_mean
        rate = (variance + epsilon).rsqrt()
        scale = weight * rate
        offset = bias - shifted_mean * scale
        y = torch.empty_like(x)
        call(SOURCE, "activate", x, shortcut, scale, offset, y, sizes=_pixels(x))
        ctx.save_for_backward(x, shortcut, scale, offset, shifted_mean, rate)
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, gradient: Float[Tensor, "n c h w"], *_: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None, None]:
        x, shortcut, scale, offset, shifted_mean, rate = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        sums, by_z = x.new_empty(2, x.shape[1], dtype=torch.float32), torch.empty_like(x)
        arrays = (x, shortcut, scale, offset, gradient, by_z, sums)
        call(SOURCE, "activate_back", *arrays, sizes=_pixels(x))
        by_bias, products = sums
        by_weight = (products - shifted_mean * by_bias) * rate
        count = _pixels(x)[0]
        slope = -scale * rate * by_weight / count
        constant = -scale * by_bias / count - slope * shifted_mean
        by_x = by_z if shortcut is None else torch.empty_like(x)
        terms = (scale, slope, constant)
        call(SOURCE, "normalize_back", x, by_z, *terms, by_x, sizes=_pixels(x))
        return by_x, by_weight, by_bias, None if shortcut is None else by_z, None


def _pixels(x: Float[Tensor, "n c h w"]) -> tuple[int, int]:
    return x.numel() // x.shape[1], x.shape[1]
