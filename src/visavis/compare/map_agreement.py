"""Agreement of the two models' maps, and where a model looks when its prediction is wrong."""

from typing import Any

import numpy as np
from jaxtyping import Float

from visavis.compare.same_images import Arrays, Rows
from visavis.metrics import agreement, bootstrap

Methods = tuple[str, str]
"""One of the first model and one of the second."""


def above_chance(
    a: Float[np.ndarray, "n h w"], b: Float[np.ndarray, "n h w"], classes: Rows
) -> dict[str, Any]:
    """Rank agreement, its within-class permutation baseline, and their paired difference."""
    ranks = np.stack([agreement.unit_ranks(maps) for maps in (a, b)])
    others = agreement.of_other_images(ranks, classes)
    agreed = agreement.pairwise(ranks)[:, 0, 1]
    baseline = agreement.pairwise_baseline(ranks, others)[:, 0, 1]
    known = np.isfinite(agreed) & np.isfinite(baseline)
    return {
        "n": int(known.sum()),
        "agreement": bootstrap.interval(agreed[known], classes=classes[known]),
        "permutation_baseline": bootstrap.interval(baseline[known], classes=classes[known]),
        "above_chance": bootstrap.interval((agreed - baseline)[known], classes=classes[known]),
    }


def same_place(maps: Arrays, method: str) -> dict[str, Any]:
    """Agreement of the map for the predicted class with that for the true class.

    Computed on images that the model misclassifies. In the baseline, either map is of another image
    with the same prediction.
    """
    rows = maps["is_mistake"] & ~(maps[f"degenerate_{method}"] | maps[f"degenerate_{method}_true"])
    predicted, true = maps[f"map_{method}"][rows], maps[f"map_{method}_true"][rows]
    return above_chance(predicted, true, maps["predicted"][rows])


def similarity(
    first: Arrays, second: Arrays, rows: tuple[Rows, ...], methods: Methods
) -> dict[str, Any]:
    """Agreement of the first model's map with the second's, in total and above chance."""
    rows_a, rows_b = _without_degenerate(first, second, rows, methods)
    a, b = first[f"map_{methods[0]}"][rows_a], second[f"map_{methods[1]}"][rows_b]
    classes = first["predicted"][rows_a]
    overlap = agreement.top_k_iou(a, b)
    partner = agreement.same_class_partner(classes, seed=0)
    baseline = np.where(partner < 0, np.nan, agreement.top_k_iou(a, b[partner]))
    return {
        "first_method": methods[0],
        "second_method": methods[1],
        **above_chance(a, b, classes),
        "top_k_iou": bootstrap.interval(overlap, classes=classes),
        "top_k_iou_baseline": bootstrap.interval(baseline, classes=classes),
    }


def side_by_side(
    first: Arrays, second: Arrays, rows: tuple[Rows, ...], methods: Methods
) -> dict[str, Any]:
    """The correctly classified images with the highest and the lowest agreement of both maps."""
    rows_a, rows_b = _without_degenerate(first, second, rows, methods)
    correct = first["predicted"][rows_a] == first["labels"][rows_a]
    rows_a, rows_b = rows_a[correct], rows_b[correct]
    agreed = agreement.rank_agreement(
        first[f"map_{methods[0]}"][rows_a], second[f"map_{methods[1]}"][rows_b]
    )

    def image(position: int) -> dict[str, Any]:
        return {
            "index": int(first["indices"][rows_a[position]]),
            "row_first": int(rows_a[position]),
            "row_second": int(rows_b[position]),
            "agreement": float(agreed[position]),
        }

    known = bool(np.isfinite(agreed).any())
    return {
        "rule": f"of the {len(rows_a)} sampled test images that both models classify correctly "
        "and whose maps are not degenerate, the one whose two maps have the highest rank "
        "correlation and the one whose maps have the lowest",
        "first_method": methods[0],
        "second_method": methods[1],
        "highest_agreement": image(int(np.nanargmax(agreed))) if known else None,
        "lowest_agreement": image(int(np.nanargmin(agreed))) if known else None,
    }


def _without_degenerate(
    first: Arrays, second: Arrays, rows: tuple[Rows, ...], methods: Methods
) -> tuple[np.ndarray, np.ndarray]:
    rows_a, rows_b = rows
    valid = ~first[f"degenerate_{methods[0]}"][rows_a] & ~second[f"degenerate_{methods[1]}"][rows_b]
    return rows_a[valid], rows_b[valid]
