"""What the ViT's attention says: the weights themselves, rollout, and a class-specific map.

The weights are seen by hooks on every block's softmax during the model's own forward pass, so they
are those that the answer was computed with. A pass that shows fewer or more blocks than the model
has is an error: a map that skips blocks cannot come out of here.
"""

import contextlib
from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from visavis.models.vit import ViT
from visavis.saliency.guard import check_classes, frozen, gradients_of

Attention = Float[Tensor, "layers n heads t t"]
"""Row: the token that reads; column: the token that is read. Each row sums to 1."""


def attention_weights(model: ViT, images: Float[Tensor, "n 3 32 32"]) -> Attention:
    """The attention of every block and head."""
    with frozen(model), torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        with _recorded(model) as seen:
            model(images)
        return torch.stack(_all_blocks(model, seen))


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
        classes: the class whose logit is explained, one for each picture.

    Returns:
        0 or more, in units of the logit.

    Raises:
        ValueError: a class out of range.

    Source: Chefer, Gur & Wolf 2021 (ICCV, arXiv 2103.15679), the case of self-attention alone.
    """
    check_classes(model, images, classes)
    with frozen(model), gradients_of(images) as inputs:
        with _recorded(model) as seen:
            logits = model(inputs)
        weights = _all_blocks(model, seen)
        gradients = torch.autograd.grad(logits.gather(1, classes.clone()[:, None]).sum(), weights)
    relevance = torch.eye(weights[0].shape[-1], device=images.device).repeat(len(images), 1, 1)
    for weight, gradient in zip(weights, gradients, strict=True):
        spoken_for = (gradient * weight.detach()).clamp(min=0).mean(dim=1)
        relevance = relevance + spoken_for @ relevance
    return _on_grid(relevance[:, 0, 1:])


@contextlib.contextmanager
def _recorded(model: ViT) -> Iterator[list[tuple[int, Tensor]]]:
    """Collect (block, softmax output) of the forward passes inside; hooks never outlive it."""
    seen: list[tuple[int, Tensor]] = []
    hooks = [
        model.get_submodule(f"blocks.{index}.attention.softmax").register_forward_hook(
            lambda _module, _inputs, output, index=index: seen.append((index, output))
        )
        for index in range(len(model.blocks))
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _all_blocks(model: ViT, seen: list[tuple[int, Tensor]]) -> list[Tensor]:
    """The recorded weights, first block to last.

    Raises:
        RuntimeError: the pass did not go through each block once, in order.
    """
    if [index for index, _ in seen] != list(range(len(model.blocks))):
        raise RuntimeError(
            f"the forward pass went through blocks {[index for index, _ in seen]} of "
            f"{len(model.blocks)}: a map of these would not explain the model's answer"
        )
    return [weights for _, weights in seen]


def _on_grid(patches: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch g g"]:
    side = int(patches.shape[-1] ** 0.5)
    return patches.unflatten(-1, (side, side))
