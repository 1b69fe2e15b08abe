"""Where the relevance of a map lies, and whether it depends on the class."""

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

from visavis.attribution.degenerate import Maps, without_degenerate
from visavis.metrics.agreement import rank_agreement


def relevance_mass(maps: Maps, inside: Float[np.ndarray, "n g g"]) -> Float[np.ndarray, " n"]:
    """Relevance mass accuracy: the fraction of a map's positive mass that lies inside a region.

    Args:
        inside: the fraction of each cell that belongs to the region.

    Returns:
        0 to 1; an uninformative map has the region's fraction of the area. NaN where no value of
        the map is positive.

    Source: Arras, Osman & Samek 2022 (arXiv 2003.07258), equation 2.
    """
    mass = np.clip(maps, 0, None).astype(np.float64)
    total = mass.sum(axis=(1, 2))
    return (mass * inside).sum(axis=(1, 2)) / np.where(total > 0, total, np.nan)


def pointing_hit(maps: Maps, inside: Float[np.ndarray, "n g g"]) -> Float[np.ndarray, " n"]:
    """1 where a map's highest cell belongs to the region by half or more, else 0.

    Of several highest cells, the fraction that does. An uninformative map has the fraction of such
    cells in the image.

    Source: the pointing game of Zhang et al. 2018 (arXiv 1608.00507), section 4.1, on cells.
    """
    highest = maps == maps.max(axis=(1, 2), keepdims=True)
    hits = (highest & (inside >= 0.5)).sum(axis=(1, 2))
    return hits / np.maximum(highest.sum(axis=(1, 2)), 1)


def mask_auc(maps: Maps, inside: Float[np.ndarray, "n g g"]) -> Float[np.ndarray, " n"]:
    """Area under the ROC curve of a map's cells as a classifier of the region.

    The probability that a random cell of the region (covered by half or more) ranks above a random
    one outside; ties count half. 0.5: chance; 1: all of the region first. NaN where no cell or
    every cell belongs to the region.
    """
    region = (inside >= 0.5).reshape(len(maps), -1)
    ranks = stats.rankdata(maps.reshape(len(maps), -1), axis=1)
    within = region.sum(axis=1)
    pairs = within * (region.shape[1] - within)
    above = (ranks * region).sum(axis=1) - within * (within + 1) / 2
    return above / np.where(pairs > 0, pairs, np.nan)


def centre(n: int, grid: int) -> Float[np.ndarray, "n g g"]:
    """The image's central quarter, half as high and half as wide, as a region."""
    edges = np.clip(np.arange(grid + 1) / grid, 0.25, 0.75)
    inside = grid * np.diff(edges)  # the fraction of each row of cells
    return np.broadcast_to(np.outer(inside, inside), (n, grid, grid))


def class_sensitivity(maps: Maps, runner_up: Maps) -> Float[np.ndarray, " n"]:
    """1 minus max(0, Spearman) between the maps for the predicted class and for the runner-up.

    Returns:
        0: the same ranking for both; 1: nothing in common. NaN where one of the two is degenerate.

    Source: after the random-logit test of Sixt, Granz & Landgraf 2020.
    """
    agreement = rank_agreement(without_degenerate(maps), without_degenerate(runner_up))
    return 1 - np.clip(agreement, 0, None)


def cell_means(
    images: Float[np.ndarray, "n side side"] | Bool[np.ndarray, "n side side"], grid: int
) -> Maps:
    """The mean over each cell's pixels; of a mask, the fraction of the cell inside it."""
    cell = images.shape[1] // grid
    blocks = images.reshape(-1, grid, cell, grid, cell)
    return blocks.mean(axis=(2, 4)).astype(np.float32)
