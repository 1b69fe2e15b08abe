"""Numbers as text, and what their intervals show."""

from collections.abc import Mapping, Sequence
from typing import Any

from visavis.metrics.significance import POWER, detectable, side

Interval = Mapping[str, float]
Values = Mapping[str, Any]
"""The content of one of the JSON files, or a part of it."""

THIN = "\u202f"
"""Keeps a number and its unit on one line."""

NONE_SHOWN = "no significant difference"


def count(value: int) -> str:
    """12,345."""
    return f"{value:,}"


def plural(number: int, noun: str) -> str:
    """1 epoch, 2 epochs."""
    return f"{count(number)} {noun}{'' if number == 1 else 's'}"


def decimal(value: float, digits: int = 2) -> str:
    """0.42, with a true minus; what rounds to zero has no sign."""
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


def percent(fraction: float, digits: int = 1) -> str:
    """A fraction in percent."""
    return decimal(100 * fraction, digits) + THIN + "%"


def score(interval: Interval | None, digits: int = 2) -> str:
    """0.42 (0.39 to 0.45)."""
    return _with_range(interval, 1, digits, "")


def share(interval: Interval | None) -> str:
    """90.3 % (89.7 to 90.9)."""
    return _with_range(interval, 100, 1, f"{THIN}%")


def points(interval: Interval | None) -> str:
    """A difference of two shares: 9.8 percentage points (9.0 to 10.6)."""
    return _with_range(interval, 100, 1, " percentage points")


def _with_range(interval: Interval | None, scale: int, digits: int, unit: str) -> str:
    if interval is None:
        return "not available"
    value, low, high = (decimal(scale * interval[key], digits) for key in ("value", "low", "high"))
    return f"{value}{unit} ({low} to {high})"


def other_classes(interval: Interval | None, scale: int = 1, digits: int = 2) -> str:
    """The interval for other classes of the kind, where there is one: [0.31 to 0.52]."""
    if interval is None or "low_other_classes" not in interval:
        return ""
    ends = (interval[f"{end}_other_classes"] for end in ("low", "high"))
    return f" [{' to '.join(decimal(scale * end, digits) for end in ends)}]"


def duration(seconds: float) -> str:
    """12.3 s, 8 min 8 s, 1 h 5 min."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f}{THIN}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{THIN}min {rest}{THIN}s"
    return f"{minutes // 60}{THIN}h {minutes % 60}{THIN}min"


def p_value(value: float) -> str:
    """P-value as "p = 0.034"; below a thousandth only the bound is given."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def capital(text: str) -> str:
    """With a capital first letter; the others stay."""
    return text[:1].upper() + text[1:]


def listed(names: Sequence[str]) -> str:
    """A, B and C."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def power(interval: Interval | None, reference: float = 0.0, *, points: bool = False) -> str:
    """Where `side` shows nothing, a sentence on what would have been shown; otherwise empty.

    Args:
        points: the number is a share or a difference of two.
    """
    if interval is None or side(interval, reference):
        return ""
    least = detectable(interval)
    size = f"{decimal(100 * least, 1)} percentage points" if points else decimal(least)
    if float(size.split()[0]) == 0:  # an interval without a width shows nothing about power
        return ""
    return f" A difference of {size} would have been detected with {percent(POWER, 0)} power."


def against_chance(side: int) -> str:
    """What `side` or `compared` found, where the reference is chance."""
    words = {1: "more than chance", -1: "less than chance"}
    return words.get(side, "not significantly different from chance")


def compared(a: Interval | None, b: Interval | None) -> int:
    """1 if the interval of `a` lies above that of `b`, -1 if below, 0 if neither was shown."""
    if a is None or b is None:
        return 0
    return int(a["low"] > b["high"]) - int(a["high"] < b["low"])
