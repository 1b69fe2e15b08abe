"""Model parameter randomisation (MPRT): does a map depend on what the model has learnt?

Source: Adebayo et al. 2018 (arXiv 1810.03292), cascading from the head down. Each tensor's values
are permuted instead of drawn again: a newly drawn ViT head is zero, which would give no map.
"""

import copy

import numpy as np
import torch
from jaxtyping import Int

from visavis.attribution.batched import grid_maps
from visavis.data.batches import Images
from visavis.metrics.localization import Maps, without_degenerate
from visavis.models import Model
from visavis.models.cnn import CNN


def parts(model: Model) -> list[str]:
    """The model's parts with parameters, from the head down to the image."""
    if isinstance(model, CNN):
        stages = [f"stages.{i}" for i in reversed(range(len(model.stages)))]
        return ["head", *stages, "stem"]
    blocks = [f"blocks.{i}" for i in reversed(range(len(model.blocks)))]
    return ["head", "norm", *blocks, "class_token", "positions", "patch_embedding"]


@torch.no_grad()
def randomised(model: Model, names: list[str], *, seed: int) -> Model:
    """A copy of the model with the values of each tensor in the named parts permuted."""
    generator = torch.Generator().manual_seed(seed)
    other = copy.deepcopy(model)
    for name, parameter in other.named_parameters():
        if any(name == part or name.startswith(f"{part}.") for part in names):
            order = torch.randperm(parameter.numel(), generator=generator)
            values = parameter.flatten()[order.to(parameter.device)]
            parameter.copy_(values.view(parameter.shape))
    return other


def maps_of_randomised(
    model: Model,
    images: Images,
    targets: Int[np.ndarray, " n"],
    method: str,
    names: list[str],
    *,
    layer: str | None = None,
) -> Maps:
    """The maps of the model with its named parts randomised; NaN throughout a degenerate map.

    A map that still ranks the cells as the original one does depends on nothing that these
    parameters have learnt.
    """
    other = randomised(model, names, seed=0)
    (found,) = grid_maps(other, images, [targets], method, layer=layer)
    return without_degenerate(found)
