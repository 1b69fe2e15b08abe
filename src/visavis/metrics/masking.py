"""Predictions for images with masked regions: only some of the 8 x 8 cells are left."""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import ndimage
from torch import Tensor

from visavis.attribution.frozen import BATCH, frozen
from visavis.config import GRID
from visavis.data.batches import Images, Targets, in_batches
from visavis.metrics.localization import CELL_SIDE
from visavis.models import Model

CELLS = GRID**2
BLUR = 4.0
"""Standard deviation of the blur, pixels: as wide as a cell."""

Fill = Literal["mean", "blur"]
"""What a masked cell takes: the training images' mean colour, or the blurred image."""


def masked_logits(
    model: Model,
    images: Images,
    kept: Bool[np.ndarray, "n points 8 8"],
    *,
    fill: Fill = "mean",
    autocast: bool = False,
) -> Float[Tensor, "n*points classes"]:
    """The logits of each image with all but the kept cells masked; on the CPU.

    Args:
        autocast: forward passes in bf16.
    """
    n, points = kept.shape[:2]
    rows = torch.arange(n, device=images.device).repeat_interleave(points)
    masks = torch.tensor(kept, device=images.device).flatten(0, 1)[:, None]
    fills = _blurred(images) if fill == "blur" else model.normalize.mean.expand_as(images)

    def logits(row: Int[Tensor, " b"], mask: Bool[Tensor, "b 1 8 8"]) -> Tensor:
        mask = mask.repeat_interleave(CELL_SIDE, 2).repeat_interleave(CELL_SIDE, 3)
        masked = torch.where(mask, images[row], fills[row])
        with torch.autocast(images.device.type, torch.bfloat16, enabled=autocast):
            return model(masked).double()

    size = BATCH if images.device.type == "cpu" else 4096
    with frozen(model), torch.inference_mode():
        return in_batches(logits, rows, masks, size=size).cpu()


def probabilities(
    model: Model,
    images: Images,
    targets: Targets,
    kept: Bool[np.ndarray, "n points 8 8"],
    *,
    fill: Fill = "mean",
    autocast: bool = False,
) -> Float[np.ndarray, "n points"]:
    """Probability of each image's target class with all but the kept cells masked."""
    logits = masked_logits(model, images, kept, fill=fill, autocast=autocast)
    columns = targets.cpu().repeat_interleave(kept.shape[1])[:, None]
    return logits.softmax(dim=1).gather(1, columns).numpy().reshape(kept.shape[:2])


def log_odds(
    model: Model,
    images: Images,
    targets: Targets,
    kept: Bool[np.ndarray, "n points 8 8"],
    *,
    fill: Fill = "mean",
) -> Float[np.ndarray, "n points"]:
    """log(p / (1 - p)) of the `probabilities` p, from float32 logits.

    It orders cells as the probabilities do, and still does where they are almost 1.
    """
    logits = masked_logits(model, images, kept, fill=fill)
    columns = targets.cpu().repeat_interleave(kept.shape[1])[:, None]
    others = logits.scatter(1, columns, -torch.inf).logsumexp(dim=1)
    return (logits.gather(1, columns)[:, 0] - others).numpy().reshape(kept.shape[:2])


def _blurred(images: Images) -> Images:
    soft = ndimage.gaussian_filter(images.cpu().numpy(), (0, 0, BLUR, BLUR), mode="nearest")
    return torch.from_numpy(soft).to(images)
