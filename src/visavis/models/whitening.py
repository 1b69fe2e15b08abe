"""Start a first layer from the whitening of the training images' patches."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


@torch.no_grad()
def whiten(
    conv: nn.Conv2d,
    images: Float[Tensor, "n 3 h w"],
    *,
    epsilon: float,
    directions: int | None = None,
) -> None:
    """Set filters whose outputs are uncorrelated; the bias becomes zero.

    Neighbouring pixels are so alike that a plain first layer sees little but mean colour. The
    filters are the principal directions of the patches, each scaled to unit variance: with their
    negatives where there is room for just that (a GELU follows), otherwise mixed at random.

    Args:
        images: normalised as the layer will see them.
        epsilon: added to each direction's variance, so that noise is not amplified with the rest.
        directions: how many of the strongest are used; all if None.

    Source: Jordan 2024, arXiv 2404.00498, section 3.1, after Page 2018.
    """
    size, stride = conv.kernel_size[0], conv.stride[0]
    patches = images.unfold(2, size, stride).unfold(3, size, stride)
    patches = patches.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(0, 2)  # patches x 3 size^2
    variances, axes = torch.linalg.eigh(patches.T @ patches / len(patches))  # strongest last
    filters = (axes / (variances.clamp(min=0) + epsilon).sqrt()).T[-(directions or len(axes)) :]
    if conv.out_channels == 2 * len(filters):
        filters = torch.cat([filters, -filters])
    else:
        filters = nn.init.orthogonal_(torch.empty(conv.out_channels, len(filters))) @ filters
    conv.weight.copy_(filters.view_as(conv.weight))
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
