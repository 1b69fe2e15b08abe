"""What 95 % intervals show of many numbers at once, and what they could not have shown.

All of it is read off the intervals, in standard errors of the normal approximation. The shares of
the resamples themselves end at 1 in 2,000 (`bootstrap.RESAMPLES`) and vary by as much, which is too
coarse for the smallest of forty p-values; and a p-value from the interval is below 0.05 exactly
where the interval excludes the reference.
"""

from collections.abc import Mapping, Sequence
from statistics import NormalDist

NORMAL = NormalDist()
Z = NORMAL.inv_cdf(0.975)
"""Standard errors from the value to either end of a 95 % interval: 1.96."""
POWER = 0.8


def side(interval: Mapping[str, float] | None, reference: float = 0.0) -> int:
    """1 if the interval lies above `reference`, -1 if below, 0 if neither was shown."""
    if interval is None:
        return 0
    return int(interval["low"] > reference) - int(interval["high"] < reference)


def p_value(interval: Mapping[str, float], reference: float = 0.0) -> float:
    """The two-sided p-value of a number against a reference, from its 95 % interval.

    The standard error is that of the half of the interval on the reference's side: percentile
    intervals need not be symmetric. 0 to 1.
    """
    value = interval["value"]
    if value == reference:
        return 1.0
    half = value - interval["low"] if reference < value else interval["high"] - value
    return 2 * NORMAL.cdf(-Z * abs(value - reference) / half) if half > 0 else 0.0


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for their number, in the order given.

    If only those below 0.05 are called significant, the chance that any of them is so by chance is
    at most 5 %, however they depend on one another.

    Source: Holm 1979, *A simple sequentially rejective multiple test procedure*.
    """
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def detectable(interval: Mapping[str, float]) -> float:
    """The smallest true difference that an interval of this width excludes 0 for in 80 % of cases.

    (1.96 + 0.84) standard errors, each the width of the 95 % interval / 3.92. In the unit of the
    number, above 0.

    Source: Cohen 1988, *Statistical power analysis for the behavioral sciences*.
    """
    standard_error = (interval["high"] - interval["low"]) / (2 * Z)
    return (Z + NORMAL.inv_cdf(POWER)) * standard_error
