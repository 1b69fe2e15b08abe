"""IDSDS: does a map rank cells as the model's own logit does when each one alone is masked?

Source: the in-domain single deletion score of Hesse, Schaub-Meyer & Roth 2024 (arXiv 2407.11910),
section 3, with few and large cells. Measured on a model that was trained with masked regions, the
score is not affected by how unfamiliar such images are, so it compares between models.
"""

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from visavis.attribution.degenerate import Maps, without_degenerate
from visavis.attribution.subject import Subject
from visavis.data.batches import Images, Targets, in_batches
from visavis.metrics.agreement import rank_agreement
from visavis.metrics.masking import fills_for, masked_logits


def side_of(grid: int) -> int:
    """Cells along a side of the image: 2 x 2 of the scoring grid each, or one of an odd grid."""
    return grid // 2 if grid % 2 == 0 else grid


def single_deletions(grid: int) -> Bool[np.ndarray, "cells g g"]:
    """For each of the cells, which cells of the scoring grid are left without it."""
    side = side_of(grid)
    cells = np.eye(side**2, dtype=bool).reshape(-1, side, side)
    return ~cells.repeat(grid // side, axis=1).repeat(grid // side, axis=2)


def logit_drops(subject: Subject, images: Images, targets: Targets) -> Float[np.ndarray, "n s s"]:
    """How much the logit of each image's target class drops when one cell is masked."""
    grid, side = subject.grid, side_of(subject.grid)
    kept = np.concatenate([np.ones((1, grid, grid), dtype=bool), single_deletions(grid)])

    def drops(images: Tensor, targets: Tensor) -> Tensor:
        rows = np.repeat(kept[None], len(images), axis=0)
        logits = masked_logits(subject, images, rows, fills=fills_for(subject, images, "mean"))
        columns = targets.cpu().repeat_interleave(len(kept))[:, None]
        left = logits.gather(1, columns).view(-1, len(kept))
        return left[:, :1] - left[:, 1:]

    return in_batches(drops, images, targets, size=25).view(-1, side, side).numpy()


def score(maps: Maps, drops: Float[np.ndarray, "n s s"]) -> Float[np.ndarray, " n"]:
    """Rank correlation of a map's cells with how much the logit drops without each of them.

    Returns:
        -1 to 1; 0 is the mean of random maps, NaN a degenerate map. The value of a single image is
        imprecise, since it rests on few cells.
    """
    side = drops.shape[1]
    size = maps.shape[1] // side
    sums = without_degenerate(maps).reshape(-1, side, size, side, size).sum(axis=(2, 4))
    return rank_agreement(sums, drops)
