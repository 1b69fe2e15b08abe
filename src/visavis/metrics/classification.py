"""Accuracy, F1 and the tests that compare two classifiers, from labels and predicted classes."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats


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
    counts = [confusion.sum(axis=1), confusion.sum(axis=0), np.diagonal(confusion)]
    return float(f1_macro_of(np.concatenate(counts, dtype=float)[None])[0])


def f1_columns(
    labels: Int[np.ndarray, " n"], predicted: Int[np.ndarray, " n"], classes: int
) -> Float[np.ndarray, "n columns"]:
    """For each image its class, the predicted class, and again the latter if correct, one-hot."""
    truth, guess = np.eye(classes)[labels], np.eye(classes)[predicted]
    return np.concatenate([truth, guess, truth * guess], axis=1)


def f1_macro_of(means: Float[np.ndarray, "draws columns"]) -> Float[np.ndarray, " draws"]:
    """Macro F1 from means over images of `f1_columns`."""
    truth, guess, hit = np.split(means, 3, axis=1)
    occurring = truth + guess > 0
    f1 = 2 * hit / np.where(occurring, truth + guess, 1)
    return f1.sum(axis=1) / np.maximum(occurring.sum(axis=1), 1)


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
