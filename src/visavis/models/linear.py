"""A linear layer that treats left and right alike; training it can take half of the products."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from visavis.models.compiled import call, type_of


class PairedLinear(nn.Module):
    """Its channels come in mirrored pairs, those of the first half with those of the second.

    The second half reads as the first does, with the halves of what it reads exchanged. So where
    the tokens of a mirrored picture are the mirrored ones, with their halves exchanged, what comes
    out is so too, but for the biases; and half of the weights are learned.

    In sums (p + q) / sqrt 2 and differences (p - q) / sqrt 2 of a pair of channels p, q sums are
    made of sums, and differences of differences. These two blocks are what is learned: the weights
    in another orthonormal basis, as in `Convolution`.

    Attributes:
        weight: the block of the sums and that of the differences.
        fused: let training steps on a CPU compute it in half of the products.

    Source: Bökman, Nordström & Kahl 2025, arXiv 2502.05169.
    """

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.fused = False
        blocks = torch.empty(2, width // 2, width_in // 2)
        self.weight = nn.Parameter(nn.init.trunc_normal_(blocks, std=blocks.shape[2] ** -0.5))
        self.bias = nn.Parameter(torch.zeros(width))

    def weights(self) -> Float[Tensor, "width width_in"]:
        """All of them, as `linear` takes them."""
        sums, differences = self.weight
        own, other = (sums + differences) / 2, (sums - differences) / 2
        return torch.cat([torch.cat([own, other], dim=1), torch.cat([other, own], dim=1)])

    def forward(self, tokens: Float[Tensor, "n t width_in"]) -> Float[Tensor, "n t width"]:
        if self.fused and self.training and (dtype := type_of(tokens)):
            return _Fused.apply(tokens.to(dtype), self.weight.to(dtype), self.bias.float())
        return F.linear(tokens, self.weights(), self.bias)


class _Fused(torch.autograd.Function):
    """The layer from its blocks; mirror.cpp parts the tokens and joins them again."""

    @staticmethod
    def forward(
        ctx: Any,
        tokens: Float[Tensor, "n t width_in"],
        weight: Float[Tensor, "2 r c"],
        bias: Float[Tensor, " width"],
    ) -> Float[Tensor, "n t width"]:
        planes = _part(tokens)
        ctx.save_for_backward(planes, weight)
        return _join(planes @ weight.mT, bias, tokens.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Float[Tensor, "n t width"]) -> tuple[Tensor, Tensor, Tensor]:
        planes, weight = ctx.saved_tensors
        parted = _part(gradient)
        by_tokens = _join(parted @ weight, None, gradient.shape)
        return by_tokens, parted.mT @ planes, gradient.sum(dim=(0, 1)).float()


def _part(tokens: Float[Tensor, "n t width"]) -> Float[Tensor, "2 nt half"]:
    n, t, width = tokens.shape
    planes = tokens.new_empty(2, n * t, width // 2)
    call("mirror.cpp", "part", tokens.contiguous(), planes, sizes=(n * t, width // 2))
    return planes


def _join(
    planes: Float[Tensor, "2 nt half"], bias: Float[Tensor, " width"] | None, shape: torch.Size
) -> Float[Tensor, "n t width"]:
    half = planes.shape[2]
    tokens = planes.new_empty(*shape[:2], 2 * half)
    planes = planes.contiguous()
    call("mirror.cpp", "join", planes, bias, tokens, sizes=(planes.shape[1], half))
    return tokens
