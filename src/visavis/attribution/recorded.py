"""Record the attention weights of any model during a forward pass, without changing the model.

Libraries call fused kernels that return no weights. For the length of one pass the written-out
product takes their place, which gives the same logits, and its softmax is recorded.
"""

import contextlib
import inspect
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

_FUSED = F.scaled_dot_product_attention
_MULTI_HEAD = F.multi_head_attention_forward
_SOFTMAX = (F.softmax, torch.softmax, Tensor.softmax)
_ONE_AT_A_TIME = threading.RLock()


class RecordedAttention(TorchFunctionMode):
    """Within this context, the weights of every attention are kept.

    It covers `scaled_dot_product_attention`, `nn.MultiheadAttention`, which hides its call of it,
    and attention that is written out with a softmax over square matrices, whose heads have an axis
    of their own or are part of the batch. It applies to the current thread alone.

    Args:
        n: images in the pass.

    Source: Vaswani et al. 2017, equation 1.
    """

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n
        self.weights: list[Tensor] = []
        """Of each call, in order; part of the graph that the logits come from."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Called for every function of torch inside the `with` block."""
        kwargs = kwargs or {}
        if function is _FUSED:
            return self._attend(*args, **kwargs)
        if function is _MULTI_HEAD:
            return self._multi_head(*args, **kwargs)
        result = function(*args, **kwargs)
        if function not in _SOFTMAX or result.ndim < 3 or result.shape[-2] != result.shape[-1]:
            return result
        if result.ndim == 3 and len(result) % self.n == 0:
            self.weights.append(result.unflatten(0, (self.n, -1)))
            return self.weights[-1].flatten(0, 1)  # what comes after depends on what is kept
        if result.ndim == 4:
            self.weights.append(result)
        return result

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
    ) -> Tensor:
        """`scaled_dot_product_attention` in evaluation mode, where nothing is dropped out."""
        scores = query @ key.mT * (query.shape[-1] ** -0.5 if scale is None else scale)
        if is_causal:
            attn_mask = torch.ones_like(scores, dtype=torch.bool).tril()
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            scores = scores.masked_fill(~attn_mask, -torch.inf)
        elif attn_mask is not None:
            scores = scores + attn_mask
        self.weights.append(scores.softmax(dim=-1))
        return self.weights[-1] @ value

    def _multi_head(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        """`multi_head_attention_forward`, with this class's product in place of the fused one."""
        given = inspect.signature(_MULTI_HEAD).bind(*args, **kwargs).arguments
        with _in_place_of_fused(self._attend):
            output, _ = _MULTI_HEAD(**(given | {"need_weights": False}))
        if not given.get("need_weights", True):
            return output, None
        weights = self.weights[-1]
        return output, weights.mean(dim=1) if given.get("average_attn_weights", True) else weights


@contextlib.contextmanager
def _in_place_of_fused(attend: Callable[..., Tensor]) -> Iterator[None]:
    """Inside, `multi_head_attention_forward` calls `attend`, which no mode could make it do.

    The name is global, so only one thread at a time puts its own there, and others pass through.
    """
    thread = threading.get_ident()

    def choose(*args: Any, **kwargs: Any) -> Tensor:
        return (attend if threading.get_ident() == thread else _FUSED)(*args, **kwargs)

    with _ONE_AT_A_TIME:
        F.scaled_dot_product_attention = choose
        try:
            yield
        finally:
            F.scaled_dot_product_attention = _FUSED
