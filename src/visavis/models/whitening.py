"""First-layer filters whose outputs are uncorrelated: both models start from them."""

import torch
from jaxtyping import Float
from torch import Tensor


@torch.no_grad()
def whitening_filters(
    images: Float[Tensor, "n 3 h w"], size: int, *, stride: int, epsilon: float
) -> Float[Tensor, "directions 3 size size"]:
    """The principal directions of the images' patches, each scaled to unit variance.

    Neighbouring pixels are so alike that a plain first layer sees little but mean colour.

    Args:
        size: side of the patches, pixels.
        stride: distance between patches, pixels.
        epsilon: added to each direction's variance, so that noise is not raised with the rest.

    Source: Jordan 2024, arXiv 2404.00498, section 3.1, after Page 2018.
    """
    patches = images.unfold(2, size, stride).unfold(3, size, stride)  # n 3 rows columns size size
    patches = patches.permute(0, 2, 3, 1, 4, 5).reshape(-1, 3 * size * size)
    variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
    return (directions / (variances.clamp(min=0) + epsilon).sqrt()).T.reshape(-1, 3, size, size)
