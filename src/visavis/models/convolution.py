"""A 3x3 convolution whose weights get their gradient in one matrix product where that is faster."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.grad import conv2d_input

FEW_PIXELS, MANY_CHANNELS = 64, 128
"""Convolutions of at most and at least so many take the product."""


class Convolution(nn.Conv2d):
    """3x3, zeros around the picture, no bias.

    In bf16 on a CPU, oneDNN's weight gradient goes through all weights once for each picture. One
    product over all pixels of the batch is faster where pixels are few and channels many, for nine
    times the memory of what was convolved (docs/benchmarks.md has the times).
    """

    def __init__(self, channels_in: int, channels: int, *, stride: int = 1) -> None:
        super().__init__(channels_in, channels, 3, stride=stride, padding=1, bias=False)

    def forward(self, input: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h2 w2"]:
        fits = input[0, 0].numel() <= FEW_PIXELS and self.in_channels >= MANY_CHANNELS
        learns = torch.is_grad_enabled() and self.weight.requires_grad
        if fits and learns and input.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            return _OneProduct.apply(input.to(dtype), self.weight.to(dtype), self.stride[0])
        return super().forward(input)


class _OneProduct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Float[Tensor, "n c h w"], weight: Float[Tensor, "d c 3 3"], stride: int
    ) -> Float[Tensor, "n d h2 w2"]:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return F.conv2d(x, weight, stride=stride, padding=1)

    @staticmethod
    def backward(ctx: Any, gradient: Float[Tensor, "n d h2 w2"]) -> tuple[Tensor, Tensor, None]:
        x, weight = ctx.saved_tensors
        by_input = conv2d_input(x.shape, weight, gradient, stride=ctx.stride, padding=1)
        return by_input, weight_gradient(x, gradient, stride=ctx.stride), None


def weight_gradient(
    x: Float[Tensor, "n c h w"], gradient: Float[Tensor, "n d h2 w2"], *, stride: int
) -> Float[Tensor, "d c 3 3"]:
    """The gradient of the weights of a 3x3 convolution with a border of zeros.

    Args:
        x: what was convolved.
        gradient: that of the loss by what came out.
    """
    n, channels, rows, columns = gradient.shape
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
    by_picture, by_row, by_column, by_channel = padded.stride()
    seen = padded.as_strided(  # what each output pixel saw
        (n, rows, columns, 3, 3, x.shape[1]),
        (by_picture, by_row * stride, by_column * stride, by_row, by_column, by_channel),
    ).reshape(n * rows * columns, -1)
    pixels = gradient.permute(0, 2, 3, 1).reshape(n * rows * columns, channels)
    return (pixels.T @ seen).view(channels, 3, 3, -1).permute(0, 3, 1, 2)
