"""Accuracy, F1 and the tests that compare two classifiers, from labels and predicted classes."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

from visavis.metrics.bootstrap import RESAMPLES, Interval, of_draws


def confusion_matrix(
    labels: Int[np.ndarray, " n"], predicted: Int[np.ndarray, " n"], classes: int
) -> Int[np.ndarray, "classes classes"]:
    """How many images of the row's class were predicted as the column's class."""
    counts = np.bincount(labels * classes + predicted, minlength=classes * classes)
    return counts.reshape(classes, classes)


def accuracy(confusion: Int[np.ndarray, "classes classes"]) -> float:
    """Fraction of images on the diagonal."""
    return float(np.trace(confusion) / confusion.sum())


def f1_per_class(confusion: Int[np.ndarray, "classes classes"]) -> Float[np.ndarray, " classes"]:
    """F1 = 2 TP / (2 TP + FP + FN), the harmonic mean of precision and recall.

    0 for a class that is neither present nor predicted, where F1 is undefined.
    """
    present_and_predicted = confusion.sum(axis=1) + confusion.sum(axis=0)
    return 2 * np.diagonal(confusion) / np.maximum(present_and_predicted, 1)


def f1_macro(confusion: Int[np.ndarray, "classes classes"]) -> float:
    """The mean of `f1_per_class` over the classes that are present or predicted."""
    occurring = confusion.any(axis=1) | confusion.any(axis=0)
    return float(f1_per_class(confusion).sum()) / max(int(occurring.sum()), 1)


def macro_f1_intervals(
    labels: Int[np.ndarray, " n"],
    predicted_a: Int[np.ndarray, " n"],
    predicted_b: Int[np.ndarray, " n"],
    classes: int,
) -> tuple[Interval, Interval, Interval]:
    """Macro F1 of model a, of model b, and a minus b, on the same resamples of images.

    A resample is a multinomial draw of the counts of (label, a's prediction, b's prediction), which
    is exact and needs no index per image.
    """
    triples = np.stack([labels, predicted_a, predicted_b], axis=1)
    kinds, counts = np.unique(triples, axis=0, return_counts=True)
    drawn = np.random.default_rng(0).multinomial(len(labels), counts / counts.sum(), RESAMPLES)
    times = np.concatenate([counts[None], drawn])
    of_class = [np.eye(classes)[kinds[:, k]] for k in range(3)]  # label, a, b
    present = times @ of_class[0]

    def macro_f1(model: int) -> Float[np.ndarray, " draws"]:
        correct = kinds[:, 0] == kinds[:, model]
        hits = times[:, correct] @ of_class[0][correct]
        both = present + times @ of_class[model]
        return (2 * hits / np.maximum(both, 1)).sum(axis=1) / np.maximum((both > 0).sum(axis=1), 1)

    a, b = macro_f1(1), macro_f1(2)
    first, second, difference = (of_draws(x[0], x[1:]) for x in (a, b, a - b))
    return first, second, difference


def mcnemar(first: Bool[np.ndarray, " n"], second: Bool[np.ndarray, " n"]) -> dict[str, Any]:
    """McNemar's exact test of equal accuracy, from where each model is correct.

    Returns:
        {"only_first", "only_second": images that one model alone predicts correctly, "p_value":
        two-sided}; the p-value is 1 where correctness never differs.

    Source: McNemar 1947, in the exact binomial form.
    """
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    differing = only_first + only_second
    p_value = stats.binomtest(only_first, differing, 0.5).pvalue if differing else 1.0
    return {"only_first": only_first, "only_second": only_second, "p_value": float(p_value)}


def buckets(
    labels: Int[np.ndarray, " n"], a: Int[np.ndarray, " n"], b: Int[np.ndarray, " n"]
) -> dict[str, Bool[np.ndarray, " n"]]:
    """The test images by which models predict them correctly; each image is in one bucket."""
    correct_a, correct_b = a == labels, b == labels
    neither = ~correct_a & ~correct_b
    return {
        "both_correct": correct_a & correct_b,
        "only_first": correct_a & ~correct_b,
        "only_second": ~correct_a & correct_b,
        "both_wrong_same": neither & (a == b),
        "both_wrong_different": neither & (a != b),
    }
