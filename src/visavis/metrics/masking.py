"""Predictions for images with masked regions: only some cells of the scoring grid are left."""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import ndimage
from torch import Tensor

from visavis.attribution.frozen import BATCH, frozen
from visavis.attribution.subject import Subject
from visavis.data.batches import Images, Targets, in_batches

Fill = Literal["mean", "blur"]
"""What a masked cell takes: the training images' mean colour, or the blurred image."""
FILLS: tuple[Fill, ...] = ("mean", "blur")


def masked_logits(
    subject: Subject,
    images: Images,
    kept: Bool[np.ndarray, "n points g g"],
    *,
    fills: Images,
    autocast: bool = False,
) -> Float[Tensor, "n*points classes"]:
    """The logits of each image with all but the kept cells masked; on the CPU.

    Args:
        fills: for each image, one whose pixels the masked cells take.
        autocast: forward passes in bf16.
    """
    n, points = kept.shape[:2]
    rows = torch.arange(n, device=images.device).repeat_interleave(points)
    masks = torch.tensor(kept, device=images.device).flatten(0, 1)[:, None]
    side = subject.cell_side

    def logits(row: Int[Tensor, " b"], mask: Bool[Tensor, "b 1 g g"]) -> Tensor:
        mask = mask.repeat_interleave(side, 2).repeat_interleave(side, 3)
        masked = torch.where(mask, images[row], fills[row])
        with torch.autocast(images.device.type, torch.bfloat16, enabled=autocast):
            return subject(masked).double()

    size = BATCH if images.device.type == "cpu" else 4096
    with frozen(subject.model), torch.inference_mode():
        return in_batches(logits, rows, masks, size=size).cpu()


def probabilities(
    subject: Subject,
    images: Images,
    targets: Targets,
    kept: Bool[np.ndarray, "n points g g"],
    *,
    fills: Images,
    autocast: bool = False,
) -> Float[np.ndarray, "n points"]:
    """Probability of each image's target class with all but the kept cells masked."""
    logits = masked_logits(subject, images, kept, fills=fills, autocast=autocast)
    columns = targets.cpu().repeat_interleave(kept.shape[1])[:, None]
    return logits.softmax(dim=1).gather(1, columns).numpy().reshape(kept.shape[:2])


def fills_for(subject: Subject, images: Images, fill: Fill) -> Images:
    """For each image what its masked cells take.

    The blur is by a Gaussian whose standard deviation is the width of a cell.
    """
    if fill == "mean":
        return subject.fill.expand_as(images)
    width = float(subject.cell_side)
    soft = ndimage.gaussian_filter(images.cpu().numpy(), (0, 0, width, width), mode="nearest")
    return torch.from_numpy(soft).to(images)
