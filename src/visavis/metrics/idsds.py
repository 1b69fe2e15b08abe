"""Single-cell deletion: does a map rank cells as the model's own logit does when one is missing?

Source: the in-domain single deletion score (IDSDS) of Hesse, Schaub-Meyer & Roth 2024 (arXiv
2407.11910), section 3, with cells of 8 x 8 pixels. Asked of a model that has seen such holes in
training, the score is free of the strangeness of a image with a hole, and so compares models.
"""

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from visavis.config import GRID
from visavis.metrics.agreement import rank_agreement
from visavis.metrics.faithfulness import logits_of_kept
from visavis.metrics.localization import Maps, without_degenerate
from visavis.models.cnn import CNN
from visavis.models.vit import ViT

SIDE = 4
"""Cells along a side of the image; each is 2 x 2 cells of the scoring grid."""


def holes() -> np.ndarray:
    """For each of the 16 cells, what of the scoring grid is left without it: (16, 8, 8)."""
    cells = np.eye(SIDE**2, dtype=bool).reshape(-1, SIDE, SIDE)
    return ~cells.repeat(GRID // SIDE, axis=1).repeat(GRID // SIDE, axis=2)


def falls(
    model: CNN | ViT, images: Float[Tensor, "n 3 32 32"], classes: Int[Tensor, " n"]
) -> Float[np.ndarray, "n 4 4"]:
    """How much the logit of each image's class falls when one cell is missing; float32."""
    asked = classes.cpu()[:, None]
    found = []
    for start in range(0, len(images), 25):
        batch = images[start : start + 25]
        kept = np.concatenate([np.ones((1, GRID, GRID), dtype=bool), holes()])
        logits = logits_of_kept(model, batch, np.repeat(kept[None], len(batch), axis=0))
        rows = asked[start : start + 25].repeat_interleave(len(kept), dim=0)
        left = logits.gather(1, rows)[:, 0].view(len(batch), -1).numpy()
        found.append(left[:, :1] - left[:, 1:])
    return np.concatenate(found).reshape(-1, SIDE, SIDE)


def score(maps: Maps, fall: Float[np.ndarray, "n 4 4"]) -> Float[np.ndarray, " n"]:
    """Rank correlation of what a map gives each cell with how the logit falls without it.

    Returns:
        1: the same order; 0: unrelated, and what a random map has on average; -1: the opposite.
        NaN for a refused map. One image's value is rough, since it rests on 16 cells.
    """
    size = GRID // SIDE
    sums = without_degenerate(maps).reshape(-1, SIDE, size, SIDE, size).sum(axis=(2, 4))
    return rank_agreement(sums, fall)
