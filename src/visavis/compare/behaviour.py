"""Error consistency of the two models, and the agreement of their maps for the true class."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from visavis.compare import heatmaps
from visavis.compare.pairing import Arrays, sampled_rows
from visavis.metrics import bootstrap, classification

Answers = Int[np.ndarray, " n"]


def consistency(
    correct_a: Bool[np.ndarray, " n"], correct_b: Bool[np.ndarray, " n"]
) -> dict[str, Any]:
    """Error consistency: do two models err on the same images more often than by chance?

    kappa = (observed - expected) / (1 - expected); observed is the share of images that both get
    right or both get wrong, expected the same share for independent errors, p q + (1 - p) (1 - q)
    with accuracies p and q.

    Returns:
        `kappa`: 1 if they fail on the same images, 0 if independently, negative if on others; None
        where both are always right or always wrong in a draw, or of too few images. `highest`:
        what kappa can reach with these accuracies, since the worse model must fail where the better
        one does not, (1 - |p - q| - expected) / (1 - expected); None where expected is 1.

    Source: Geirhos, Meding & Wichmann 2020, arXiv 2006.16736, section 2.
    """
    images = np.stack([correct_a, correct_b, correct_a == correct_b], axis=1).astype(np.float64)

    def kappa(means: np.ndarray) -> np.ndarray:
        p, q, observed = np.moveaxis(means, -1, 0)
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


def same_wrong_class(labels: Answers, a: Answers, b: Answers, classes: int) -> dict[str, Any]:
    """Of the images that both get wrong, how many do they take for the same class?

    Returns:
        The `share` with its interval, and what is `expected` if each model, given the true class,
        chose among the wrong ones by itself, as often as it does on all images that it gets
        wrong. None where both get no image wrong.
    """
    both = (a != labels) & (b != labels)
    if not both.any():
        return {"n": 0, "share": None, "expected": None}
    chosen = []
    for answers in (a, b):
        wrong = classification.confusion_matrix(labels, answers, classes).astype(np.float64)
        np.fill_diagonal(wrong, 0)
        chosen.append(wrong / np.maximum(wrong.sum(axis=1, keepdims=True), 1))
    by_class = (chosen[0] * chosen[1]).sum(axis=1)
    return {
        "n": int(both.sum()),
        "share": bootstrap.interval((a == b)[both]),
        "expected": float(by_class[labels[both]].mean()),
    }


def evidence_for_truth(cnn: Arrays, vit: Arrays, indices: Answers) -> dict[str, Any]:
    """Do both models see the evidence for the true class in the same places, on these images?

    Both maps are for the true class, so that the question is one, whatever each model answered.

    Args:
        indices: of test images; those of them that both models explained are used.
    """
    rows_cnn, rows_vit = sampled_rows(cnn, vit)
    kept = np.isin(cnn["indices"][rows_cnn], indices)
    kept &= ~cnn[f"degenerate_{heatmaps.CNN_METHOD}_true"][rows_cnn]
    kept &= ~vit[f"degenerate_{heatmaps.VIT_METHOD}_true"][rows_vit]
    rows_cnn, rows_vit = rows_cnn[kept], rows_vit[kept]
    return heatmaps.above_chance(
        cnn[f"map_{heatmaps.CNN_METHOD}_true"][rows_cnn],
        vit[f"map_{heatmaps.VIT_METHOD}_true"][rows_vit],
        cnn["labels"][rows_cnn],
    )
