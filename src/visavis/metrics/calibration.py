"""Calibration: does confidence match accuracy, before and after temperature scaling?"""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from visavis.metrics import bootstrap

BINS = 15
"""Equally wide bins of confidence, from 0 to 1."""


def calibration(
    logits: Float[np.ndarray, "n classes"],
    labels: Int[np.ndarray, " n"],
    validation_logits: Float[np.ndarray, "m classes"],
    validation_labels: Int[np.ndarray, " m"],
) -> dict[str, Any]:
    """Confidence against accuracy on the test images.

    Returns:
        The `temperature`, and under `uncalibrated` and `temperature_scaled` (logits divided by it)
        each the calibration `error`, the mean `confidence`, `accuracy_minus_confidence` (paired by
        image; above 0: underconfident), and the `bins` that are not empty.
    """
    value = temperature(validation_logits, validation_labels)
    return {
        "temperature": value,
        "uncalibrated": _reliability(logits, labels),
        "temperature_scaled": _reliability(logits / value, labels),
    }


def temperature(logits: Float[np.ndarray, "m classes"], labels: Int[np.ndarray, " m"]) -> float:
    """The divisor of the logits with the lowest cross-entropy, from 1/20 to 20.

    Above 1: the model was overconfident. It changes no prediction, since the order of the classes
    stays. For a model that is always correct the optimum would be 0, hence the lower limit.

    Source: Guo et al. 2017, section 4.2 (temperature scaling).
    """
    rows = np.arange(len(labels))
    logits = logits.astype(np.float64)

    def loss(log_value: float) -> float:
        return -float(log_softmax(logits / np.exp(log_value), axis=1)[rows, labels].mean())

    limit = np.log(20)
    return float(np.exp(minimize_scalar(loss, bounds=(-limit, limit), method="bounded").x))


def expected_calibration_error(
    confidence: Float[np.ndarray, " n"], correct: Bool[np.ndarray, " n"]
) -> bootstrap.Interval | None:
    """Expected calibration error: the mean distance of accuracy from confidence over the bins.

    Each of BINS bins is weighted by its fraction of the images. 0: confidence equals accuracy in
    each bin; at most 1. Even a perfectly calibrated model is above 0 on a finite number of images.
    None for fewer than `bootstrap.MINIMUM` images.

    The interval is a basic bootstrap (Davison & Hinkley 1997, section 5.2): resampling adds to the
    error what sampling has added to it already, so the percentiles lie too high, and may all lie
    above the value. It ends at 0, and at the value where the upper end would lie below it.

    Source: Naeini et al. 2015; Guo et al. 2017, equation 3.
    """
    places = _bin(confidence)
    gaps = (correct - confidence.astype(np.float64))[:, None] * (places[:, None] == np.arange(BINS))
    found = bootstrap.drawn_interval(gaps, lambda means: np.abs(means).sum(axis=-1))
    if found is None:
        return None
    value = found["value"]
    low, high = 2 * value - found["high"], 2 * value - found["low"]
    return {"value": value, "low": max(low, 0.0), "high": max(high, value)}


def _bin(confidence: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    return np.minimum((confidence * BINS).astype(int), BINS - 1)


def _reliability(
    logits: Float[np.ndarray, "n classes"], labels: Int[np.ndarray, " n"]
) -> dict[str, Any]:
    probabilities = softmax(logits.astype(np.float64), axis=1)
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    places = _bin(confidence)
    bins = [places == place for place in range(BINS)]
    return {
        "error": expected_calibration_error(confidence, correct),
        "confidence": float(confidence.mean()),
        "accuracy_minus_confidence": bootstrap.paired_difference(correct, confidence),
        "bins": [
            {
                "n": int(inside.sum()),
                "confidence": float(confidence[inside].mean()),
                "accuracy": bootstrap.interval(correct[inside]),
            }
            for inside in bins
            if inside.any()
        ],
    }
