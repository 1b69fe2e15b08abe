"""Whether the two models' maps agree, and where a model looks when it is wrong."""

from typing import Any

import numpy as np
from jaxtyping import Float

from visavis.compare.pairing import Arrays, Rows
from visavis.metrics import agreement, bootstrap

CNN_METHOD = "grad_cam"
VIT_METHOD = "gradient_attention"
"""The class-specific maps that stand face to face."""

SHUFFLE_SEED = 0


def same_place(maps: Arrays, method: str) -> dict[str, Any]:
    """Agreement of the map for the class that the model named with that for the true one.

    On the sampled images that the model gets wrong; the floor is with the true class's map of
    another image that was taken for the same class.
    """
    rows = maps["in_sample"] & (maps["predicted"] != maps["labels"])
    rows &= ~(maps[f"degenerate_{method}"] | maps[f"degenerate_{method}_true"])
    named, true = maps[f"map_{method}"][rows], maps[f"map_{method}_true"][rows]
    return above_chance(named, true, maps["predicted"][rows])


def above_chance(
    a: Float[np.ndarray, "n h w"], b: Float[np.ndarray, "n h w"], classes: Rows
) -> dict[str, Any]:
    """Rank agreement, its floor with images of a class shuffled, and the paired difference."""
    agreed = agreement.rank_agreement(a, b)
    floor: Float[np.ndarray, " n"] = (
        agreement.permutation_baseline(a, b, classes, seed=SHUFFLE_SEED) if len(a) else agreed
    )
    known = np.isfinite(agreed) & np.isfinite(floor)
    return {
        "n": int(known.sum()),
        "agreement": bootstrap.interval(agreed[known], clusters=classes[known]),
        "permutation_baseline": bootstrap.interval(floor[known], clusters=classes[known]),
        "above_chance": bootstrap.interval((agreed - floor)[known], clusters=classes[known]),
    }


def similarity(
    cnn: Arrays,
    vit: Arrays,
    rows_cnn: Rows,
    rows_vit: Rows,
    vit_method: str,
) -> dict[str, Any]:
    """Agreement of the CNN's Grad-CAM with one of the ViT's maps, and what of it is not layout."""
    kept = ~(cnn[f"degenerate_{CNN_METHOD}"][rows_cnn] | vit[f"degenerate_{vit_method}"][rows_vit])
    rows_cnn, rows_vit = rows_cnn[kept], rows_vit[kept]
    ours, theirs = cnn[f"map_{CNN_METHOD}"][rows_cnn], vit[f"map_{vit_method}"][rows_vit]
    classes = cnn["predicted"][rows_cnn]
    overlap = agreement.top_k_iou(ours, theirs)
    partner = agreement.same_class_partner(classes, SHUFFLE_SEED)
    shuffled = np.where(partner < 0, np.nan, agreement.top_k_iou(ours, theirs[partner]))
    return {
        "cnn_method": CNN_METHOD,
        "vit_method": vit_method,
        **above_chance(ours, theirs, classes),
        "top_k_iou": bootstrap.interval(overlap, clusters=classes),
        "top_k_iou_baseline": bootstrap.interval(shuffled, clusters=classes),
    }


def side_by_side(
    cnn: Arrays,
    vit: Arrays,
    rows_cnn: Rows,
    rows_vit: Rows,
) -> dict[str, Any]:
    """The images that both models get right whose two maps agree most, and least."""
    kept = cnn["predicted"][rows_cnn] == cnn["labels"][rows_cnn]
    kept &= ~(cnn[f"degenerate_{CNN_METHOD}"][rows_cnn] | vit[f"degenerate_{VIT_METHOD}"][rows_vit])
    rows_cnn, rows_vit = rows_cnn[kept], rows_vit[kept]
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
        "rule": f"of the {len(rows_cnn)} sampled test images that both models name correctly and "
        "explain, the one whose two maps have the highest rank correlation and the one whose maps "
        "have the lowest",
        "cnn_method": CNN_METHOD,
        "vit_method": VIT_METHOD,
        "highest_agreement": image(int(np.nanargmax(agreed))) if known else None,
        "lowest_agreement": image(int(np.nanargmin(agreed))) if known else None,
    }
