"""Maps of many pictures on the scoring grid, in batches."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from visavis.config import GRID
from visavis.models.cnn import CNN
from visavis.models.vit import ViT
from visavis.saliency.attribution import occlusion
from visavis.saliency.faithfulness import to_cells
from visavis.saliency.methods import explain
from visavis.saliency.placement import Maps

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
    """The maps of `images` for each of `asked`, which name one class for each picture.

    Args:
        layer: where Grad-CAM looks; other methods take none and leave it aside.
        progress: told the number of maps made since the last call.
    """
    found = [np.empty((len(images), GRID, GRID), dtype=np.float32) for _ in asked]
    at = layer if method == "grad_cam" else None
    for start in range(0, len(images), BATCH):
        rows = slice(start, start + BATCH)
        pictures = images[rows]
        each = torch.arange(len(pictures))
        # Occlusion costs the same for all classes as for one.
        every = occlusion(model, pictures) if method == "occlusion" else None
        for maps, classes in zip(found, asked, strict=True):
            wanted = torch.from_numpy(classes[rows]).to(images.device)
            if every is None:
                heatmaps = explain(model, pictures, wanted, method, layer=at)
            else:
                heatmaps = every[each, wanted]
            maps[rows] = to_cells(heatmaps).cpu().numpy()
            progress(len(pictures))
    return found
