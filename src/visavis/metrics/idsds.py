"""IDSDS: does a map rank cells as the model's own logit does when each one alone is masked?

Source: the in-domain single deletion score of Hesse, Schaub-Meyer & Roth 2024 (arXiv 2407.11910),
section 3, with cells of 8 x 8 pixels. Measured on a model that was trained with masked regions, the
score is not affected by how unfamiliar such images are, so it compares between models.
"""

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from visavis.config import GRID
from visavis.data.batches import Images, Targets, in_batches
from visavis.metrics.agreement import rank_agreement
from visavis.metrics.localization import Maps, without_degenerate
from visavis.metrics.masking import masked_logits
from visavis.models import Model

SIDE = 4
"""Cells along a side of the image; each is 2 x 2 cells of the scoring grid."""


def single_deletions() -> Bool[np.ndarray, "16 8 8"]:
    """For each of the 16 cells, which cells of the scoring grid are left without it."""
    cells = np.eye(SIDE**2, dtype=bool).reshape(-1, SIDE, SIDE)
    return ~cells.repeat(GRID // SIDE, axis=1).repeat(GRID // SIDE, axis=2)


def logit_drops(model: Model, images: Images, targets: Targets) -> Float[np.ndarray, "n 4 4"]:
    """How much the logit of each image's target class drops when one cell is masked."""
    kept = np.concatenate([np.ones((1, GRID, GRID), dtype=bool), single_deletions()])

    def drops(images: Tensor, targets: Tensor) -> Tensor:
        logits = masked_logits(model, images, np.repeat(kept[None], len(images), axis=0))
        columns = targets.cpu().repeat_interleave(len(kept))[:, None]
        left = logits.gather(1, columns).view(-1, len(kept))
        return left[:, :1] - left[:, 1:]

    return in_batches(drops, images, targets, size=25).view(-1, SIDE, SIDE).numpy()


def score(maps: Maps, drops: Float[np.ndarray, "n 4 4"]) -> Float[np.ndarray, " n"]:
    """Rank correlation of a map's cells with how much the logit drops without each of them.

    Returns:
        -1 to 1; 0 is the mean of random maps, NaN a degenerate map. The value of a single image is
        imprecise, since it rests on 16 cells.
    """
    size = GRID // SIDE
    sums = without_degenerate(maps).reshape(-1, SIDE, size, SIDE, size).sum(axis=(2, 4))
    return rank_agreement(sums, drops)
