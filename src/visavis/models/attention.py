"""Attention of a training step on a CPU with AVX-512, compiled here, with its gradient.

Written out in PyTorch, a step makes, copies and casts the t x t arrays of every head and picture
several times over; here they never leave the processor's cache. docs/benchmarks.md has the times.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from visavis.models.compiled import VECTOR, call, type_of

HEAD_SIZE = VECTOR
"""The one length of a head that the kernel is written for."""

CHUNKS = 16
"""Parts of the batch that threads take. A fixed number, so that sums have one order everywhere."""


def attend(
    qkv: Float[Tensor, "n t three_width"], bias: Float[Tensor, "heads t t"]
) -> Float[Tensor, "n t width"]:
    """What each token reads: softmax(q k^T / 4 + bias) v, heads beside one another.

    Args:
        qkv: queries, keys and values of the first half of the heads, and then of the second, each
            heads / 2 x HEAD_SIZE numbers; bf16 or float32, on a CPU.
        bias: row reads, column is read.

    Raises:
        EnvironmentFault: the kernel cannot be compiled.
        ValueError: heads of another size, an odd number of them, or another type.

    Source: Vaswani et al. 2017, equation 1; as in Dao et al. 2022 (FlashAttention, arXiv
    2205.14135), the weights are computed anew in the backward pass.
    """
    t, heads = qkv.shape[1], len(bias)
    fits = qkv.shape[2] == 3 * HEAD_SIZE * heads and bias.shape[1:] == (t, t) and heads % 2 == 0
    if not fits or type_of(qkv) is None:
        raise ValueError(
            f"not {heads} heads of {HEAD_SIZE} and a bias of {t} x {t} tokens on a CPU: "
            f"{tuple(qkv.shape)}, {tuple(bias.shape)}, {qkv.dtype}, {qkv.device}"
        )
    return _Attend.apply(qkv.contiguous(), bias.float().contiguous())


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv: Tensor, bias: Tensor) -> Tensor:
        n, t, three_width = qkv.shape
        read = qkv.new_empty(n, t, three_width // 3)
        softmax = bias.new_empty(n, len(bias), t, 2)
        sizes = (n, t, len(bias), CHUNKS)
        call("attention.cpp", "forward", qkv, bias, read, softmax, sizes=sizes)
        ctx.save_for_backward(qkv, bias, softmax)
        return read

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        qkv, bias, softmax = ctx.saved_tensors
        by_qkv, by_bias = torch.empty_like(qkv), bias.new_empty(CHUNKS, *bias.shape)
        sizes = (len(qkv), qkv.shape[1], len(bias), CHUNKS)
        arrays = (qkv, bias, softmax, gradient.contiguous(), by_qkv, by_bias)
        call("attention.cpp", "backward", *arrays, sizes=sizes)
        return by_qkv, by_bias.sum(dim=0)
