"""Agreement of two maps of an image, and of maps of different images of the same class."""

import math

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

from visavis.metrics.bootstrap import Interval, drawn_interval

TOP_FRACTION = 0.2
ROUNDS = 10

Ranks = Float[np.ndarray, "maps images cells"]
"""Of several maps of each image, what `unit_ranks` returns."""


def unit_ranks(maps: Float[np.ndarray, "n ..."]) -> Float[np.ndarray, "n cells"]:
    """The ranks of each map's cells less their mean, with a norm of 1; ties share their mean rank.

    The rank correlation of two maps is the product of theirs. NaN throughout a constant map and one
    that holds NaN.
    """
    flat = np.asarray(maps, dtype=np.float64).reshape(len(maps), math.prod(maps.shape[1:]))
    ranks = stats.rankdata(flat, axis=1)
    ranks -= ranks.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(ranks, axis=1, keepdims=True)
    return ranks / np.where(norms > 0, norms, np.nan)


def rank_agreement(
    maps_a: Float[np.ndarray, "n ..."], maps_b: Float[np.ndarray, "n ..."]
) -> Float[np.ndarray, " n"]:
    """Spearman's rank correlation of each pair of maps; ties share their mean rank.

    Returns:
        -1 (opposite order) to 1 (same order); NaN where a map is constant, since it ranks nothing.
    """
    return np.clip((unit_ranks(maps_a) * unit_ranks(maps_b)).sum(axis=1), -1, 1)


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


def pairwise(ranks: Ranks) -> Float[np.ndarray, "images maps maps"]:
    """Rank correlation of each pair of maps, image by image; NaN where one is degenerate."""
    of_image = ranks.transpose(1, 0, 2)
    return of_image @ of_image.transpose(0, 2, 1)


def pairwise_baseline(ranks: Ranks, others: Ranks) -> Float[np.ndarray, "images maps maps"]:
    """The within-class permutation baseline of `pairwise`, the mean with either map exchanged."""
    products = ranks.transpose(1, 0, 2) @ others.transpose(1, 2, 0)
    return (products + products.transpose(0, 2, 1)) / 2


def of_other_images(ranks: Ranks, classes: Int[np.ndarray, " images"]) -> Ranks:
    """The mean of each map over other images of its class, ROUNDS of them: no unit vector.

    The product of a map and such a mean is its `permutation_baseline`. NaN for an image whose class
    has no other.
    """
    total, count = np.zeros(ranks.shape), np.zeros(ranks.shape[:2])
    for seed in range(ROUNDS):
        partner = same_class_partner(classes, seed)
        of_partner = np.where((partner >= 0)[None, :, None], ranks[:, partner], np.nan)
        known = np.isfinite(of_partner[..., 0])
        total += np.where(known[..., None], of_partner, 0.0)
        count += known
    return np.where(count[..., None] > 0, total / np.maximum(count, 1)[..., None], np.nan)


def above_chance(
    ranks: Ranks, classes: Int[np.ndarray, " images"]
) -> Float[np.ndarray, "images maps maps"]:
    """`pairwise` minus its baseline: the agreement about the image itself."""
    return pairwise(ranks) - pairwise_baseline(ranks, of_other_images(ranks, classes))


def over_ceilings(
    between: Float[np.ndarray, " n"],
    first: Float[np.ndarray, " n"],
    second: Float[np.ndarray, " n"],
    classes: Int[np.ndarray, " n"],
) -> Interval | None:
    """Agreement of two models over the geometric mean of their noise ceilings, each by image.

    1: they agree as well as trainings of one model do.
    """
    of_images = np.stack([between, first, second], axis=1)
    known = np.isfinite(of_images).all(axis=1)
    return drawn_interval(
        of_images[known],
        lambda m: m[:, 0] / np.sqrt(np.clip(m[:, 1] * m[:, 2], 1e-9, None)),
        classes=classes[known],
    )
