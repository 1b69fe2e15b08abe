"""Agreement of two maps of an image, and of maps of different images of the same class."""

import math

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

TOP_FRACTION = 0.2
ROUNDS = 10


def rank_agreement(
    maps_a: Float[np.ndarray, "n ..."], maps_b: Float[np.ndarray, "n ..."]
) -> Float[np.ndarray, " n"]:
    """Spearman's rank correlation of each pair of maps; ties share their mean rank.

    Returns:
        -1 (opposite order) to 1 (same order); NaN where a map is constant, since it ranks nothing.
    """
    a, b = (_centred_ranks(maps) for maps in (maps_a, maps_b))
    scale = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    with np.errstate(invalid="ignore"):
        return np.clip((a * b).sum(axis=1) / np.where(scale > 0, scale, np.nan), -1, 1)


def highest_cells(
    maps: Float[np.ndarray, "n ..."], generator: np.random.Generator
) -> Bool[np.ndarray, "n ..."]:
    """Which cells belong to the highest fifth of their map: exact counts, ties in random order."""
    flat = np.asarray(maps, dtype=np.float64).reshape(len(maps), math.prod(maps.shape[1:]))
    order = np.lexsort((generator.random(flat.shape), -flat), axis=-1)
    count = round(TOP_FRACTION * flat.shape[1])
    return (np.argsort(order, axis=1) < count).reshape(maps.shape)


def top_k_iou(
    maps_a: Float[np.ndarray, "n ..."], maps_b: Float[np.ndarray, "n ..."]
) -> Float[np.ndarray, " n"]:
    """Intersection over union of the highest fifth of two maps' cells.

    Exact counts; ties in random order, another one for each map.

    Returns:
        1: the same cells; 0: none in common. Unrelated maps have about 0.11. NaN where a map is
        constant or not finite.
    """
    generator = np.random.default_rng(0)
    cells = tuple(range(1, maps_a.ndim))
    known = np.ones(len(maps_a), dtype=bool)
    for maps in (maps_a, maps_b):
        known &= np.isfinite(maps).all(axis=cells) & (np.ptp(maps, axis=cells) > 0)
    a, b = (highest_cells(maps, generator) for maps in (maps_a, maps_b))
    return np.where(known, (a & b).sum(axis=cells) / (a | b).sum(axis=cells), np.nan)


def same_class_partner(labels: Int[np.ndarray, " n"], seed: int) -> Int[np.ndarray, " n"]:
    """Another image of the same class for each image, each taken once; -1 for a lone one."""
    generator = np.random.default_rng(seed)
    partner = np.full(len(labels), -1)
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        if len(members) > 1:
            partner[members] = np.roll(members, 1)
    return partner


def permutation_baseline(
    maps_a: Float[np.ndarray, "n ..."],
    maps_b: Float[np.ndarray, "n ..."],
    labels: Int[np.ndarray, " n"],
) -> Float[np.ndarray, " n"]:
    """The within-class permutation baseline of `rank_agreement`: b's maps are of another image.

    The agreement that remains comes from the layout that images of a class share (objects in the
    centre, sky above), not from this image.

    Returns:
        The mean over ROUNDS permutations for each image; NaN where its class has no other image.
    """
    partners = [same_class_partner(labels, seed) for seed in range(ROUNDS)]
    values = np.stack([rank_agreement(maps_a, maps_b[p]) for p in partners])
    # A constant map of one partner does not exclude the image's other rounds.
    values[np.stack(partners) < 0] = np.nan
    return mean_of_known(values)


def mean_of_known(values: Float[np.ndarray, "k n"]) -> Float[np.ndarray, " n"]:
    """The mean for each image over the values that are not NaN; NaN where there is none."""
    known = np.isfinite(values)
    total = np.where(known, values, 0.0).sum(axis=0)
    return np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.nan)


def agreement_above_chance(
    maps_a: Float[np.ndarray, "n ..."],
    maps_b: Float[np.ndarray, "n ..."],
    labels: Int[np.ndarray, " n"],
) -> Float[np.ndarray, " n"]:
    """`rank_agreement` minus `permutation_baseline`: the agreement about the image itself."""
    return rank_agreement(maps_a, maps_b) - permutation_baseline(maps_a, maps_b, labels)


def _centred_ranks(maps: Float[np.ndarray, "n ..."]) -> Float[np.ndarray, "n k"]:
    """Mean ranks of each map's cells, minus their mean."""
    flat = np.asarray(maps, dtype=np.float64).reshape(len(maps), math.prod(maps.shape[1:]))
    ranks = stats.rankdata(flat, axis=1)
    return ranks - ranks.mean(axis=1, keepdims=True)
