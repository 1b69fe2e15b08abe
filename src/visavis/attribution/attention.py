"""A model's attention: the weights themselves, rollout, and gradient-weighted attention."""

import torch
from jaxtyping import Float
from torch import Tensor

from visavis.attribution.frozen import frozen, with_gradient
from visavis.attribution.recorded import RecordedAttention
from visavis.attribution.subject import Subject
from visavis.data.batches import Images, Targets

Attention = Float[Tensor, "layers n heads t t"]
"""Row: the token that attends; column: the token attended to. Each row sums to 1."""


def attention_weights(subject: Subject, images: Images) -> Attention:
    """The attention of every block and head."""
    with frozen(subject.model), torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        return torch.stack(_forward(subject, images)[1])


def patch_attention(
    subject: Subject, weights: Float[Tensor, "*batch t t"]
) -> Float[Tensor, "*batch g g"]:
    """The attention to each patch of the tokens that the prediction is read from, their mean.

    Of a class token, a map's sum is 1 minus its attention to itself and to other tokens that are no
    patches. It does not depend on the target class.
    """
    rows = weights[..., subject.read, :].mean(dim=-2)
    patches = subject.tokens_on_grid(rows.reshape(-1, rows.shape[-1], 1))
    assert patches is not None  # else attention is among what the subject lacks
    return patches[:, 0].unflatten(0, rows.shape[:-1])


def last_attention(subject: Subject, images: Images) -> Float[Tensor, "n g g"]:
    """`patch_attention` of the last block, the mean over its heads."""
    return patch_attention(subject, attention_weights(subject, images)[-1]).mean(dim=1)


def rollout(subject: Subject, images: Images) -> Float[Tensor, "n g g"]:
    """Attention to each patch from the tokens that are read, propagated through all blocks.

    Per block, the mean over heads is averaged with the identity, for the residual path, and its
    rows are normalised to 1; the map is the product over all blocks. It does not depend on the
    target class.

    Source: Abnar & Zuidema 2020, section 3 (attention rollout).
    """
    weights = attention_weights(subject, images)
    identity = torch.eye(weights.shape[-1], device=weights.device)
    flow = identity.expand(weights.shape[1], -1, -1)
    for layer in weights.mean(dim=2):
        passed = 0.5 * layer + 0.5 * identity
        flow = passed / passed.sum(dim=-1, keepdim=True) @ flow
    return patch_attention(subject, flow)


def gradient_attention(
    subject: Subject, images: Images, targets: Targets
) -> Float[Tensor, "n g g"]:
    """Class-specific attention: each block's weights times the gradient of the target's logit.

    R starts as the identity; each block adds E_h[(dA * A)+] R, with A the weights, dA the gradient
    of the target's logit with respect to them, and E_h the mean over heads. The map is the row of R
    of the class token, or the mean over the rows of all tokens that are read.

    Returns:
        0 or more, in units of the logit.

    Source: Chefer, Gur & Wolf 2021 (ICCV, arXiv 2103.15679), the case of self-attention alone.
    """
    with frozen(subject.model), with_gradient(images) as inputs:
        logits, weights = _forward(subject, inputs)
        gradients = torch.autograd.grad(logits.gather(1, targets.clone()[:, None]).sum(), weights)
    relevance = torch.eye(weights[0].shape[-1], device=images.device).repeat(len(images), 1, 1)
    for weight, gradient in zip(weights, gradients, strict=True):
        positive = (gradient * weight.detach()).clamp(min=0).mean(dim=1)
        relevance = relevance + positive @ relevance
    return patch_attention(subject, relevance)


def _forward(subject: Subject, images: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The logits, and each block's attention weights, first block to last.

    Raises:
        RuntimeError: the pass computed attention another number of times than when it was observed.
    """
    with RecordedAttention(len(images)) as recorded:
        logits = subject(images)
    if len(recorded.weights) != subject.blocks:
        raise RuntimeError(
            f"the forward pass computed attention {len(recorded.weights)} times instead of "
            f"{subject.blocks}: a map of these would not explain the model's prediction"
        )
    return logits, recorded.weights
