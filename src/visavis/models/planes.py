"""What stands between the products of the ViT's blocks in a training step on a CPU with AVX-512.

Between products tokens lie in two planes, the sums of all pairs of channels and the differences of
all, see `PairedLinear`. Layer norm and GELU are one call each, and so is the adding of a branch to
its tokens, with the norm that follows it inside of a block (docs/benchmarks.md has the times).
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from visavis.models.compiled import VECTOR, Source, call
from visavis.models.linear import PairedLinear

SOURCE: Source = "planes.cpp"


def normed(
    tokens: Float[Tensor, "n t width"],
    weight: Float[Tensor, " width"],
    bias: Float[Tensor, " width"],
) -> tuple[Float[Tensor, "2 nt half"], Float[Tensor, "n t width"]]:
    """Layer norm, with PyTorch's usual epsilon, and the tokens as they were.

    Whoever goes on with these tokens spares a call that adds up two gradients by the tokens.

    Args:
        tokens: of a multiple of 32 channels, bf16 or float32, on a CPU, as everywhere here.

    Raises:
        EnvironmentFault: planes.cpp cannot be compiled; likewise below.
        ValueError: other channels; likewise below.
    """
    return _Normed.apply(tokens.contiguous(), weight.float(), bias.float())


def product(
    planes: Float[Tensor, "2 nt half_in"], layer: PairedLinear
) -> Float[Tensor, "2 nt half"]:
    """A layer without its bias."""
    return planes @ layer.weight.to(planes.dtype).mT


def activated(
    planes: Float[Tensor, "2 nt half"], bias: Float[Tensor, " width"]
) -> Float[Tensor, "2 nt half"]:
    """GELU of the channels with their biases."""
    return _Activated.apply(planes.contiguous(), bias.float())


def added(
    planes: Float[Tensor, "2 nt half"],
    bias: Float[Tensor, " width"],
    tokens: Float[Tensor, "n t width"],
) -> Float[Tensor, "n t width"]:
    """The tokens, with what is in the planes and the biases added to them.

    Raises:
        ValueError: other numbers in the planes than in the tokens.
    """
    return _Added.apply(*_alike(planes, tokens), bias.float())


def added_normed(
    planes: Float[Tensor, "2 nt half"],
    added_bias: Float[Tensor, " width"],
    tokens: Float[Tensor, "n t width"],
    weight: Float[Tensor, " width"],
    bias: Float[Tensor, " width"],
) -> tuple[Float[Tensor, "2 nt half"], Float[Tensor, "n t width"]]:
    """What `added` returns, after layer norm and as it is.

    Raises:
        ValueError: other numbers in the planes than in the tokens.
    """
    biases = (added_bias.float(), weight.float(), bias.float())
    return _AddedNormed.apply(*_alike(planes, tokens), *biases)


def _alike(planes: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    n, t, width = tokens.shape
    if (planes.dtype, *planes.shape) != (tokens.dtype, 2, n * t, width // 2):
        raise ValueError(f"{planes.dtype}, {planes.shape} for {tokens.dtype}, {tokens.shape}")
    return planes.contiguous(), tokens.contiguous()


class _Normed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tokens: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        n, t, width = tokens.shape
        planes = tokens.new_empty(2, n * t, width // 2)
        moments = weight.new_empty(n * t, 2)
        _call("norm", tokens, weight, bias, planes, moments, of=planes)
        ctx.save_for_backward(tokens, weight, moments)
        return planes, tokens

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_planes: Tensor, more: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        tokens, weight, moments = ctx.saved_tensors
        by_tokens, sums = torch.empty_like(tokens), weight.new_empty(2, len(weight))
        by = (by_planes.contiguous(), more.contiguous())
        _call("norm_back", tokens, weight, moments, *by, by_tokens, sums, of=by_planes)
        return by_tokens, sums[0], sums[1]


class _Activated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, planes: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(planes, bias)
        activated = torch.empty_like(planes)
        _call("activate", planes, bias, activated, of=planes)
        return activated

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        planes, bias = ctx.saved_tensors
        by_planes, by_bias = torch.empty_like(planes), torch.empty_like(bias)
        arrays = (planes, bias, gradient.contiguous(), by_planes, by_bias)
        _call("activate_back", *arrays, of=planes)
        return by_planes, by_bias


class _Added(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, planes: Tensor, tokens: Tensor, bias: Tensor) -> Tensor:
        ctx.shape = planes.shape
        total = torch.empty_like(tokens)
        _call("add_planes", planes, bias, tokens, total, of=planes)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        gradient = gradient.contiguous()
        by_planes = gradient.new_empty(ctx.shape)
        by_bias = gradient.new_empty(gradient.shape[2], dtype=torch.float32)
        _call("add_planes_back", gradient, by_planes, by_bias, of=by_planes)
        return by_planes, gradient, by_bias


class _AddedNormed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, planes: Tensor, tokens: Tensor, added: Tensor, weight: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        total, normed = torch.empty_like(tokens), torch.empty_like(planes)
        moments = weight.new_empty(planes.shape[1], 2)
        arrays = (planes, added, tokens, weight, bias, total, normed, moments)
        _call("add_norm", *arrays, of=planes)
        ctx.save_for_backward(total, weight, moments)
        return normed, total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_normed: Tensor, more: Tensor) -> tuple[Tensor, ...]:
        total, weight, moments = ctx.saved_tensors
        by_tokens, by_planes = torch.empty_like(total), total.new_empty(by_normed.shape)
        sums = weight.new_empty(3, len(weight))
        by = (by_normed.contiguous(), more.contiguous())
        arrays = (total, weight, moments, *by, by_tokens, by_planes, sums)
        _call("add_norm_back", *arrays, of=by_planes)
        return by_planes, by_tokens, sums[2], sums[0], sums[1]


def _call(name: str, *arrays: Tensor, of: Tensor) -> None:
    """Call with the sizes of the planes `of`."""
    if of.shape[2] % VECTOR:
        raise ValueError(f"{2 * of.shape[2]} channels are no multiple of {2 * VECTOR}")
    call(SOURCE, name, *arrays, sizes=(of.shape[1], of.shape[2]))
