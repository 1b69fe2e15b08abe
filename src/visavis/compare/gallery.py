"""Test images as rows for browsing: predictions, confidence and agreement of the maps."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from visavis.compare.same_images import Arrays, maps_at, shared_rows
from visavis.metrics.agreement import rank_agreement
from visavis.metrics.classification import buckets
from visavis.run_folder import ROLES


def rows(
    indices: Int[np.ndarray, " n"],
    labels: Int[np.ndarray, " n"],
    predicted: dict[str, Int[np.ndarray, " n"]],
    confidence: dict[str, Float[np.ndarray, " n"]],
    class_names: list[str],
    similarity: dict[int, float],
) -> list[dict[str, Any]]:
    """One row for each image: `index`, `true`, both models' predictions and confidence, and more.

    Args:
        predicted: by role, as `confidence`.
        similarity: agreement of both models' maps, by the index of the image, where known.
    """
    bucket_of = np.empty(len(labels), dtype=object)
    for key, inside in buckets(labels, *(predicted[role] for role in ROLES)).items():
        bucket_of[inside] = key
    return [
        {
            "index": int(index),
            "true": class_names[labels[i]],
            **{role: class_names[predicted[role][i]] for role in ROLES},
            **{f"{r}_confidence": round(float(confidence[r][i]), 4) for r in ROLES},
            "bucket": bucket_of[i],
            "similarity": similarity.get(int(index)),
        }
        for i, index in enumerate(indices)
    ]


def similarity(heatmaps: dict[str, Arrays], methods: dict[str, str]) -> dict[int, float]:
    """Rank agreement of both models' maps, by the index of the image.

    On the sampled images for which both predict the same class and neither map is degenerate.

    Args:
        methods: one for each role, as `heatmaps`.
    """
    rows = shared_rows(*(heatmaps[role] for role in ROLES), same_prediction=True)
    both = dict(zip(ROLES, rows, strict=True))
    found = rank_agreement(*(maps_at(heatmaps[r], methods[r], both[r]) for r in ROLES))
    known = np.isfinite(found)
    indices = heatmaps["first"]["indices"][both["first"]]
    return {int(i): round(float(v), 3) for i, v in zip(indices[known], found[known], strict=True)}
