"""Whether a model is as often right as it says, before and after one number puts it right."""

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
        The `temperature`, and under `uncalibrated` and `scaled` (logits divided by the temperature)
        each the calibration `error`, the mean `confidence`, and the `bins` that are not empty.
    """
    value = temperature(validation_logits, validation_labels)
    return {
        "temperature": value,
        "uncalibrated": _told(logits, labels),
        "temperature_scaled": _told(logits / value, labels),
    }


def temperature(logits: Float[np.ndarray, "m classes"], labels: Int[np.ndarray, " m"]) -> float:
    """What logits must be divided by for the lowest cross-entropy, from 1/20 to 20.

    Above 1: the model was too sure. It changes no answer, for the order of the classes stays. A
    model that is always right would have to be surer without end, so 1/20 is the least.

    Source: Guo et al. 2017, section 4.2 (temperature scaling).
    """
    rows = np.arange(len(labels))
    logits = logits.astype(np.float64)

    def loss(log_value: float) -> float:
        return -float(log_softmax(logits / np.exp(log_value), axis=1)[rows, labels].mean())

    limit = np.log(20)
    return float(np.exp(minimize_scalar(loss, bounds=(-limit, limit), method="bounded").x))


def expected_error(
    confidence: Float[np.ndarray, " n"], right: Bool[np.ndarray, " n"]
) -> bootstrap.Interval | None:
    """Expected calibration error: the mean distance of accuracy from confidence over the bins.

    Each of BINS bins counts by the share of images in it. 0: right exactly as often as it says;
    at most 1. Even a perfect model has a little, for the accuracy of a bin is known from few
    images only. None for fewer than `bootstrap.MINIMUM` images.

    Source: Naeini et al. 2015; Guo et al. 2017, equation 3.
    """
    places = _bin(confidence)
    gaps = (right - confidence.astype(np.float64))[:, None] * (places[:, None] == np.arange(BINS))
    return bootstrap.drawn_interval(gaps, lambda means: np.abs(means).sum(axis=-1))


def _bin(confidence: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    return np.minimum((confidence * BINS).astype(int), BINS - 1)


def _told(logits: Float[np.ndarray, "n classes"], labels: Int[np.ndarray, " n"]) -> dict[str, Any]:
    probabilities = softmax(logits.astype(np.float64), axis=1)
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    places = _bin(confidence)
    rows = []
    for place in range(BINS):
        inside = places == place
        if inside.any():
            rows.append(
                {
                    "n": int(inside.sum()),
                    "confidence": float(confidence[inside].mean()),
                    "accuracy": bootstrap.interval(right[inside]),
                }
            )
    return {
        "error": expected_error(confidence, right),
        "confidence": float(confidence.mean()),
        "bins": rows,
    }
