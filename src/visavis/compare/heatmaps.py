"""Agreement of the two models' maps, and where a model looks when its prediction is wrong."""

from typing import Any

import numpy as np
from jaxtyping import Float

from visavis.compare.pairing import Arrays, Rows
from visavis.metrics import agreement, bootstrap

CNN_METHOD = "grad_cam"
VIT_METHOD = "gradient_attention"
"""The class-specific default methods."""


def above_chance(
    a: Float[np.ndarray, "n h w"], b: Float[np.ndarray, "n h w"], classes: Rows
) -> dict[str, Any]:
    """Rank agreement, its within-class permutation baseline, and their paired difference."""
    agreed = agreement.rank_agreement(a, b)
    baseline = agreement.permutation_baseline(a, b, classes) if len(a) else agreed
    known = np.isfinite(agreed) & np.isfinite(baseline)
    return {
        "n": int(known.sum()),
        "agreement": bootstrap.interval(agreed[known], clusters=classes[known]),
        "permutation_baseline": bootstrap.interval(baseline[known], clusters=classes[known]),
        "above_chance": bootstrap.interval((agreed - baseline)[known], clusters=classes[known]),
    }


def same_place(maps: Arrays, method: str) -> dict[str, Any]:
    """Agreement of the map for the predicted class with that for the true class.

    Computed on the sampled images that the model misclassifies. The baseline uses the true class's
    map of another image with the same prediction.
    """
    rows = maps["in_sample"] & (maps["predicted"] != maps["labels"])
    rows &= ~(maps[f"degenerate_{method}"] | maps[f"degenerate_{method}_true"])
    predicted, true = maps[f"map_{method}"][rows], maps[f"map_{method}_true"][rows]
    return above_chance(predicted, true, maps["predicted"][rows])


def similarity(cnn: Arrays, vit: Arrays, rows: tuple[Rows, ...], vit_method: str) -> dict[str, Any]:
    """Agreement of the CNN's Grad-CAM with one of the ViT's methods, in total and above chance."""
    rows_cnn, rows_vit = _without_degenerate(cnn, vit, rows, vit_method)
    a, b = cnn[f"map_{CNN_METHOD}"][rows_cnn], vit[f"map_{vit_method}"][rows_vit]
    classes = cnn["predicted"][rows_cnn]
    overlap = agreement.top_k_iou(a, b)
    partner = agreement.same_class_partner(classes, seed=0)
    baseline = np.where(partner < 0, np.nan, agreement.top_k_iou(a, b[partner]))
    return {
        "cnn_method": CNN_METHOD,
        "vit_method": vit_method,
        **above_chance(a, b, classes),
        "top_k_iou": bootstrap.interval(overlap, clusters=classes),
        "top_k_iou_baseline": bootstrap.interval(baseline, clusters=classes),
    }


def side_by_side(cnn: Arrays, vit: Arrays, rows: tuple[Rows, ...]) -> dict[str, Any]:
    """The correctly classified images with the highest and the lowest agreement of both maps."""
    rows_cnn, rows_vit = _without_degenerate(cnn, vit, rows, VIT_METHOD)
    correct = cnn["predicted"][rows_cnn] == cnn["labels"][rows_cnn]
    rows_cnn, rows_vit = rows_cnn[correct], rows_vit[correct]
    agreed = agreement.rank_agreement(
        cnn[f"map_{CNN_METHOD}"][rows_cnn], vit[f"map_{VIT_METHOD}"][rows_vit]
    )

    def image(position: int) -> dict[str, Any]:
        return {
            "index": int(cnn["indices"][rows_cnn[position]]),
            "row_cnn": int(rows_cnn[position]),
            "row_vit": int(rows_vit[position]),
            "agreement": float(agreed[position]),
        }

    known = bool(np.isfinite(agreed).any())
    return {
        "rule": f"of the {len(rows_cnn)} sampled test images that both models classify correctly "
        "and whose maps are not degenerate, the one whose two maps have the highest rank "
        "correlation and the one whose maps have the lowest",
        "cnn_method": CNN_METHOD,
        "vit_method": VIT_METHOD,
        "highest_agreement": image(int(np.nanargmax(agreed))) if known else None,
        "lowest_agreement": image(int(np.nanargmin(agreed))) if known else None,
    }


def _without_degenerate(
    cnn: Arrays, vit: Arrays, rows: tuple[Rows, ...], vit_method: str
) -> tuple[np.ndarray, np.ndarray]:
    rows_cnn, rows_vit = rows
    valid = ~cnn[f"degenerate_{CNN_METHOD}"][rows_cnn] & ~vit[f"degenerate_{vit_method}"][rows_vit]
    return rows_cnn[valid], rows_vit[valid]
