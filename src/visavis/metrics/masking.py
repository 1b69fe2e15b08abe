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


def fills_for(subject: Subject, images: Images, fill: Fill) -> Images:
    """What the masked cells of each image take, as images."""
    return _blurred(images, subject.cell_side) if fill == "blur" else subject.fill.expand_as(images)


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
        fills: one for each image, whose pixels the masked cells take.
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


def log_odds(
    subject: Subject,
    images: Images,
    targets: Targets,
    kept: Bool[np.ndarray, "n points g g"],
    *,
    fill: Fill = "mean",
) -> Float[np.ndarray, "n points"]:
    """log(p / (1 - p)) of the `probabilities` p, from float32 logits.

    It orders cells as the probabilities do, and still does where they are almost 1.
    """
    logits = masked_logits(subject, images, kept, fills=fills_for(subject, images, fill))
    columns = targets.cpu().repeat_interleave(kept.shape[1])[:, None]
    others = logits.scatter(1, columns, -torch.inf).logsumexp(dim=1)
    return (logits.gather(1, columns)[:, 0] - others).numpy().reshape(kept.shape[:2])


def _blurred(images: Images, cell_side: int) -> Images:
    """By a Gaussian whose standard deviation is the width of a cell."""
    width = float(cell_side)
    soft = ndimage.gaussian_filter(images.cpu().numpy(), (0, 0, width, width), mode="nearest")
    return torch.from_numpy(soft).to(images)
