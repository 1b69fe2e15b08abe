"""First-layer filters whose outputs are uncorrelated: both models start from them."""

import torch
from jaxtyping import Float
from torch import Tensor


@torch.no_grad()
def mirrored_whitening_filters(
    images: Float[Tensor, "n 3 h w"], size: int, *, stride: int, epsilon: float
) -> Float[Tensor, "directions 3 size size"]:
    """Directions of the images' patches that are uncorrelated; the second half mirrors the first.

    Neighbouring pixels are so alike that a plain first layer sees little but mean colour. These are
    principal directions, each scaled to unit variance, of the images and their mirror images
    together, and those are alike on the left and the right, or opposite. (alike + opposite) /
    sqrt 2 is as good a direction as either where both have unit variance (as far as epsilon leaves
    it), and its mirror image is (alike - opposite) / sqrt 2.

    Args:
        size: side of the patches, pixels; even.
        stride: distance between patches, pixels.
        epsilon: added to each direction's variance, so that noise is not raised with the rest.

    Source: Jordan 2024, arXiv 2404.00498, section 3.1, after Page 2018, for free directions.
    """
    left, right = _patches(images, size, stride).chunk(2, dim=3)
    right = right.flip(3)
    alike, opposite = (
        _directions((left + sign * right).flatten(1) / 2**0.5, epsilon).unflatten(1, left.shape[1:])
        for sign in (1, -1)
    )
    first = torch.cat([alike + opposite, (alike - opposite).flip(3)], dim=3) / 2
    return torch.cat([first, first.flip(3)])


def _patches(
    images: Float[Tensor, "n 3 h w"], size: int, stride: int
) -> Float[Tensor, "patches 3 size size"]:
    patches = images.unfold(2, size, stride).unfold(3, size, stride)  # n 3 rows columns size size
    return patches.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)


def _directions(patches: Float[Tensor, "patches k"], epsilon: float) -> Float[Tensor, "k k"]:
    variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
    return (directions / (variances.clamp(min=0) + epsilon).sqrt()).T
