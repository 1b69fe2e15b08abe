"""What makes two attribution maps differ: the image, the architecture, the method or the seed?

A map is a vector of ranks of length 1 (metrics.agreement), and the agreement of two maps is the
product of theirs. In the terms of generalizability theory (Brennan 2001, *Generalizability Theory*,
chapters 3 and 5), the mean product of two maps that share some conditions is the sum of the parts
of their squared length that come from what they share. So means over pairs give all parts, without
bias for any number of trainings; together they are 1. A part that is not there may come out
slightly negative.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from visavis.compare import trainings as of_study
from visavis.compare.trainings import Training
from visavis.metrics import bootstrap
from visavis.metrics.agreement import Ranks, of_other_images, pairwise, pairwise_baseline

PARTS = (
    "layout",
    "image",
    "architecture",
    "method",
    "architecture_method",
    "seed",
    "seed_method",
)
"""What maps of a class share whatever the image; what those of an image share whatever else; what
comes from the architecture and from the method, and from both together; what comes from the seed
for all methods alike, and for each method by itself.

From the means of pairs that share, of an image: nothing (0), the method (M), the variant (V), both
(VM), the training, which is variant and seed (T); and of two images of a class, nothing (L):
layout L, image 0 - L, architecture V - 0, method M - 0, architecture_method VM - V - M + 0,
seed T - V, seed_method 1 less all others. V and VM are of different seeds."""


def decomposition(
    trainings: Sequence[Training], rows: Sequence[np.ndarray]
) -> dict[str, Any] | None:
    """The parts of a map's length, of the methods that all variants have.

    Returns:
        `methods`, `n` images, and `parts`: each of PARTS with its interval over images, of these
        trainings. None with fewer than two variants, two seeds of each, two shared methods, or too
        few images.
    """
    variants = of_study.by_variant(trainings)
    methods = of_study.shared_methods(trainings)
    if len(variants) < 2 or min(map(len, variants.values())) < 2 or len(methods) < 2:
        return None
    maps = [(i, method) for i in range(len(trainings)) for method in methods]
    ranks = np.stack([of_study.ranks_of(trainings[i], m, rows[i]) for i, m in maps])
    classes = trainings[0].model.heatmaps["labels"][rows[0]]
    number = {name: k for k, name in enumerate(variants)}
    means = shared(
        ranks,
        np.array([number[trainings[i].variant] for i, _ in maps]),
        np.array([i for i, _ in maps]),
        np.array([methods.index(method) for _, method in maps]),
        classes,
    )
    known = np.isfinite(means).all(axis=1)

    def interval(part: str) -> bootstrap.Interval | None:
        return bootstrap.drawn_interval(
            means[known], lambda drawn: parts_of(drawn)[part], classes=classes[known]
        )

    parts = {part: interval(part) for part in PARTS}
    if None in parts.values():
        return None
    return {"methods": methods, "n": int(known.sum()), "parts": parts}


def shared(
    ranks: Ranks,
    variant: Int[np.ndarray, " maps"],
    training: Int[np.ndarray, " maps"],
    method: Int[np.ndarray, " maps"],
    classes: Int[np.ndarray, " images"],
) -> Float[np.ndarray, "images 6"]:
    """The mean agreement of the pairs of maps of an image that share L, 0, M, V, VM and T.

    Each variant, or pair of variants, has the same weight. NaN for an image without such a pair.
    """
    same = [of[:, None] == of for of in (variant, training, method)]
    of_variant, of_training, of_method = same
    pairs = (
        ~of_variant & ~of_method,
        ~of_variant & of_method,
        of_variant & ~of_training & ~of_method,
        of_variant & ~of_training & of_method,
        of_training & ~of_method,
    )
    others = of_other_images(ranks, classes)
    one_hot = np.eye(variant.max() + 1)[variant]
    found = np.empty((ranks.shape[1], 6))
    for image in range(len(found)):  # one at a time: all pairs of a large study do not fit
        one = slice(image, image + 1)
        (other_image,) = pairwise_baseline(ranks[:, one], others[:, one])
        (same_image,) = pairwise(ranks[:, one])
        found[image, 0] = _mean(other_image, pairs[0], one_hot)
        found[image, 1:] = [_mean(same_image, pair, one_hot) for pair in pairs]
    return found


def _mean(
    values: Float[np.ndarray, "maps maps"],
    pairs: Bool[np.ndarray, "maps maps"],
    one_hot: Float[np.ndarray, "maps variants"],
) -> float:
    """The mean of these pairs, in which each variant, or two of them, weighs the same.

    Otherwise a variant with more seeds would weigh more in one mean than in another.
    """
    known = pairs & np.isfinite(values)
    sums = one_hot.T @ np.where(known, values, 0.0) @ one_hot
    counts = one_hot.T @ known @ one_hot
    present = counts > 0
    return float((sums[present] / counts[present]).mean()) if present.any() else float("nan")


def parts_of(means: Float[np.ndarray, "draws 6"]) -> dict[str, Float[np.ndarray, " draws"]]:
    """PARTS from the means over images of `shared`."""
    layout, nothing, method, variant, both, training = means.T
    parts = {
        "layout": layout,
        "image": nothing - layout,
        "architecture": variant - nothing,
        "method": method - nothing,
        "architecture_method": both - variant - method + nothing,
        "seed": training - variant,
    }
    return {**parts, "seed_method": 1 - np.sum(list(parts.values()), axis=0)}
