"""Attribution maps of many images on the grid that all metrics use, computed in batches."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from visavis.attribution.methods import explain
from visavis.attribution.perturbation import occlusion
from visavis.config import GRID
from visavis.data.batches import Images, in_batches
from visavis.metrics.localization import Maps
from visavis.models import Model

BATCH = 50


def to_cells(maps: Float[Tensor, "*batch g g"]) -> Float[Tensor, "*batch 8 8"]:
    """Maps of any grid on 8 x 8 cells: the mean over a cell's area, or the value that covers it."""
    flat = maps.reshape(-1, 1, *maps.shape[-2:])
    return functional.adaptive_avg_pool2d(flat, GRID).reshape(*maps.shape[:-2], GRID, GRID)


def grid_maps(
    model: Model,
    images: Images,
    targets: Sequence[Int[np.ndarray, " n"]],
    method: str,
    *,
    layer: str | None = None,
    bar: str | None = None,
) -> list[Maps]:
    """One set of maps for each of `targets`, which hold a target class for each image.

    Args:
        layer: where Grad-CAM looks; other methods ignore it.
        bar: what a progress bar says; none is shown without.
    """
    if not len(images):
        return [np.empty((0, GRID, GRID), dtype=np.float32) for _ in targets]
    at = layer if method == "grad_cam" else None

    def maps(batch: Tensor, classes: Int[Tensor, "b k"]) -> Float[Tensor, "b k 8 8"]:
        if method == "occlusion":  # one pass serves all target classes
            every_class = occlusion(model, batch)
            found = every_class[torch.arange(len(batch))[:, None], classes]
        else:
            found = torch.stack([explain(model, batch, c, method, layer=at) for c in classes.T], 1)
        return to_cells(found).cpu()

    classes = torch.from_numpy(np.stack(targets, axis=1)).to(images.device)
    found = in_batches(maps, images, classes, size=BATCH, bar=bar)
    return [of.numpy() for of in found.unbind(dim=1)]
