"""Maps of many images on the scoring grid, in batches."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from visavis.attribution.methods import explain
from visavis.attribution.perturbation import occlusion
from visavis.config import GRID
from visavis.metrics.faithfulness import to_cells
from visavis.metrics.localization import Maps
from visavis.models.cnn import CNN
from visavis.models.vit import ViT

BATCH = 50


def grid_maps(
    model: CNN | ViT,
    images: Float[Tensor, "n 3 32 32"],
    asked: Sequence[Int[np.ndarray, " n"]],
    method: str,
    *,
    layer: str | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> list[Maps]:
    """The maps of `images` for each of `asked`, which name one class for each image.

    Args:
        layer: where Grad-CAM looks; other methods take none and leave it aside.
        progress: told the number of maps made since the last call.
    """
    found = [np.empty((len(images), GRID, GRID), dtype=np.float32) for _ in asked]
    at = layer if method == "grad_cam" else None
    for start in range(0, len(images), BATCH):
        rows = slice(start, start + BATCH)
        batch = images[rows]
        each = torch.arange(len(batch))
        # Occlusion costs the same for all classes as for one.
        every = occlusion(model, batch) if method == "occlusion" else None
        for maps, classes in zip(found, asked, strict=True):
            wanted = torch.from_numpy(classes[rows]).to(images.device)
            if every is None:
                heatmaps = explain(model, batch, wanted, method, layer=at)
            else:
                heatmaps = every[each, wanted]
            maps[rows] = to_cells(heatmaps).cpu().numpy()
            progress(len(batch))
    return found
