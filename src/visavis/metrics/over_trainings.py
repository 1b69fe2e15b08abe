"""Means over several trainings of a model, with an interval for each question.

- `images`: these trainings, other test images. A bootstrap over images (`metrics.bootstrap`).
- `trainings`: these images, other trainings, that is, other seeds. Student's t interval of the
  values of the trainings. Resampling two or three of them, as a bootstrap of both levels does,
  makes far too narrow an interval: docs/methods.md has its coverage.
- `both`: other trainings and other images. The two intervals above as those of independent parts
  of the error, combined by MOVER: their distances from the value add up in squares, on either side
  (Zou & Donner 2008, doi 10.1002/sim.3095, equation 4). What a training does to single images is in
  both parts, so this interval is on the wide side.

The trainings of a model differ in their seeds alone, and are all tested on the same images.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from visavis.metrics import bootstrap
from visavis.metrics.bootstrap import LEVEL, Interval

Spread = dict[str, Any]
"""The `values` of the trainings, their mean (`value`) and standard deviation (`sd`, None for one
training), and the intervals `images`, `trainings` and `both`: None where they are not available."""


def spread(
    of_images: Float[np.ndarray, "trainings n"], *, classes: Int[np.ndarray, " n"] | None = None
) -> Spread | None:
    """The mean of a score that each training has on each image.

    Images on which one training has no score (NaN) are left out; None if none remains.

    Args:
        classes: of each image, within which images are resampled.
    """
    known = np.isfinite(of_images).all(axis=0)
    if not known.any():
        return None
    kept = of_images[:, known].astype(np.float64)
    over_images = bootstrap.interval(
        kept.mean(axis=0), classes=None if classes is None else classes[known]
    )
    return with_trainings(kept.mean(axis=1), over_images)


def with_trainings(
    values: Float[np.ndarray, " trainings"],
    over_images: Interval | None,
    *,
    lowest: float = -np.inf,
    highest: float = np.inf,
) -> Spread:
    """The mean of `values`, with the intervals over trainings and over both.

    Args:
        lowest: with `highest`, the range of the score, at which intervals end.
    """
    n, value = len(values), float(values.mean())
    sd = _variance(values) ** 0.5 if n > 1 else None
    error = None if sd is None else sd / n**0.5
    found = _intervals(value, over_images, error, n - 1.0)
    for of in filter(None, found.values()):
        of["low"], of["high"] = max(of["low"], lowest), min(of["high"], highest)
    return {
        "values": values.tolist(),
        "value": value,
        "sd": sd,
        "images": over_images,
        **found,
    }


def difference(
    first: Float[np.ndarray, " a"], second: Float[np.ndarray, " b"], over_images: Interval | None
) -> dict[str, Any]:
    """The mean of `first` minus that of `second`: the values of two models' trainings.

    Its interval over trainings is Welch's (1947): trainings are not paired.

    Returns:
        `value`, the three intervals, and how many of the `pairs` of a training of the first and
        one of the second have the first ahead (`pairs_above`) and the second (`pairs_below`).
    """
    value = float(first.mean() - second.mean())
    error, free = None, 0.0
    if min(len(first), len(second)) > 1:
        parts = np.array([_variance(of) / len(of) for of in (first, second)])
        freedoms = np.array([len(first), len(second)]) - 1
        error, free = float(parts.sum() ** 0.5), float(freedoms.sum())
        if error > 0:
            free = float(parts.sum() ** 2 / (parts**2 / freedoms).sum())
    return {
        "value": value,
        "pairs": len(first) * len(second),
        "pairs_above": int((first[:, None] > second).sum()),
        "pairs_below": int((first[:, None] < second).sum()),
        "images": over_images,
        **_intervals(value, over_images, error, free),
    }


def _variance(values: Float[np.ndarray, " trainings"]) -> float:
    """0 of equal values, whose mean is rounded and would leave a little."""
    return float(values.var(ddof=1)) if np.ptp(values) else 0.0


def _intervals(
    value: float, over_images: Interval | None, error: float | None, free: float
) -> dict[str, Interval | None]:
    """The intervals over trainings and over both.

    Args:
        error: the standard error over trainings, with `free` degrees of freedom; None for one
            training. Trainings whose scores are equal to the last digit say nothing of others.
    """
    if not error:
        return {"trainings": None, "both": None}
    half = float(stats.t.ppf((1 + LEVEL) / 2, free)) * error
    trainings = {"value": value, "low": value - half, "high": value + half}
    if over_images is None:
        return {"trainings": trainings, "both": None}
    below, above = value - over_images["low"], over_images["high"] - value
    both = {
        "value": value,
        "low": value - float(np.hypot(half, below)),
        "high": value + float(np.hypot(half, above)),
    }
    return {"trainings": trainings, "both": both}
