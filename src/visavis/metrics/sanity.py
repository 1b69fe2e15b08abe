"""Does a map depend on what the model has learnt? Its weights are shuffled, from the top down.

Source: the model parameter randomisation test of Adebayo et al. 2018 (arXiv 1810.03292), with each
tensor's values shuffled in place of new ones: a fresh ViT's head is zero, which would give no map.
"""

import copy

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from visavis.attribution.batched import grid_maps
from visavis.metrics.localization import Maps, without_degenerate
from visavis.models.cnn import CNN
from visavis.models.vit import ViT


def parts(model: CNN | ViT) -> list[str]:
    """The model's parts with weights, from the head down to the image."""
    if isinstance(model, CNN):
        stages = [f"stages.{i}" for i in reversed(range(len(model.stages)))]
        return ["head", *stages, "stem"]
    blocks = [f"blocks.{i}" for i in reversed(range(len(model.blocks)))]
    return ["head", "norm", *blocks, "class_token", "positions", "patch_embedding"]


@torch.no_grad()
def shuffled(model: CNN | ViT, names: list[str], *, seed: int) -> CNN | ViT:
    """A copy of the model in which each tensor of weights in the named parts is shuffled."""
    generator = torch.Generator().manual_seed(seed)
    other = copy.deepcopy(model)
    for name, parameter in other.named_parameters():
        if any(name == part or name.startswith(f"{part}.") for part in names):
            order = torch.randperm(parameter.numel(), generator=generator)
            values = parameter.flatten()[order.to(parameter.device)]
            parameter.copy_(values.view(parameter.shape))
    return other


def maps_of_randomised(
    model: CNN | ViT,
    images: Float[Tensor, "n 3 32 32"],
    classes: Int[np.ndarray, " n"],
    method: str,
    names: list[str],
    *,
    layer: str | None = None,
    seed: int = 0,
) -> Maps:
    """The maps of the model when the weights of its named parts are shuffled.

    Returns:
        NaN throughout in a degenerate map. A map that still ranks the cells as the true
        one does depends on nothing that these weights have learnt.
    """
    other = shuffled(model, names, seed=seed)
    (found,) = grid_maps(other, images, [classes], method, layer=layer)
    return without_degenerate(found)
