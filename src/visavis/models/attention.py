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
    qkv: Float[Tensor, "2 nt three_half"],
    added: Float[Tensor, " three_width"],
    bias: Float[Tensor, "heads r t"],
) -> Float[Tensor, "2 nr half"]:
    """What each token reads: softmax(q k^T / 4 + bias) v.

    Args:
        qkv: queries, keys and values, each heads / 2 x HEAD_SIZE numbers: the sums of the first
            half of the heads and the second, and the differences, see `PairedLinear`; of all tokens
            of one picture after another. bf16 or float32, on a CPU.
        added: to the queries, keys and values of the first half of the heads, and of the second.
        bias: row reads, column is read. The first r of each picture's t tokens read.

    Returns:
        Sums and differences as well, heads beside one another.

    Raises:
        EnvironmentFault: the kernel cannot be compiled.
        ValueError: heads of another size, an odd number of them, or another type.

    Source: Vaswani et al. 2017, equation 1; as in Dao et al. 2022 (FlashAttention, arXiv
    2205.14135), the weights are computed anew in the backward pass.
    """
    heads, readers, t = bias.shape
    fits = 2 * qkv.shape[2] == len(added) == 3 * HEAD_SIZE * heads and heads % 2 == 0
    whole = len(qkv) == 2 and qkv.shape[1] % t == 0 and readers <= t
    if not (fits and whole) or type_of(qkv) is None:
        raise ValueError(
            f"not {heads} heads of {HEAD_SIZE} and a bias of {readers} x {t} tokens on a CPU: "
            f"{tuple(qkv.shape)}, {tuple(bias.shape)}, {qkv.dtype}, {qkv.device}"
        )
    return _Attend.apply(qkv.contiguous(), added.float(), bias.float().contiguous())


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv: Tensor, added: Tensor, bias: Tensor) -> Tensor:
        heads, readers, t = bias.shape
        n = qkv.shape[1] // t
        read = qkv.new_empty(2, n * readers, qkv.shape[2] // 3)
        softmax = bias.new_empty(n, heads, 2, readers)
        sizes = (n, t, readers, heads, CHUNKS)
        call("attention.cpp", "forward", qkv, added, bias, read, softmax, sizes=sizes)
        ctx.save_for_backward(qkv, added, bias, softmax)
        return read

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        qkv, added, bias, softmax = ctx.saved_tensors
        by_qkv = torch.empty_like(qkv)
        by_added, by_bias = (x.new_empty(CHUNKS, *x.shape) for x in (added, bias))
        sizes = (len(softmax), bias.shape[2], bias.shape[1], len(bias), CHUNKS)
        arrays = (qkv, added, bias, softmax, gradient.contiguous(), by_qkv, by_added, by_bias)
        call("attention.cpp", "backward", *arrays, sizes=sizes)
        return by_qkv, by_added.sum(dim=0), by_bias.sum(dim=0)
