"""All trainings of a study, and their attribution maps as unit vectors of ranks."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

from visavis.compare.pairing import Rows, shared_rows
from visavis.errors import CheckpointError
from visavis.metrics.agreement import ROUNDS, same_class_partner
from visavis.run_folder import ModelFolder

Ranks = Float[np.ndarray, "maps images cells"]
"""The ranks of each map's cells less their mean, with a norm of 1: the rank correlation of two maps
is the product of theirs. NaN throughout a degenerate or constant map."""


class Training(NamedTuple):
    """A finished training of a study."""

    variant: str
    seed: int
    model: ModelFolder


def by_variant(trainings: Sequence[Training]) -> dict[str, list[int]]:
    """The positions of each variant's trainings."""
    found: dict[str, list[int]] = {}
    for i, training in enumerate(trainings):
        found.setdefault(training.variant, []).append(i)
    return found


def shared_methods(trainings: Sequence[Training]) -> list[str]:
    """The attribution methods that all of them have, in the order of the first."""
    first, *rest = (each.model.explanations["methods"] for each in trainings)
    return [name for name in first if all(name in other for other in rest)]


def shared_images(trainings: Sequence[Training]) -> tuple[Rows, ...]:
    """Of each training, the rows of heatmaps.npz of the images that all were scored on.

    Raises:
        CheckpointError: there are no such images.
    """
    rows = shared_rows(*(training.model.heatmaps for training in trainings))
    if not len(rows[0]):
        paths = ", ".join(str(training.model.path) for training in trainings)
        raise CheckpointError(f"no test image was explained in all of {paths}")
    return rows


def ranks_of(training: Training, method: str, rows: Rows) -> Float[np.ndarray, "images cells"]:
    """One method's maps for the true class, so that all trainings are asked about the same.

    The maps of a class-agnostic method are the same for every class.
    """
    arrays = training.model.heatmaps
    name = f"{method}_true" if f"map_{method}_true" in arrays else method
    maps = arrays[f"map_{name}"][rows].astype(np.float64).reshape(len(rows), -1)
    ranks = stats.rankdata(maps, axis=1)
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1)
    known = (norms > 0) & ~arrays[f"degenerate_{name}"][rows]
    return np.where(known[:, None], centred / np.where(known, norms, 1.0)[:, None], np.nan)


def of_other_images(ranks: Ranks, classes: Int[np.ndarray, " images"]) -> Ranks:
    """The mean of each map over other images of its class, which is no unit vector.

    The product of a map and such a mean is the within-class permutation baseline
    (`metrics.agreement.permutation_baseline`). NaN for an image whose class has no other.
    """
    total, count = np.zeros(ranks.shape), np.zeros(ranks.shape[:2])
    for seed in range(ROUNDS):
        partner = same_class_partner(classes, seed)
        of_partner = np.where((partner >= 0)[None, :, None], ranks[:, partner], np.nan)
        known = np.isfinite(of_partner[..., 0])
        total += np.where(known[..., None], of_partner, 0.0)
        count += known
    return np.where(count[..., None] > 0, total / np.maximum(count, 1)[..., None], np.nan)


def agreement(ranks: Ranks) -> Float[np.ndarray, "images maps maps"]:
    """Rank correlation of each pair of maps, image by image; NaN where one is degenerate."""
    of_image = ranks.transpose(1, 0, 2)
    return of_image @ of_image.transpose(0, 2, 1)


def baseline(ranks: Ranks, others: Ranks) -> Float[np.ndarray, "images maps maps"]:
    """The within-class permutation baseline of `agreement`, the mean of either map exchanged."""
    products = ranks.transpose(1, 0, 2) @ others.transpose(1, 2, 0)
    return (products + products.transpose(0, 2, 1)) / 2


def upper(count: int) -> Bool[np.ndarray, "n n"]:
    """Each pair of `count` things once."""
    return np.triu(np.ones((count, count), dtype=bool), k=1)
