"""Attribution maps of many images on the grid that all metrics use, computed in batches."""

import functools
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from visavis.attribution.degenerate import Maps
from visavis.attribution.methods import METHODS, explain
from visavis.attribution.perturbation import occlusion
from visavis.attribution.subject import Subject
from visavis.data.batches import Images, in_batches

BATCH = 50


def to_cells(maps: Float[Tensor, "*batch g g"], grid: int) -> Float[Tensor, "*batch cells cells"]:
    """Maps on another grid: the mean over a cell's area, or the value that covers it."""
    n = maps.shape[-1]
    # Ends of cells and of values in units of 1 / (grid n) of the side, so that they are whole.
    cell, value = n * torch.arange(grid)[:, None], grid * torch.arange(n)
    overlap = torch.minimum(cell + n, value + grid) - torch.maximum(cell, value)
    weights = overlap.clamp(min=0).to(maps) / n
    return weights @ maps @ weights.T


def grid_maps(
    subject: Subject,
    images: Images,
    targets: Sequence[Int[np.ndarray, " n"]],
    method: str,
    *,
    layer: str | None = None,
    before_relu: bool = False,
    bar: str | None = None,
) -> list[Maps]:
    """Maps on the scoring grid, one set for each of `targets`: a target class for each image.

    Args:
        layer: where Grad-CAM looks; other methods ignore it.
        before_relu: as `explain` has it.
        bar: what a progress bar says; none is shown without.
    """
    if not len(images):
        return [np.empty((0, subject.grid, subject.grid), dtype=np.float32) for _ in targets]
    at = layer if METHODS[method].needs == "layers" else None

    def maps(batch: Tensor, classes: Int[Tensor, "b k"]) -> Float[Tensor, "b k g g"]:
        if method == "occlusion":  # one pass serves all target classes
            every_class = occlusion(subject, batch)
            found = every_class[torch.arange(len(batch))[:, None], classes]
        else:
            of_class = functools.partial(
                explain, subject, batch, method=method, layer=at, before_relu=before_relu
            )
            found = torch.stack([of_class(c) for c in classes.T], 1)
        return to_cells(found, subject.grid).cpu()

    classes = torch.from_numpy(np.stack(targets, axis=1)).to(images.device)
    found = in_batches(maps, images, classes, size=BATCH, bar=bar)
    return [of.numpy() for of in found.unbind(dim=1)]
