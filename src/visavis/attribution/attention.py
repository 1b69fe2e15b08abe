"""The ViT's attention: the weights themselves, rollout, and gradient-weighted attention.

`scaled_dot_product_attention` does not return its weights. For the length of one forward pass the
written-out product takes its place, which gives the same logits, and its softmax is recorded.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.overrides import TorchFunctionMode

from visavis.attribution.frozen import frozen, with_gradient
from visavis.data.batches import Images, Targets
from visavis.models.vit import ViT

Attention = Float[Tensor, "layers n heads t t"]
"""Row: the token that attends; column: the token attended to. Each row sums to 1."""


class RecordedAttention(TorchFunctionMode):
    """Within this context, attention is written out and its weights are recorded.

    It applies to the current thread alone, and the model is not changed.

    Source: Vaswani et al. 2017, equation 1.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[Float[Tensor, "n heads t t"]] = []
        """Of each call, in order; part of the graph that the logits come from."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Called for every function of torch inside the `with` block."""
        if function is F.scaled_dot_product_attention:
            query, key, value = args
            scores = query @ key.mT * query.shape[-1] ** -0.5
            self.weights.append(scores.softmax(dim=-1))
            return self.weights[-1] @ value
        return function(*args, **(kwargs or {}))


def attention_weights(model: ViT, images: Images) -> Attention:
    """The attention of every block and head."""
    with frozen(model), torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        return torch.stack(_forward(model, images)[1])


def class_attention(weights: Attention) -> Float[Tensor, "layers n heads g g"]:
    """The class token's attention to each patch. It does not depend on the target class.

    A map's sum is 1 minus the class token's attention to itself.
    """
    return _on_grid(weights[..., 0, 1:])


def rollout(weights: Attention) -> Float[Tensor, "n g g"]:
    """Attention from the class token to each patch, propagated through all blocks.

    Per block, the mean over heads is averaged with the identity, for the residual path, and its
    rows are normalised to 1; the map is the product over all blocks. It does not depend on the
    target class.

    Source: Abnar & Zuidema 2020, section 3 (attention rollout).
    """
    identity = torch.eye(weights.shape[-1], device=weights.device)
    flow = identity.expand(weights.shape[1], -1, -1)
    for layer in weights.mean(dim=2):
        passed = 0.5 * layer + 0.5 * identity
        flow = passed / passed.sum(dim=-1, keepdim=True) @ flow
    return _on_grid(flow[:, 0, 1:])


def gradient_attention(model: ViT, images: Images, targets: Targets) -> Float[Tensor, "n g g"]:
    """Class-specific attention: each block's weights times the gradient of the target's logit.

    R starts as the identity; each block adds E_h[(dA * A)+] R, with A the weights, dA the gradient
    of the target's logit with respect to them, and E_h the mean over heads. The class token's row
    of R is the map.

    Returns:
        0 or more, in units of the logit.

    Source: Chefer, Gur & Wolf 2021 (ICCV, arXiv 2103.15679), the case of self-attention alone.
    """
    with frozen(model), with_gradient(images) as inputs:
        logits, weights = _forward(model, inputs)
        gradients = torch.autograd.grad(logits.gather(1, targets.clone()[:, None]).sum(), weights)
    relevance = torch.eye(weights[0].shape[-1], device=images.device).repeat(len(images), 1, 1)
    for weight, gradient in zip(weights, gradients, strict=True):
        positive = (gradient * weight.detach()).clamp(min=0).mean(dim=1)
        relevance = relevance + positive @ relevance
    return _on_grid(relevance[:, 0, 1:])


def _forward(model: ViT, images: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The logits, and each block's attention weights, first block to last.

    Raises:
        RuntimeError: the pass did not compute attention once per block.
    """
    with RecordedAttention() as recorded:
        logits = model(images)
    if len(recorded.weights) != len(model.blocks):
        raise RuntimeError(
            f"the forward pass computed attention {len(recorded.weights)} times in "
            f"{len(model.blocks)} blocks: a map of these would not explain the model's prediction"
        )
    return logits, recorded.weights


def _on_grid(patches: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch g g"]:
    side = int(patches.shape[-1] ** 0.5)
    return patches.unflatten(-1, (side, side))
