"""What a heatmap says: anything at all, where, and of which class; and maps that know no model.

Arrays in, numbers out.
"""

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from visavis.config import GRID, IMAGE_SIDE
from visavis.metrics import rank_agreement

CELL_SIDE = IMAGE_SIDE // GRID
FLAT = 1e-6
"""A map whose values differ by less than this share of its largest ranks rounding errors."""

Maps = Float[np.ndarray, "n 8 8"]


def refusals(maps: Float[np.ndarray, "n h w"]) -> list[str | None]:
    """Why each map says nothing and must not be scored; None for a good one."""
    reasons: list[str | None] = []
    for heatmap in maps:
        if not np.isfinite(heatmap).all():
            reasons.append("not finite")
        elif not heatmap.any():
            reasons.append("zero everywhere")
        elif np.ptp(heatmap) <= FLAT * np.abs(heatmap).max():
            reasons.append("the same everywhere")
        else:
            reasons.append(None)
    return reasons


def share_inside(maps: Maps, inside: Float[np.ndarray, "n 8 8"]) -> Float[np.ndarray, " n"]:
    """Share of a map's positive mass that lies inside a region.

    Args:
        inside: the share of each cell that belongs to the region.

    Returns:
        0 to 1; a map that knows nothing has the region's share of the area. NaN where no value of
        the map is positive.
    """
    mass = np.clip(maps, 0, None).astype(np.float64)
    total = mass.sum(axis=(1, 2))
    return (mass * inside).sum(axis=(1, 2)) / np.where(total > 0, total, np.nan)


def centre(n: int) -> Float[np.ndarray, "n 8 8"]:
    """The picture's central 16 x 16 pixels, a quarter of its area, as a region."""
    region = np.zeros((n, GRID, GRID))
    region[:, GRID // 4 : -(GRID // 4), GRID // 4 : -(GRID // 4)] = 1
    return region


def class_sensitivity(maps: Maps, other_maps: list[Maps]) -> Float[np.ndarray, " n"]:
    """1 less the mean of max(0, Spearman) between a class's map and those of other classes.

    Returns:
        0: the same ranking whatever class is asked about; 1: nothing in common. Pairs with a
        refused map are left out; NaN where that leaves none.

    Source: after the random-logit test of Sixt, Granz & Landgraf 2020.
    """
    pairs = [rank_agreement(_without_refused(maps), _without_refused(o)) for o in other_maps]
    likeness = np.clip(np.stack(pairs), 0, None)
    known = np.isfinite(likeness)
    total = np.where(known, likeness, 0.0).sum(axis=0)
    return np.where(known.any(axis=0), 1 - total / np.maximum(known.sum(axis=0), 1), np.nan)


def random_maps(n: int, *, seed: int) -> Maps:
    """Baseline: each cell's value drawn at random."""
    return np.random.default_rng(seed).random((n, GRID, GRID)).astype(np.float32)


def centre_maps(n: int) -> Maps:
    """Baseline: a Gaussian in the middle, its standard deviation a quarter of the side."""
    place = (np.arange(GRID) - (GRID - 1) / 2) / (GRID / 4)
    bell = np.exp(-0.5 * (place[:, None] ** 2 + place**2)).astype(np.float32)
    return np.broadcast_to(bell, (n, GRID, GRID)).copy()


def edge_maps(images: Float[np.ndarray, "n 3 32 32"]) -> Maps:
    """Baseline: how strong the edges in each cell are (Sobel magnitude of the grey picture)."""
    grey = images.mean(axis=1)
    across, down = (ndimage.sobel(grey, axis=axis, mode="nearest") for axis in (2, 1))
    return cell_means(np.hypot(across, down))


def cell_means(pictures: Float[np.ndarray, "n 32 32"] | Bool[np.ndarray, "n 32 32"]) -> Maps:
    """The mean over each cell's pixels; of a mask, the share of the cell inside it."""
    blocks = pictures.reshape(-1, GRID, CELL_SIDE, GRID, CELL_SIDE)
    return blocks.mean(axis=(2, 4)).astype(np.float32)


def _without_refused(maps: Maps) -> Maps:
    good = np.array([reason is None for reason in refusals(maps)])
    return np.where(good[:, None, None], maps, np.nan)
