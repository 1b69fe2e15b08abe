"""A 3x3 convolution that treats left and right alike, at half of the arithmetic in training."""

import ctypes
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_input, conv2d_weight

from visavis.models.compiled import library

TWO_VECTORS = 32
"""Channels whose halves fill a vector of AVX-512 each; between multiples of it time is lost."""

STRIP = 50
"""At most so many pictures lie side by side."""


class Convolution(nn.Module):
    """3x3, zeros around the picture, no bias; its filters come in mirrored pairs.

    Channel i of the second half has the filter of channel i of the first half, mirrored, and the
    halves of its inputs exchanged. So a mirrored picture gives the mirrored channels, with the
    halves exchanged, but where a stride takes other pixels; and half of the filters are learned.

    Attributes:
        fused: let training steps on a CPU compute it in half of the products, see `_Fused`.

    Source: Cohen & Welling 2016, arXiv 1602.07576, for mirrorings instead of rotations; Bökman,
    Nordström & Kahl 2025, arXiv 2502.05169, who save half of the products of other layers by sums
    and differences.
    """

    def __init__(self, channels_in: int, channels: int, *, stride: int = 1) -> None:
        super().__init__()
        self.stride, self.fused = stride, False
        self.weight = nn.Parameter(torch.zeros(channels // 2, channels_in, 3, 3))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)  # what nn.Conv2d does

    def filters(self) -> Float[Tensor, "d c 3 3"]:
        """All of them: those that are learned, then their mirror images."""
        mirrored = self.weight.flip(3).roll(self.weight.shape[1] // 2, dims=1)
        return torch.cat([self.weight, mirrored])

    def forward(self, input: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h2 w2"]:
        dtype = input.dtype
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
        known = dtype in (torch.float32, torch.bfloat16) and input.device.type == "cpu"
        if self.fused and self.training and known:
            weight = self.weight.to(dtype)
            back = blocks(transposed(weight.detach())) if self.stride == 1 else None
            return _Fused.apply(input.to(dtype), blocks(weight), back, self.stride)
        return F.conv2d(input, self.filters(), stride=self.stride, padding=1)


def fits(channels_in: int, channels: int) -> bool:
    """Whether the compiled functions are fast for a convolution of so many channels."""
    return channels_in % TWO_VECTORS == 0 and channels % TWO_VECTORS == 0


def blocks(weight: Float[Tensor, "d2 c 3 3"]) -> Float[Tensor, "d k 3 1"]:
    """The two blocks of the filters in the basis of sums and differences of the halves; k = 3c / 2.

    There the filters of sums for sums and of differences for differences are alike on the left and
    the right, and those between the two are opposite. With the columns on the left and the right
    as sum and difference as well, all products outside of two blocks are with zero. The first
    makes sums of the first three parts of `spread` (mirror.cpp), the second makes differences of
    the other three. The bases are orthonormal, so gradients change theirs in the same way.
    """
    one, other = weight.chunk(2, dim=1)
    (l_s, m_s, r_s), (l_a, m_a, r_a) = (one + other).unbind(3), (one - other).unbind(3)
    root = 0.5**0.5
    sums = torch.cat([m_s, root * (l_s + r_s), root * (r_a - l_a)], dim=1)
    differences = torch.cat([m_a, root * (l_a + r_a), root * (r_s - l_s)], dim=1)
    return torch.cat([sums, differences]).unsqueeze(3)


def transposed(weight: Float[Tensor, "d2 c 3 3"]) -> Float[Tensor, "c2 d 3 3"]:
    """The filters of the convolution that takes gradients by what comes out to what goes in."""
    one, other = weight.chunk(2, dim=1)
    return torch.cat([one, other.flip(3)]).flip(2, 3).transpose(0, 1)


class _Fused(torch.autograd.Function):
    """The convolution of channels-last pictures from its `blocks`; mirror.cpp does the rest.

    Args:
        back: the `blocks` of its `transposed` filters; None with a stride. Without one, the
            gradient by the pictures is the convolution with them, which is faster than oneDNN's
            backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Float[Tensor, "n c h w"],
        weight: Float[Tensor, "d k 3 1"],
        back: Float[Tensor, "c l 3 1"] | None,
        stride: int,
    ) -> Float[Tensor, "n d h2 w2"]:
        x = x.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(x, weight, back)
        ctx.stride = stride
        return _convolved(x, weight, stride)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, gradient: Float[Tensor, "n d h2 w2"]
    ) -> tuple[Tensor, Tensor, None, None]:
        x, weight, back = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        parts = _spread(x, ctx.stride)  # made anew: they are three times as large as x
        turned = _turned(gradient)
        stride, padding = (ctx.stride, 1), (1, 0)
        by_weight = conv2d_weight(parts, weight.shape, turned, stride, padding, groups=2)
        if back is not None:
            return _convolved(gradient, back, 1), by_weight, None, None
        by_parts = conv2d_input(parts.shape, weight, turned, stride, padding, groups=2)
        return _gathered(by_parts, x.shape, ctx.stride), by_weight, None, None


def _convolved(
    x: Float[Tensor, "n c h w"], weight: Float[Tensor, "d k 3 1"], stride: int
) -> Float[Tensor, "n d h2 w2"]:
    out = F.conv2d(_spread(x, stride), weight, None, (stride, 1), (1, 0), groups=2)
    return _turned_back(out, len(x))


def _spread(x: Float[Tensor, "n c h w"], step: int) -> Float[Tensor, "strips c3 h w2"]:
    n, c, h, w = x.shape
    beside = _beside(n)
    parts = _empty(x, n // beside, 3 * c, h, beside * -(-w // step))
    return _call("spread", x, parts, x.shape, step)


def _gathered(
    parts: Float[Tensor, "strips c3 h w2"], shape: torch.Size, step: int
) -> Float[Tensor, "n c h w"]:
    parts = parts.contiguous(memory_format=torch.channels_last)
    return _call("gather", parts, _empty(parts, *shape), shape, step)


def _turned(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "strips c h w2"]:
    n, c, h, w = x.shape
    beside = _beside(n)
    return _call("turn", x, _empty(x, n // beside, c, h, beside * w), x.shape, True)


def _turned_back(x: Float[Tensor, "strips c h w2"], n: int) -> Float[Tensor, "n c h w"]:
    pictures = _empty(x, n, *x.shape[1:3], x.numel() // (n * x.shape[1] * x.shape[2]))
    return _call("turn", x, pictures, pictures.shape, False)


def _beside(n: int) -> int:
    """How many of n pictures lie side by side in a strip.

    oneDNN takes the products of one row at a time, and a row of a small picture is short. Where no
    such number divides n, each picture has a strip of its own: right, and slower.
    """
    return next(count for count in range(min(n, STRIP), 0, -1) if n % count == 0)


def _empty(like: Tensor, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, memory_format=torch.channels_last)


def _call(name: str, x: Tensor, to: Tensor, shape: torch.Size, how: int) -> Tensor:
    """Fill `to` from `x`, one of which holds pictures of that shape.

    Args:
        how: step of the columns; of "turn" whether it goes into strips.
    """
    n, c, h, w = shape
    function = getattr(library("mirror.cpp"), f"{name}_{str(x.dtype).removeprefix('torch.')}")
    pointers = (ctypes.c_void_p(array.data_ptr()) for array in (x, to))
    function(*pointers, n, _beside(n), h, w, c // 2, how, torch.get_num_threads())
    return to
