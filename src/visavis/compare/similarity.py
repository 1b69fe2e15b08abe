"""Do attribution maps differ more between two methods or between two models?

Every map of every model is compared with every other, on the same images and for the same class.
"""

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from visavis.metrics import agreement, bootstrap
from visavis.run_folder import ROLES

GROUPS = ("same_model", "same_method", "neither")
"""What two maps have in common: the model, the method, or neither.

Of methods that both models have, so that the groups contain the same methods.
"""


@dataclass(frozen=True)
class Kind:
    """One method's maps of the images, on one model."""

    model: str
    """Its role."""
    method: str
    values: Float[np.ndarray, "n h w"]
    """NaN throughout a degenerate map."""


def grid(maps: list[Kind], labels: Int[np.ndarray, " n"]) -> dict[str, Any]:
    """The agreement above chance of each pair of maps, and its mean over each of GROUPS.

    Above chance: the rank agreement minus that with either map of another image of the class.

    Returns:
        `maps`: their names, in the order of the rows and columns of `above_chance`, a symmetric
        matrix of means over images (None on the diagonal, and for too few valid maps). `groups`:
        for each of GROUPS the number of pairs and the mean over them with its interval; None for a
        group without pairs. `gap`: same_method minus same_model, paired by image; if it is above 0,
        maps differ more between methods than between models.
    """
    count = len(maps)
    methods = [{of.method for of in maps if of.model == model} for model in ROLES]
    shared = methods[0] & methods[1]
    table: list[list[float | None]] = [[None] * count for _ in range(count)]
    by_group: dict[str, list[Float[np.ndarray, " n"]]] = {group: [] for group in GROUPS}
    ranks = np.stack([agreement.unit_ranks(of.values) for of in maps])
    above = agreement.above_chance(ranks, labels)
    for i, j in combinations(range(count), 2):
        values = above[:, i, j]
        known = np.isfinite(values)
        if known.sum() >= bootstrap.MINIMUM:
            table[i][j] = table[j][i] = float(values[known].mean())
        if (group := _group(maps[i], maps[j], shared)) is not None:
            by_group[group].append(values)
    means = {g: agreement.mean_of_known(np.stack(of)) for g, of in by_group.items() if of}
    gap = None
    if {"same_method", "same_model"} <= means.keys():
        difference = means["same_method"] - means["same_model"]
        gap = bootstrap.interval(difference, classes=labels)
    return {
        "n": len(labels),
        "maps": [{"model": m.model, "method": m.method} for m in maps],
        "above_chance": table,
        "groups": {
            group: {
                "pairs": len(by_group[group]),
                "above_chance": bootstrap.interval(means[group], classes=labels),
            }
            if group in means
            else None
            for group in GROUPS
        },
        "gap": gap,
    }


def _group(a: Kind, b: Kind, shared: set[str]) -> str | None:
    """The group of a pair, or None."""
    if not {a.method, b.method} <= shared:
        return None
    if a.model == b.model:
        return "same_model"
    return "same_method" if a.method == b.method else "neither"
