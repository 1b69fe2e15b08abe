"""A 3x3 convolution that treats left and right alike; training it can take half of the products."""

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
            weight = blocks(self.weight).to(dtype)
            back = None
            if self.stride == 1:
                back = blocks(transposed(self.weight.detach())).to(dtype)
            return _Fused.apply(input.to(dtype), weight, back, self.stride)
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
        stride, padding = (ctx.stride, 1), (1, 0)
        by_weight = torch.zeros(weight.shape)
        by_x = _empty(x, *x.shape) if back is None else _convolved(gradient, back, 1)
        for strip in _strips(len(x)):
            parts = _spread(x[strip], ctx.stride)  # made anew: they are three times as large as x
            pictures, channels, rows, columns = gradient[strip].shape
            turned = _empty(x, 1, channels, rows, pictures * columns)
            _call("turn", gradient[strip], turned, gradient[strip].shape, True)
            by_weight += conv2d_weight(parts, weight.shape, turned, stride, padding, groups=2)
            if back is None:
                by_parts = conv2d_input(parts.shape, weight, turned, stride, padding, groups=2)
                by_parts = by_parts.contiguous(memory_format=torch.channels_last)
                _call("gather", by_parts, by_x[strip], x[strip].shape, ctx.stride)
        return by_x, by_weight.to(weight.dtype), None, None


def _convolved(
    x: Float[Tensor, "n c h w"], weight: Float[Tensor, "d k 3 1"], stride: int
) -> Float[Tensor, "n d h2 w2"]:
    n, _, h, w = x.shape
    out = _empty(x, n, len(weight), -(-h // stride), -(-w // stride))
    for strip in _strips(n):
        parts = _spread(x[strip], stride)
        turned = F.conv2d(parts, weight, None, (stride, 1), (1, 0), groups=2)
        turned = turned.contiguous(memory_format=torch.channels_last)
        _call("turn", turned, out[strip], out[strip].shape, False)
    return out


def _spread(x: Float[Tensor, "n c h w"], step: int) -> Float[Tensor, "1 c3 h nw2"]:
    n, c, h, w = x.shape
    parts = _empty(x, 1, 3 * c, h, n * -(-w // step))
    _call("spread", x, parts, x.shape, step)
    return parts


def _strips(n: int) -> list[slice]:
    """Pictures that lie side by side while their products are taken.

    oneDNN takes the products of one row at a time, and a row of a small picture is short. All
    pictures of a batch in one strip would be more than a processor's cache holds.
    """
    return [slice(start, min(start + STRIP, n)) for start in range(0, n, STRIP)]


def _empty(like: Tensor, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, memory_format=torch.channels_last)


def _call(name: str, x: Tensor, to: Tensor, shape: torch.Size, how: int) -> None:
    """Fill `to` from `x`, one of which holds pictures of that shape.

    Args:
        how: step of the columns; of "turn" whether it goes into the strip.
    """
    n, c, h, w = shape
    function = getattr(library("mirror.cpp"), f"{name}_{str(x.dtype).removeprefix('torch.')}")
    pointers = (ctypes.c_void_p(array.data_ptr()) for array in (x, to))
    function(*pointers, n, h, w, c // 2, how, torch.get_num_threads())
