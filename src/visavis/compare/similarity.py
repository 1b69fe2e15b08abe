"""Is the gap between two methods or the gap between two models the larger one?

Every map of every model against every other, on the same images and for the same class.
"""

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from visavis.compare.pairing import Arrays, Rows
from visavis.metrics import agreement, bootstrap

GROUPS = ("same_model", "same_method", "neither", "other_seed")
"""What two maps have in common: the model, the method, nothing, or all but the training's seed.

The first three are of the first seed, and of methods that both models have: else the set of methods
would differ between them.
"""


@dataclass(frozen=True)
class Kind:
    """The maps that one method makes of the images on one model."""

    model: str
    seed: int
    method: str
    values: Float[np.ndarray, "n 8 8"]
    """NaN throughout where refused."""


def maps_of(model: str, seed: int, heatmaps: Arrays, rows: Rows, methods: list[str]) -> list[Kind]:
    """All maps of a model, at the given rows of its heatmaps.npz."""
    found = []
    for method in methods:
        refused = heatmaps[f"degenerate_{method}"][rows]
        maps = heatmaps[f"map_{method}"][rows].astype(np.float64)
        maps = np.where(refused[:, None, None], np.nan, maps)
        found.append(Kind(model, seed, method, maps))
    return found


def grid(maps: list[Kind], labels: Int[np.ndarray, " n"]) -> dict[str, Any]:
    """The excess agreement of each pair of maps, and its mean by what the two have in common.

    Excess: the rank agreement less that with the second map of another image of the class.

    Returns:
        `maps`: their names, in the order of the rows and columns of `excess`, which is symmetric
        (mean over images; None on the diagonal and where too few maps say anything). `groups`:
        for each of GROUPS the number of pairs and the mean excess over them with its interval;
        None for a group without pairs. `gap`: same_method less same_model, paired by image; above
        0, another method changes a map more than another model does.
    """
    count = len(maps)
    methods = [{of.method for of in maps if of.model == model} for model in ("cnn", "vit")]
    shared = methods[0] & methods[1]
    first = min((of.seed for of in maps), default=0)
    table: list[list[float | None]] = [[None] * count for _ in range(count)]
    by_group: dict[str, list[Float[np.ndarray, " n"]]] = {group: [] for group in GROUPS}
    for i, j in combinations(range(count), 2):
        a, b = maps[i], maps[j]
        excess = agreement.agreement_above_chance(a.values, b.values, labels)
        known = np.isfinite(excess)
        if known.sum() >= bootstrap.MINIMUM:
            table[i][j] = table[j][i] = float(excess[known].mean())
        if (group := _group(a, b, first, shared)) is not None:
            by_group[group].append(excess)
    means = {group: _mean(pairs) for group, pairs in by_group.items()}
    gap = None
    if (a_mean := means["same_method"]) is not None and (b_mean := means["same_model"]) is not None:
        gap = bootstrap.interval(a_mean - b_mean, clusters=labels)
    return {
        "n": len(labels),
        "maps": [{"model": m.model, "seed": m.seed, "method": m.method} for m in maps],
        "above_chance": table,
        "groups": {
            group: None
            if mean is None
            else {
                "pairs": len(by_group[group]),
                "above_chance": bootstrap.interval(mean, clusters=labels),
            }
            for group, mean in means.items()
        },
        "gap": gap,
    }


def _group(a: Kind, b: Kind, first: int, shared: set[str]) -> str | None:
    """What the two have in common; None for pairs that count in no group."""
    if a.seed != b.seed:
        return "other_seed" if (a.model, a.method) == (b.model, b.method) else None
    if a.seed != first or not {a.method, b.method} <= shared:
        return None
    if a.model == b.model:
        return "same_model"
    return "same_method" if a.method == b.method else "neither"


def _mean(pairs: list[Float[np.ndarray, " n"]]) -> Float[np.ndarray, " n"] | None:
    """The mean over the pairs of each image, those left out where a map says nothing."""
    if not pairs:
        return None
    values = np.stack(pairs)
    known = np.isfinite(values)
    total = np.where(known, values, 0.0).sum(axis=0)
    return np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.nan)
