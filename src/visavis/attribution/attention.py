"""The ViT's attention: the weights themselves, rollout, and a class-specific map.

`scaled_dot_product_attention` keeps its weights to itself. So for the length of one forward pass it
is answered by the product written out, which yields the same logits, and keeps the softmax.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.overrides import TorchFunctionMode

from visavis.attribution.frozen import check_classes, frozen, gradients_of
from visavis.models.vit import ViT

Attention = Float[Tensor, "layers n heads t t"]
"""Row: the token that reads; column: the token that is read. Each row sums to 1."""


class RecordedAttention(TorchFunctionMode):
    """Within it, attention is written out and its weights are kept; for this thread alone.

    The model is not changed. Source: Vaswani et al. 2017, equation 1.
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


def attention_weights(model: ViT, images: Float[Tensor, "n 3 32 32"]) -> Attention:
    """The attention of every block and head."""
    with frozen(model), torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        with RecordedAttention() as recorded:
            model(images)
        return torch.stack(_one_per_block(model, recorded.weights))


def class_attention(weights: Attention) -> Float[Tensor, "layers n heads g g"]:
    """How much the class token reads from each patch. A map's sum is 1 less what it reads itself.

    Knows no class: the map is the same whatever class is asked about.
    """
    return _on_grid(weights[..., 0, 1:])


def rollout(weights: Attention) -> Float[Tensor, "n g g"]:
    """Attention passed on through all blocks: the class token's share of each patch.

    Per block, the heads' mean, half of it replaced by the identity for the residual path, rows
    summing to 1; then the product over all blocks. Knows no class.

    Source: Abnar & Zuidema 2020, section 3 (attention rollout).
    """
    identity = torch.eye(weights.shape[-1], device=weights.device)
    flow = identity.expand(weights.shape[1], -1, -1)
    for layer in weights.mean(dim=2):
        passed = 0.5 * layer + 0.5 * identity
        flow = passed / passed.sum(dim=-1, keepdim=True) @ flow
    return _on_grid(flow[:, 0, 1:])


def gradient_attention(
    model: ViT, images: Float[Tensor, "n 3 32 32"], classes: Int[Tensor, " n"]
) -> Float[Tensor, "n g g"]:
    """Attention that speaks for a class: each block's weights times the gradient of its logit.

    R starts as the identity; each block adds E_h[(dA * A)+] R, with A the weights, dA the gradient
    of the class's logit with respect to them, and E_h the mean over heads. The class token's row
    of R is the map.

    Args:
        classes: the class whose logit is explained, one for each image.

    Returns:
        0 or more, in units of the logit.

    Raises:
        ValueError: a class out of range.

    Source: Chefer, Gur & Wolf 2021 (ICCV, arXiv 2103.15679), the case of self-attention alone.
    """
    check_classes(model, images, classes)
    with frozen(model), gradients_of(images) as inputs:
        with RecordedAttention() as recorded:
            logits = model(inputs)
        weights = _one_per_block(model, recorded.weights)
        gradients = torch.autograd.grad(logits.gather(1, classes.clone()[:, None]).sum(), weights)
    relevance = torch.eye(weights[0].shape[-1], device=images.device).repeat(len(images), 1, 1)
    for weight, gradient in zip(weights, gradients, strict=True):
        spoken_for = (gradient * weight.detach()).clamp(min=0).mean(dim=1)
        relevance = relevance + spoken_for @ relevance
    return _on_grid(relevance[:, 0, 1:])


def _one_per_block(model: ViT, weights: list[Tensor]) -> list[Tensor]:
    """The recorded weights, first block to last.

    Raises:
        RuntimeError: the pass did not go through each block once.
    """
    if len(weights) != len(model.blocks):
        raise RuntimeError(
            f"the forward pass computed attention {len(weights)} times in {len(model.blocks)} "
            "blocks: a map of these would not explain the model's prediction"
        )
    return weights


def _on_grid(patches: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch g g"]:
    side = int(patches.shape[-1] ** 0.5)
    return patches.unflatten(-1, (side, side))
