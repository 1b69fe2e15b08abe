"""Grid pointing game: composites of two images of different classes, and a map for each class.

Where each class lies is known by construction, without a ground-truth mask. Both images keep their
scale, and a composite is as large as the images that the model was trained on.

Source: after the grid pointing game of Böhle, Fritz & Schiele 2021 (arXiv 2104.00032) and of Rao,
Böhle & Schiele 2022 (arXiv 2205.10435); the box as in CutMix (Yun et al. 2019, arXiv 1905.04899).
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int, UInt8

from visavis.attribution.degenerate import Maps
from visavis.metrics.bootstrap import interval
from visavis.metrics.localization import cell_means, relevance_mass

Kind = Literal["halves", "box"]
KINDS: tuple[Kind, ...] = ("halves", "box")
CANDIDATES = 20
"""Composites tried for each one needed, as far as there are images: both models recognise both
classes of few of them."""
CHANCE = 0.5


@dataclass(frozen=True)
class Composites:
    """Images that each show two classes."""

    pixels: UInt8[np.ndarray, "n side side 3"]
    classes: Int[np.ndarray, "n 2"]
    """The class of the part that `region` marks, and that of the rest."""
    region: Float[np.ndarray, "n g g"]
    """1 in the cells of the first class, 0 in the others."""


def composites(
    kind: Kind,
    pixels: UInt8[np.ndarray, "m side side 3"],
    labels: Int[np.ndarray, " m"],
    *,
    count: int,
    grid: int,
    seed: int = 0,
) -> Composites:
    """Composites of random pairs of images of different classes.

    halves: the middle half of one image's columns fill the left half, those of the other the right
    half; cropped, not resized. box: the middle quarter of one covers a random quarter of the
    other, so that every cell is covered equally often and a centred map has no advantage.

    Args:
        grid: cells along a side, for `region`.
        count: how many pairs are drawn; those of one class are left out. Each image is used at most
            once on either side, so that composites are as independent as images.
    """
    generator = np.random.default_rng([seed, KINDS.index(kind)])
    first, second = (generator.permutation(len(labels))[:count] for _ in range(2))
    apart = labels[first] != labels[second]
    first, second = first[apart], second[apart]
    made = pixels[second]
    side = pixels.shape[1]
    half, middle = side // 2, slice(side // 4, side // 4 + side // 2)
    region = np.zeros((len(made), side, side), dtype=bool)
    if kind == "halves":
        made[:, :, :half] = pixels[first][:, :, middle]
        made[:, :, half:] = pixels[second][:, :, middle]
        region[:, :, :half] = True
    else:
        for i, (row, column) in enumerate(half * generator.integers(0, 2, (len(made), 2))):
            place = slice(row, row + half), slice(column, column + half)
            made[i][place] = pixels[first[i], middle, middle]
            region[i][place] = True
    classes = np.stack([labels[first], labels[second]], axis=1)
    return Composites(made, classes, cell_means(region, grid))


def recognised(
    logits: Float[np.ndarray, "n classes"], classes: Int[np.ndarray, "n 2"]
) -> np.ndarray:
    """Whether both classes of a composite have the model's two highest logits."""
    top = np.argsort(-logits, axis=1)[:, :2]
    return (np.sort(top, axis=1) == np.sort(classes, axis=1)).all(axis=1)


def energies(
    maps_first: Maps, maps_second: Maps, region: Float[np.ndarray, "n g g"]
) -> Float[np.ndarray, "n 2"]:
    """Energy of each class's map: the fraction of its positive mass on that class's part.

    Chance is the part's fraction of the area. A class-agnostic map is the same for both classes, so
    its two energies sum to exactly 1: its mean is chance. NaN where no value of a map is positive.
    """
    return np.stack(
        [relevance_mass(maps_first, region), relevance_mass(maps_second, 1 - region)], 1
    )


def energy(
    first: Maps, second: Maps, region: Float[np.ndarray, "n g g"], classes: Int[np.ndarray, " n"]
) -> dict[str, Any]:
    """Fraction of a map's mass on the part of its class, averaged over the maps of both classes.

    A map without positive values counts as chance.

    Args:
        first: maps for the class of the part that `region` marks; `second`, for that of the rest.
        classes: of the marked part, for the interval.
    """
    both = energies(first, second, region)
    empty = np.isnan(both)
    area = region.mean(axis=(1, 2))
    chance = np.stack([area, 1 - area], axis=1)
    values = np.where(empty, chance, both).mean(axis=1)
    return {
        "energy": interval(values, classes=classes),
        "degenerate_fraction": float(empty.mean()) if empty.size else 0.0,
    }
