"""A 3x3 convolution that treats left and right alike; training it can take half of the products."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_weight

from visavis.models import winograd
from visavis.models.compiled import VECTOR, call, empty, type_of


class Convolution(nn.Module):
    """3x3, zeros around the picture, no bias; its filters come in mirrored pairs.

    Channel i of the second half has the filter of channel i of the first half, mirrored, and the
    halves of its inputs exchanged. So a mirrored picture gives the mirrored channels, with the
    halves exchanged, but where a stride takes other pixels; and half of the filters are learned.

    In sums s = (p + q) / sqrt 2 and differences a = (p - q) / sqrt 2 of a pair of channels p, q the
    filters of sums for sums and of differences for differences are alike on the left and the right,
    and those between the two are opposite. With their left and right columns l, r as sum and
    difference as well, all products outside of two blocks are with zero:

        s out of    middle of s    (l + r) / sqrt 2 of s    (r - l) / sqrt 2 of a
        a out of    middle of a    (l + r) / sqrt 2 of a    (r - l) / sqrt 2 of s

    The two blocks are what is learned. They are the filters in another orthonormal basis, so that
    decay and Muon mean the same in it.

    Attributes:
        weight: the two blocks; each row has the three parts above, each of them the channels, each
            of these its three rows.
        fused: let training steps on a CPU compute it in half of the products or fewer, see `_Fused`
            and `_Winograd`.

    Source: Cohen & Welling 2016, arXiv 1602.07576, for mirrorings instead of rotations; Bökman,
    Nordström & Kahl 2025, arXiv 2502.05169, who save half of the products of other layers by sums
    and differences.
    """

    weight: Float[Tensor, "2 d2 k"]

    def __init__(self, channels_in: int, channels: int, *, stride: int = 1) -> None:
        super().__init__()
        self.stride, self.fused = stride, False
        half_in, half = channels_in // 2, channels // 2
        blocks = torch.zeros(2, half, 3, half_in, 3)
        nn.init.uniform_(blocks, -1, 1).div_((9 * half_in) ** 0.5)  # as nn.Conv2d does
        # Pass on what can be passed on, so that the first steps of a training see the picture.
        passed = torch.arange(min(half_in, half))
        blocks[:, passed] = 0
        blocks[:, passed, 0, passed, 1] = 1
        self.weight = nn.Parameter(blocks.flatten(2))

    @property
    def fits(self) -> bool:
        """Whether the compiled functions take so many channels, and are fast at them."""
        _, half, columns = self.weight.shape
        return half % VECTOR == 0 and columns // 9 % VECTOR == 0

    def filters(self) -> Float[Tensor, "d c 3 3"]:
        """All of them, as `conv2d` takes them."""
        for_s, for_a = self.weight.unflatten(2, (3, -1, 3))
        (middle_s, even_s, odd_a), (middle_a, even_a, odd_s) = for_s.unbind(1), for_a.unbind(1)
        root = 0.5**0.5
        of_s = torch.stack([root * (even_s - odd_s), middle_s, root * (even_s + odd_s)], dim=3)
        of_a = torch.stack([root * (even_a - odd_a), middle_a, root * (even_a + odd_a)], dim=3)
        one, other = (of_s + of_a) / 2, (of_s - of_a) / 2
        first = torch.cat([one, other], dim=1)
        return torch.cat([first, torch.cat([other, one], dim=1).flip(3)])

    def forward(self, input: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h2 w2"]:
        if self.fused and self.training and (dtype := type_of(input)):
            if dtype == torch.float32 and self.stride == 1:
                return _Winograd.apply(input, self.weight.float())
            weight = self.weight.to(dtype)
            back = _as_filters(transposed(weight.detach())) if self.stride == 1 else None
            return _Fused.apply(input.to(dtype), _as_filters(weight), back, self.stride)
        return F.conv2d(input, self.filters(), stride=self.stride, padding=1)


def transposed(weight: Float[Tensor, "2 d2 k"]) -> Float[Tensor, "2 c2 l"]:
    """The blocks of the convolution that takes gradients by what comes out to what goes in.

    Its filters are turned by 180 degrees, so r - l changes its sign, and leads from sums to
    differences where it led from differences to sums.
    """
    parts = weight.unflatten(2, (3, -1, 3)).flip(4)
    alike, opposite = parts.split([2, 1], dim=2)
    return torch.cat([alike, -opposite.flip(0)], dim=2).transpose(1, 3).flatten(2)


def _as_filters(weight: Float[Tensor, "2 d2 k"]) -> Float[Tensor, "d k3 3 1"]:
    """One block for each half of the channels of a convolution in two groups."""
    return weight.flatten(0, 1).unflatten(1, (-1, 3)).unsqueeze(3)


class _Winograd(torch.autograd.Function):
    """The convolution of channels-last pictures from its blocks, without a stride, in float32."""

    @staticmethod
    def forward(
        ctx: Any, x: Float[Tensor, "n c h w"], weight: Float[Tensor, "2 d2 k"]
    ) -> Float[Tensor, "n d h w"]:
        x = x.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(x, weight)
        return winograd.convolved(x, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Float[Tensor, "n d h w"]) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        by_x = winograd.convolved(gradient, transposed(weight))
        return by_x, winograd.by_weight(x, gradient)


class _Fused(torch.autograd.Function):
    """The convolution of channels-last pictures from its blocks; mirror.cpp does the rest.

    Args:
        back: the `transposed` blocks; None with a stride. Without one, the gradient by the pictures
            is the convolution with them, which is faster than oneDNN's backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Float[Tensor, "n c h w"],
        weight: Float[Tensor, "d k3 3 1"],
        back: Float[Tensor, "c l3 3 1"] | None,
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
        pictures, channels, rows, columns = gradient.shape
        turned = empty(x, 1, channels, rows, pictures * columns)
        _call("turn", gradient, turned, gradient.shape, True)
        parts = _spread(x, ctx.stride)  # made anew: they are three times as large as x
        if x.dtype == torch.float32 and ctx.stride == 2:
            by_weight = _by_weight(parts, turned)
        else:
            by_weight = conv2d_weight(parts, weight.shape, turned, stride, padding, groups=2)
        if back is not None:
            return _convolved(gradient, back, 1), by_weight, None, None
        # Two to four times as fast as conv2d_input, whose result does not lie channels-last.
        below = (parts.shape[2] + 1) % 2  # a row that only the bottom of a filter reads
        by_parts = F.conv_transpose2d(turned, weight, None, stride, padding, (below, 0), groups=2)
        by_parts = by_parts.contiguous(memory_format=torch.channels_last)
        by_x = empty(x, *x.shape)
        _call("gather", by_parts, by_x, x.shape, ctx.stride)
        return by_x, by_weight, None, None


def _by_weight(
    parts: Float[Tensor, "1 k6 h m"], gradient: Float[Tensor, "1 d h2 m"]
) -> Float[Tensor, "d k3 3 1"]:
    """The gradient by the blocks with a stride of 2, a matrix product for each row of the filters.

    In float32 oneDNN takes a multiple of the time where it has two groups of channels; with bf16
    instructions it is as fast (docs/benchmarks.md).
    """
    inputs = parts[0].permute(1, 2, 0).unflatten(2, (2, -1))  # h m 2 k3
    outputs = gradient[0].permute(1, 2, 0).unflatten(2, (2, -1))  # h2 m 2 d/2
    of_rows = []
    for row in range(3):
        first = 1 if row == 0 else 0  # what comes out there read zeros above the picture
        read = inputs[row - 1 + 2 * first :: 2][: len(outputs) - first]
        made = outputs[first : first + len(read)]  # the rest read zeros below it
        of_rows.append(
            made.flatten(0, 1).permute(1, 2, 0) @ read.flatten(0, 1).transpose(0, 1)  # 2 d/2 k3
        )
    return torch.stack(of_rows, dim=3).flatten(0, 1).unsqueeze(3)


def _convolved(
    x: Float[Tensor, "n c h w"], weight: Float[Tensor, "d k3 3 1"], stride: int
) -> Float[Tensor, "n d h2 w2"]:
    n, _, h, w = x.shape
    turned = F.conv2d(_spread(x, stride), weight, None, (stride, 1), (1, 0), groups=2)
    turned = turned.contiguous(memory_format=torch.channels_last)
    out = empty(x, n, len(weight), -(-h // stride), -(-w // stride))
    _call("turn", turned, out, out.shape, False)
    return out


def _spread(x: Float[Tensor, "n c h w"], step: int) -> Float[Tensor, "1 c3 h nw2"]:
    """The parts of all pictures side by side.

    oneDNN takes the products of one row at a time, and a row of a small picture is short.
    """
    n, c, h, w = x.shape
    parts = empty(x, 1, 3 * c, h, n * -(-w // step))
    _call("spread", x, parts, x.shape, step)
    return parts


def _call(name: str, x: Tensor, to: Tensor, shape: torch.Size, how: int) -> None:
    """Fill `to` from `x`, one of which holds pictures of that shape.

    Args:
        how: step of the columns; of "turn" whether it goes into the strip.
    """
    n, c, h, w = shape
    call("mirror.cpp", name, x, to, sizes=(n, h, w, c // 2, how))
