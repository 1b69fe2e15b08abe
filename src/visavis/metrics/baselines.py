"""Trivial attribution maps, independent of the model: what a method has to beat."""

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from visavis.attribution.degenerate import Maps, valid
from visavis.metrics.localization import cell_means


def random_maps(n: int, grid: int, *, seed: int) -> Maps:
    """Each cell's value drawn at random."""
    return np.random.default_rng(seed).random((n, grid, grid)).astype(np.float32)


def centre_maps(n: int, grid: int) -> Maps:
    """A Gaussian in the middle, its standard deviation a quarter of the side."""
    place = (np.arange(grid) - (grid - 1) / 2) / (grid / 4)
    bell = np.exp(-0.5 * (place[:, None] ** 2 + place**2)).astype(np.float32)
    return np.broadcast_to(bell, (n, grid, grid)).copy()


def blob_maps(n: int, grid: int, *, seed: int) -> Maps:
    """The Gaussian of `centre_maps` at a random place; beyond an edge it goes on at the other.

    As smooth as a heatmap, and it knows nothing: what a score gives it is the zero that a reader
    has in mind. No cell is favoured.
    """
    moves = np.random.default_rng(seed).integers(0, grid, (n, 2))
    pairs = zip(centre_maps(n, grid), moves, strict=True)
    return np.stack([np.roll(bell, move, axis=(0, 1)) for bell, move in pairs])


def without_model(
    images: Float[np.ndarray, "n 3 side side"], grid: int, *, seed: int
) -> dict[str, Maps]:
    """All baselines that do not need the model."""
    n = len(images)
    return {
        "random": random_maps(n, grid, seed=seed),
        "blob": blob_maps(n, grid, seed=seed),
        "centre": centre_maps(n, grid),
        "edges": edge_maps(images, grid),
    }


def mean_maps(maps: Maps) -> Maps:
    """For every image the mean of the valid maps of all others, each scaled to 1."""
    good = valid(maps)
    if good.sum() < 2:
        return np.zeros_like(maps)
    scaled = np.zeros_like(maps)
    scaled[good] = maps[good] / np.abs(maps[good]).max(axis=(1, 2), keepdims=True)
    others = good.sum() - good
    return ((scaled.sum(axis=0) - scaled) / others[:, None, None]).astype(maps.dtype)


def edge_maps(images: Float[np.ndarray, "n 3 side side"], grid: int) -> Maps:
    """The mean edge strength in each cell: Sobel magnitude of the grey image."""
    magnitudes = [
        np.hypot(*(ndimage.sobel(grey, axis=axis, mode="nearest") for axis in (0, 1)))
        for grey in images.mean(axis=1)  # one by one: sobel smooths along all other axes
    ]
    return cell_means(np.stack(magnitudes), grid)
