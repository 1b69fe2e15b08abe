"""Error consistency of the two models, and agreement of their maps for the true class."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from visavis.compare import heatmaps
from visavis.compare.pairing import Arrays, sampled_rows
from visavis.metrics import bootstrap, classification

Labels = Int[np.ndarray, " n"]


def consistency(
    correct_a: Bool[np.ndarray, " n"], correct_b: Bool[np.ndarray, " n"]
) -> dict[str, Any]:
    """Error consistency: do two models err on the same images more often than by chance?

    kappa = (observed - expected) / (1 - expected); observed is the fraction of images on which
    both models are correct or both are wrong, expected the same for independent errors,
    p q + (1 - p) (1 - q) with accuracies p and q.

    Returns:
        `kappa`: 1 if both err on the same images, 0 if independently, negative if on different
        ones; None for too few images, or if both are always correct or always wrong in a bootstrap
        sample. `highest`: the maximum of kappa for these accuracies,
        (1 - |p - q| - expected) / (1 - expected), since the worse model must err where the better
        one does not; None if expected is 1.

    Source: Geirhos, Meding & Wichmann 2020, arXiv 2006.16736, section 2.
    """
    images = np.stack([correct_a, correct_b, correct_a == correct_b], axis=1).astype(np.float64)

    def kappa(means: np.ndarray) -> np.ndarray:
        p, q, observed = means.T
        expected = p * q + (1 - p) * (1 - q)
        return (observed - expected) / np.where(expected < 1, 1 - expected, np.nan)

    p, q, observed = images.mean(axis=0).tolist()
    expected = p * q + (1 - p) * (1 - q)
    return {
        "kappa": bootstrap.drawn_interval(images, kappa),
        "observed": observed,
        "expected": expected,
        "highest": (1 - abs(p - q) - expected) / (1 - expected) if expected < 1 else None,
    }


def same_wrong_class(labels: Labels, a: Labels, b: Labels, classes: int) -> dict[str, Any]:
    """Of the images that both misclassify, for how many do they predict the same class?

    Returns:
        The `share` with its interval, and the share `expected` if, given the true class, the two
        models drew their wrong predictions independently, each from its own confusion matrix. None
        if there are no such images.
    """
    both = (a != labels) & (b != labels)
    if not both.any():
        return {"n": 0, "share": None, "expected": None}
    chosen = []
    for predicted in (a, b):
        wrong = classification.confusion_matrix(labels, predicted, classes).astype(np.float64)
        np.fill_diagonal(wrong, 0)
        chosen.append(wrong / np.maximum(wrong.sum(axis=1, keepdims=True), 1))
    by_class = (chosen[0] * chosen[1]).sum(axis=1)
    return {
        "n": int(both.sum()),
        "share": bootstrap.interval((a == b)[both]),
        "expected": float(by_class[labels[both]].mean()),
    }


def evidence_for_truth(
    first: Arrays, second: Arrays, indices: Labels, methods: heatmaps.Methods
) -> dict[str, Any]:
    """Agreement of both models' maps for the true class, whatever each model predicted.

    Args:
        indices: of test images, of which those that both models explained are used.
        methods: class-specific.
    """
    rows_a, rows_b = sampled_rows(first, second)
    kept = np.isin(first["indices"][rows_a], indices)
    kept &= ~first[f"degenerate_{methods[0]}_true"][rows_a]
    kept &= ~second[f"degenerate_{methods[1]}_true"][rows_b]
    rows_a, rows_b = rows_a[kept], rows_b[kept]
    return heatmaps.above_chance(
        first[f"map_{methods[0]}_true"][rows_a],
        second[f"map_{methods[1]}_true"][rows_b],
        first["labels"][rows_a],
    )
