"""How the two models behave: their errors, the cues they need, their maps for the true class."""

from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from visavis.compare import map_agreement
from visavis.compare.same_images import Arrays, shared_rows
from visavis.metrics import bootstrap, classification
from visavis.run_folder import ROLES

Labels = Int[np.ndarray, " n"]
Correct = Bool[np.ndarray, " n"]


def kappa(p: Any, q: Any, observed: Any) -> Any:
    """(observed - expected) / (1 - expected) of two models with accuracies p and q.

    Observed is the fraction of images on which both are correct or both are wrong, expected the
    same for independent errors, p q + (1 - p) (1 - q). Numbers or arrays; NaN if expected is 1.
    """
    expected = _by_chance(p, q)
    return (observed - expected) / np.where(expected < 1, 1 - expected, np.nan)


def _by_chance(p: Any, q: Any) -> Any:
    return p * q + (1 - p) * (1 - q)


def consistency(
    correct_a: Bool[np.ndarray, " n"], correct_b: Bool[np.ndarray, " n"]
) -> dict[str, Any]:
    """Error consistency: do two models err on the same images more often than by chance?

    Returns:
        `kappa`: 1 if both err on the same images, 0 if independently, negative if on different
        ones; None for too few images, or if both are always correct or always wrong in a bootstrap
        sample. `highest`: the maximum of kappa for these accuracies, at observed = 1 - |p - q|,
        since the worse model must err where the better one does not; None if expected is 1.

    Source: Geirhos, Meding & Wichmann 2020, arXiv 2006.16736, section 2.
    """
    images = np.stack([correct_a, correct_b, correct_a == correct_b], axis=1).astype(np.float64)
    p, q, observed = images.mean(axis=0).tolist()
    expected = _by_chance(p, q)
    return {
        "kappa": bootstrap.drawn_interval(images, lambda means: kappa(*means.T)),
        "observed": observed,
        "expected": expected,
        "highest": float(kappa(p, q, 1 - abs(p - q))) if expected < 1 else None,
    }


def same_wrong_class(labels: Labels, a: Labels, b: Labels, classes: int) -> dict[str, Any]:
    """Of the images that both misclassify, for how many do they predict the same class?

    Returns:
        The `share` with its interval, and the share `expected` if, given the true class, the two
        models drew their wrong predictions independently, each from its own confusion matrix. None
        if there are no such images, or if two classes leave only one that is wrong.
    """
    both = (a != labels) & (b != labels)
    if classes == 2 or not both.any():
        return {"n": int(both.sum()), "share": None, "expected": None}
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


def without_cue(
    correct: tuple[Correct, Correct], without: tuple[Correct, Correct], chance: float
) -> dict[str, Any]:
    """Accuracy of both models on images without a cue, and how much of it each keeps.

    kept = (accuracy without the cue - chance) / (accuracy - chance), on the same images: 1 if the
    model can do without the cue, 0 if nothing is left without it. Unlike the fall in accuracy, it
    does not grow with the accuracy that there is to lose.

    Args:
        correct: where each model is correct on the images as they are.
        without: where it is correct without the cue.
        chance: accuracy of one prediction for all images.

    Returns:
        `accuracy` and `kept` of each model, and the first's minus the second's (`difference`,
        `kept_difference`), paired by image. What is kept is None for too few images, or if an
        accuracy is at chance in a bootstrap sample.
    """
    images = np.stack([*correct, *without], axis=1).astype(np.float64)

    def kept(means: np.ndarray, model: int) -> np.ndarray:
        whole, left = means[:, model] - chance, means[:, 2 + model] - chance
        return left / np.where(whole > 0, whole, np.nan)

    return {
        "accuracy": {role: bootstrap.interval(of) for role, of in zip(ROLES, without, strict=True)},
        "difference": bootstrap.paired_difference(*without),
        "kept": {
            role: bootstrap.drawn_interval(images, partial(kept, model=model))
            for model, role in enumerate(ROLES)
        },
        "kept_difference": bootstrap.drawn_interval(
            images, lambda means: kept(means, 0) - kept(means, 1)
        ),
    }


def evidence_for_truth(
    first: Arrays, second: Arrays, indices: Labels, methods: map_agreement.Methods
) -> dict[str, Any]:
    """Agreement of both models' maps for the true class, whatever each model predicted.

    Args:
        indices: of test images, of which those that both models explained are used.
        methods: class-specific.
    """
    rows_a, rows_b = shared_rows(first, second)
    kept = np.isin(first["indices"][rows_a], indices)
    kept &= ~first[f"degenerate_{methods[0]}_true"][rows_a]
    kept &= ~second[f"degenerate_{methods[1]}_true"][rows_b]
    rows_a, rows_b = rows_a[kept], rows_b[kept]
    return map_agreement.above_chance(
        first[f"map_{methods[0]}_true"][rows_a],
        second[f"map_{methods[1]}_true"][rows_b],
        first["labels"][rows_a],
    )
