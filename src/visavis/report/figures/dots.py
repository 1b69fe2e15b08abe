"""Dot charts: a row for each class, map or layer, with 95 % intervals."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from visavis.report.figures.style import (
    MODEL_COLOURS,
    MODEL_MARKERS,
    MUTED,
    PAPER,
    REFERENCE_LINE,
    RULE,
    STYLE,
    WIDTH,
    name_rows,
    new_figure,
    not_available,
)
from visavis.report.text.numbers import Interval, decimal

KNOWS_NOTHING = "SRG: 0 for a map that knows nothing"


@matplotlib.rc_context(STYLE)
def f1_per_class(
    f1: Mapping[str, Sequence[float]], class_names: Sequence[str], labels: Mapping[str, str]
) -> Figure:
    """F1 of each class, a dot for each model."""
    figure, axes = _rows(class_names, 0.26, 0.9, title="F1 of each class")
    places = np.arange(len(class_names))
    values = np.array(list(f1.values()))
    axes.hlines(places, values.min(axis=0), values.max(axis=0), color=RULE, linewidth=3)
    for role, row in f1.items():
        axes.plot(row, places, MODEL_MARKERS[role], color=MODEL_COLOURS[role], label=labels[role])
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0)
    figure.set_label("Dot chart: F1 of each class for both models")
    return figure


class Row(NamedTuple):
    """One row of a `dots` chart."""

    label: str
    filled: Interval | None
    colour: str
    """One of the colours of `style`; grey marks a baseline."""
    open: Interval | None = None


@matplotlib.rc_context(STYLE)
def dots(
    rows: Sequence[Row],
    title: str,
    *,
    legend: tuple[str, ...] = (),
    xlabel: str = "",
    chance: float | None = None,
    share: bool = False,
) -> Figure:
    """A filled dot in each row, and where there is a second value an open one, joined to it.

    Args:
        legend: what filled and open dots are.
        chance: where a dashed line is.
        share: show percent, from 0.
    """
    height = 0.75 + 0.2 * bool(xlabel) + 0.2 * bool(legend)
    figure, axes = _rows([row.label for row in rows], 0.3, height, title=title)
    for place, row in enumerate(rows):
        found = [of for of in (row.open, row.filled) if of]
        if not found:
            not_available(axes, place)
        ends = [of["value"] for of in found]
        axes.plot(ends, [place] * len(ends), color=RULE, linewidth=4, zorder=1)
        for of in found:
            _dot(axes, of, place, row.colour, face=PAPER if of is row.open else None)
    for name, face in zip(legend, (rows[0].colour, PAPER), strict=False):
        axes.plot([], [], "o", color=rows[0].colour, markerfacecolor=face, label=name)
    if legend:
        figure.legend(loc="outside lower left", ncols=2, fontsize=8)
    axes.set_xlabel(xlabel)
    _scale(axes, chance, share=share)
    known = [
        _told(row.label, zip(legend or ("",), (row.filled, row.open), strict=False)) for row in rows
    ]
    figure.set_label(f"Dot chart with 95 % intervals, {title}: {'; '.join(known)}")
    return figure


class Both(NamedTuple):
    """One row of a `both_models` chart."""

    label: str
    of: Mapping[str, Interval | None]
    """By role."""
    own: str = ""
    """The role of the model whose map this is; the dot of the other model is open."""


@matplotlib.rc_context(STYLE)
def both_models(
    rows: Sequence[Both],
    labels: Mapping[str, str],
    title: str,
    *,
    chance: float,
    share: bool = False,
) -> Figure:
    """A dot for each model in each row; a dashed line at chance."""
    figure, axes = _rows([row.label for row in rows], 0.36, 1.15, title=title)
    for place, row in enumerate(rows):
        for offset, (role, interval) in zip((-0.13, 0.13), row.of.items(), strict=True):
            if interval:
                colour, marker = MODEL_COLOURS[role], MODEL_MARKERS[role]
                face = None if row.own in ("", role) else PAPER
                _dot(axes, interval, place + offset, colour, face=face, marker=marker)
    for role, label in labels.items():
        axes.plot([], [], MODEL_MARKERS[role], color=MODEL_COLOURS[role], label=label)
    if any(row.own for row in rows):
        axes.plot([], [], "o", color=MUTED, markerfacecolor=PAPER, label="with the other’s map")
    figure.legend(loc="outside lower left", ncols=3, fontsize=8)
    _scale(axes, chance, share=share)
    known = [_told(row.label, ((labels[role], of) for role, of in row.of.items())) for row in rows]
    figure.set_label(f"Dot chart with 95 % intervals, {title}: {'; '.join(known)}")
    return figure


def _rows(
    names: Sequence[str], row_height: float, rest: float, *, title: str = ""
) -> tuple[Figure, Axes]:
    """A chart with a named row for each dot, inches high."""
    figure, axes = new_figure(WIDTH, rest + row_height * len(names), title=title)
    name_rows(axes, names)
    axes.grid(visible=False)
    axes.grid(visible=True, axis="x")
    axes.margins(x=0.08)
    return figure, axes


def _scale(axes: Axes, chance: float | None, *, share: bool) -> None:
    if chance is not None:
        axes.axvline(chance, **REFERENCE_LINE)
    axes.update_datalim([(0, 0)], updatey=False)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    if share:
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))


def _told(label: str, values: Iterable[tuple[str, Interval | None]]) -> str:
    """A row for those who cannot see it."""
    known = [f"{name} {decimal(of['value'])}".strip() for name, of in values if of]
    return f"{label}: {', '.join(known) or 'not available'}"


def _dot(
    axes: Axes,
    interval: Interval,
    place: int | float,
    colour: str,
    *,
    face: str | None = None,
    marker: str = "o",
) -> None:
    """A value with its interval, at the height `place`."""
    axes.hlines(place, interval["low"], interval["high"], color=colour, linewidth=1.6)
    (dot,) = axes.plot(interval["value"], place, marker, color=colour, markersize=6)
    dot.set_markerfacecolor(face or colour)
