"""Trivial attribution maps that know nothing of the model: what a real one has to beat."""

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from visavis.config import GRID
from visavis.metrics.localization import Maps, cell_means, degenerate_reasons


def random_maps(n: int, *, seed: int) -> Maps:
    """Baseline: each cell's value drawn at random."""
    return np.random.default_rng(seed).random((n, GRID, GRID)).astype(np.float32)


def centre_maps(n: int) -> Maps:
    """Baseline: a Gaussian in the middle, its standard deviation a quarter of the side."""
    place = (np.arange(GRID) - (GRID - 1) / 2) / (GRID / 4)
    bell = np.exp(-0.5 * (place[:, None] ** 2 + place**2)).astype(np.float32)
    return np.broadcast_to(bell, (n, GRID, GRID)).copy()


def mean_maps(maps: Maps) -> Maps:
    """Baseline: for every image the mean of all the maps that say something, each scaled to 1."""
    good = maps[np.array([reason is None for reason in degenerate_reasons(maps)], dtype=bool)]
    if not len(good):
        return np.zeros_like(maps)
    mean = (good / np.abs(good).max(axis=(1, 2), keepdims=True)).mean(axis=0)
    return np.broadcast_to(mean, maps.shape).copy()


def edge_maps(images: Float[np.ndarray, "n 3 32 32"]) -> Maps:
    """Baseline: how strong the edges in each cell are (Sobel magnitude of the grey image)."""
    grey = images.mean(axis=1)
    across, down = (ndimage.sobel(grey, axis=axis, mode="nearest") for axis in (2, 1))
    return cell_means(np.hypot(across, down))
