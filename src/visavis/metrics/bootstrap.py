"""Means over images with 95 % intervals.

Those of proportions are Wilson's (1927). All others are percentile bootstraps over images (Efron
1979): images are resampled with replacement, the statistic is computed for each resample, and the
middle 95 % of its values is the interval. All values of one image stay together in a resample, so
differences of two models are paired.

Where the class of each image is given, two questions have two intervals.

- `low` to `high`: *for other images of these classes*. Images are drawn within classes, each of
  which keeps its number of images (Davison & Hinkley 1997, section 3.2).
- `low_other_classes` to `high_other_classes`: *for other classes of the kind*. Classes are drawn,
  each with all of its images (Davison & Hinkley 1997, section 3.8).

A percentile interval is too narrow for few units: resampling estimates a variance with the divisor
n instead of n - 1, and takes the quantiles of a normal distribution instead of Student's t. Hence
the expanded percentile interval (Hesterberg 2015), whose ends are at other quantiles, see `_tail`.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

RESAMPLES = 2000
LEVEL = 0.95
MINIMUM = 20
"""Values that a bootstrap interval needs. With 5 it misses in 8 % of cases, if skewed 14 %."""
MINIMUM_CLASSES = 6
"""Classes that an interval for other classes needs. With 5 it misses in 8 %, if skewed 12 %."""

Classes = Int[np.ndarray, " n"] | None

Interval = dict[str, float]
"""{"value", "low", "high"}: the number and its 95 % interval. Where the classes of the images were
given and are MINIMUM_CLASSES or more, also {"low_other_classes", "high_other_classes"}."""


def interval(
    values: Float[np.ndarray, " n"] | Bool[np.ndarray, " n"],
    *,
    classes: Classes = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval | None:
    """The mean over images with its interval.

    NaN stands for "not available" and is left out; None if fewer than MINIMUM values remain. For
    booleans the interval is Wilson's (1927), for any number of them: it keeps its width where all
    of them are equal, or all of each class. With classes it is on the wide side.

    Args:
        classes: of each image.
    """
    values = np.asarray(values)
    known = np.isfinite(values)
    drawn = drawn_interval(
        values[known].astype(np.float64)[:, None],
        lambda means: means[:, 0],
        classes=None if classes is None else classes[known],
        seed=seed,
        resamples=resamples,
    )
    if values.dtype != bool:
        return drawn
    wilson = stats.binomtest(int(values.sum()), len(values)).proportion_ci(LEVEL, "wilson")
    return (drawn or {}) | {"value": float(values.mean()), "low": wilson.low, "high": wilson.high}


def ratio_interval(
    numerators: Float[np.ndarray, " n"],
    denominators: Float[np.ndarray, " n"],
    *,
    classes: Classes = None,
    minimum: float = 1e-3,
) -> Interval | None:
    """The ratio of the two means over images with its interval.

    Not the mean of the ratios: one image with a denominator near 0 would outweigh all others.

    Args:
        classes: of each image.
        minimum: None is returned unless the denominators' mean is above this in 97.5 % of the
            resamples: the ratio would be undefined. Also None for fewer than MINIMUM images.
    """

    def ratio(means: Float[np.ndarray, "draws 2"]) -> Float[np.ndarray, " draws"]:
        top, bottom = means.T
        if np.quantile(bottom, (1 - LEVEL) / 2) <= minimum:
            return np.full(len(means), np.nan)
        return top / np.maximum(bottom, minimum)

    pairs = np.stack([numerators, denominators], axis=1).astype(np.float64)
    known = np.isfinite(pairs).all(axis=1)
    return drawn_interval(pairs[known], ratio, classes=None if classes is None else classes[known])


def drawn_interval(
    values: Float[np.ndarray, "n k"],
    statistic: Callable[[Float[np.ndarray, "draws k"]], Float[np.ndarray, " draws"]],
    *,
    classes: Classes = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval | None:
    """A function of the k means over images with its interval, computed for each resample.

    None for fewer than MINIMUM images, or where the function is NaN for a resample. Without an
    interval for other classes where it is NaN for a resample of these.

    Args:
        classes: of each image.
    """
    n = len(values)
    if n < MINIMUM:
        return None
    strata = None if classes is None else _strata(classes)
    (value,) = statistic(values.mean(axis=0, keepdims=True))
    drawn = statistic(resampled_means(values, strata, seed=seed, resamples=resamples))
    if np.isnan(drawn).any():
        return None
    found = of_draws(value, drawn, n, 1 if strata is None else len(np.unique(strata)))
    if classes is None or (count := len(np.unique(classes))) < MINIMUM_CLASSES:
        return found
    drawn = statistic(_means_of_classes(values, classes, seed, resamples))
    if not np.isnan(drawn).any():
        others = of_draws(value, drawn, count)
        found |= {f"{end}_other_classes": others[end] for end in ("low", "high")}
    return found


def paired_difference(
    a: Float[np.ndarray, " n"] | Bool[np.ndarray, " n"],
    b: Float[np.ndarray, " n"] | Bool[np.ndarray, " n"],
) -> Interval | None:
    """Mean of a minus mean of b on the same images; `correct_a, correct_b` gives accuracy."""
    return interval(np.asarray(a, np.float64) - np.asarray(b, np.float64))


def of_draws(
    value: float, drawn: Float[np.ndarray, " resamples"], units: int, strata: int = 1
) -> Interval:
    """`value` with the expanded percentile interval of its resampled values.

    Args:
        units: that were resampled, all together or within `strata`.
    """
    tail = _tail(units, strata)
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return {"value": float(value), "low": float(low), "high": float(high)}


def _tail(units: int, strata: int) -> float:
    """The share of the resamples beyond each end of a 95 % interval.

    Of n units it is P(Z < t sqrt(n / (n - 1))), with Z standard normal and t the 2.5 % quantile of
    Student's distribution with n - 1 degrees of freedom (Hesterberg 2015, expanded percentile
    interval). Drawn within strata, n units have n - strata degrees of freedom.
    """
    free = units - strata
    t = stats.t.ppf((1 - LEVEL) / 2, free)
    return float(stats.norm.cdf(t * np.sqrt(units / free)))


def _strata(classes: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """The class of each image; classes of a single image, which would not vary, are one stratum.

    If there is one such class, its image is drawn with those of the smallest other class.
    """
    _, of, sizes = np.unique(classes, return_inverse=True, return_counts=True)
    single = sizes == 1
    if single.sum() == 1 and len(sizes) > 1:
        return np.where(single[of], np.where(single, len(of), sizes).argmin(), of)
    return np.where(single[of], -1, of)


def resampled_means(
    values: Float[np.ndarray, "n k"],
    strata: Classes = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Float[np.ndarray, "resamples k"]:
    """The means of `values` when its rows are drawn with replacement.

    The draws depend on the number of rows, the strata and the seed alone, so what is computed from
    them for two models is paired.

    Args:
        strata: each row is drawn from its own; None for one.
    """
    generator, n = np.random.default_rng(seed), len(values)
    strata = np.zeros(n, int) if strata is None else strata
    values = values[np.argsort(strata, kind="stable")]
    sizes = np.unique(strata, return_counts=True)[1]
    first, size = (np.repeat(of, sizes) for of in (np.cumsum(sizes) - sizes, sizes))
    # Counts of rows, since copying the rows costs more; of as many resamples at once as fit the
    # processor's cache, and of a few more, since each block reads all of `values`.
    block, means = max(1, 160_000 // n), []
    for done in range(0, resamples, block):
        draws = min(block, resamples - done)
        rows = first + (size * generator.random((draws, n))).astype(int)
        rows += n * np.arange(draws)[:, None]
        counts = np.bincount(rows.ravel(), minlength=draws * n).reshape(draws, n)
        means.append(counts @ values / n)
    return np.concatenate(means)


def _means_of_classes(
    values: Float[np.ndarray, "n k"], classes: Int[np.ndarray, " n"], seed: int, resamples: int
) -> Float[np.ndarray, "resamples k"]:
    """The means of `values` when classes are drawn with replacement, each with all its rows."""
    names, of = np.unique(classes, return_inverse=True)
    members = np.eye(len(names))[of].T
    even = np.full(len(names), 1 / len(names))
    times = np.random.default_rng(seed).multinomial(len(names), even, resamples)
    return times @ (members @ values) / (times @ members.sum(axis=1))[:, None]
