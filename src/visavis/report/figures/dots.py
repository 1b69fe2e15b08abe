"""Dot charts: a row for each class, map or layer, with 95 % intervals."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

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
)
from visavis.report.labels import short, the

Interval = Mapping[str, float]


class Score(NamedTuple):
    """One row of a `scores` chart."""

    label: str
    interval: Interval | None
    colour: str
    """One of the colours of `style`; grey marks a baseline."""


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


@matplotlib.rc_context(STYLE)
def cues(
    accuracy: Mapping[str, Mapping[str, Interval]], labels: Mapping[str, str], *, chance: float
) -> Figure:
    """Accuracy of both models on images without each cue; `accuracy` is by row and role."""
    figure, axes = _rows(list(accuracy), 0.36, 0.9, title="Accuracy without one cue")
    for place, of in enumerate(accuracy.values()):
        for offset, role in zip((-0.13, 0.13), labels, strict=True):
            marker = MODEL_MARKERS[role]
            _dot(axes, of[role], place + offset, MODEL_COLOURS[role], marker=marker)
    for role, label in labels.items():
        axes.plot([], [], MODEL_MARKERS[role], color=MODEL_COLOURS[role], label=label)
    axes.axvline(chance, **REFERENCE_LINE)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0)
    found = [
        f"{row} {' and '.join(format(of[role]['value'], '.2f') for role in labels)}"
        for row, of in accuracy.items()
    ]
    figure.set_label(
        f"Dot chart with 95 % intervals, accuracy of {' and '.join(labels.values())} without one "
        f"cue: {'; '.join(found)}"
    )
    return figure


@matplotlib.rc_context(STYLE)
def scores(
    rows: Sequence[Score], title: str, *, chance: float | None = None, share: bool = False
) -> Figure:
    """A score of several maps; a dashed line at chance.

    A row without a score reads "not available". A `share` is shown in percent, from 0.
    """
    figure, axes = _rows([row.label for row in rows], 0.29, 0.75, title=title)
    for place, row in enumerate(rows):
        if row.interval is not None:
            _dot(axes, row.interval, place, row.colour)
        else:
            left = axes.get_yaxis_transform()
            axes.text(0.015, place, "not available", transform=left, va="center", color=MUTED)
    if chance is not None:
        axes.axvline(chance, **REFERENCE_LINE)
    axes.update_datalim([(0, 0)], updatey=False)
    if share:
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    known = [f"{row.label} {row.interval['value']:.2f}" for row in rows if row.interval]
    figure.set_label(f"Dot chart with 95 % intervals, {title}: {'; '.join(known)}")
    return figure


class Faithfulness(NamedTuple):
    """One row of a `faithfulness` chart."""

    label: str
    srg: Interval | None
    runner_up: Interval | None
    """SRG by the map of the runner-up; None for a map that is the same for every class."""
    colour: str


@matplotlib.rc_context(STYLE)
def faithfulness(rows: Sequence[Faithfulness], title: str, colour: str) -> Figure:
    """SRG by the map of the predicted class and by that of the runner-up.

    The two are apart if a map is about its class.
    """
    figure, axes = _rows([row.label for row in rows], 0.3, 1.15, title=title)
    for place, row in enumerate(rows):
        if row.srg is None:
            left = axes.get_yaxis_transform()
            axes.text(0.015, place, "not available", transform=left, va="center", color=MUTED)
            continue
        if row.runner_up is not None:
            ends = [row.runner_up["value"], row.srg["value"]]
            axes.plot(ends, [place, place], color=RULE, linewidth=4, zorder=1)
            _dot(axes, row.runner_up, place, row.colour, face=PAPER)
        _dot(axes, row.srg, place, row.colour)
    axes.axvline(0, **REFERENCE_LINE)
    axes.set_xlabel("SRG: 0 for a map that knows nothing")
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.plot([], [], "o", color=colour, label="its map")
    axes.plot([], [], "o", color=colour, markerfacecolor=PAPER, label="the runner-up’s map")
    figure.legend(loc="outside lower left", ncols=2, fontsize=8)
    known = [f"{row.label} {row.srg['value']:.2f}" for row in rows if row.srg]
    figure.set_label(f"Dot chart with 95 % intervals, SRG of each map, {title}: {'; '.join(known)}")
    return figure


@matplotlib.rc_context(STYLE)
def layer_sweep(rows: Sequence[Mapping[str, Any]], colour: str) -> Figure:
    """SRG of the maps from each layer; the chosen layer is filled."""
    names = [f"{row['layer']}, {row['grid'][0]} × {row['grid'][1]}" for row in rows]
    figure, axes = _rows(names, 0.3, 1.0)
    for place, row in enumerate(rows):
        if row["srg"] is not None:
            _dot(axes, row["srg"], place, colour, face=colour if row["chosen"] else PAPER)
    axes.plot([], [], "o", color=colour, label="chosen layer")
    axes.axvline(0, **REFERENCE_LINE)
    axes.set_xlabel("SRG: 0 for a map that knows nothing")
    figure.legend(loc="outside upper left")
    figure.set_label("Dot chart: SRG of each layer, with 95 % intervals")
    return figure


@matplotlib.rc_context(STYLE)
def similarity(pairs: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Figure:
    """Agreement of the first model's map with each of the second's, and its baseline."""
    figure, axes = _rows(names, 0.36, 1.05)
    for place, pair in enumerate(pairs):
        if pair["agreement"] is None:
            continue
        ends = [pair["permutation_baseline"]["value"], pair["agreement"]["value"]]
        axes.plot(ends, [place, place], color=RULE, linewidth=4, zorder=1)
        _dot(axes, pair["permutation_baseline"], place, MUTED, face=PAPER)
        _dot(axes, pair["agreement"], place, MODEL_COLOURS["second"])
    axes.plot([], [], "o", color=MODEL_COLOURS["second"], label="same image")
    axes.plot([], [], "o", color=MUTED, markerfacecolor=PAPER, label="permutation baseline")
    axes.axvline(0, **REFERENCE_LINE)
    axes.set_xlabel("Mean rank correlation")
    figure.legend(loc="outside upper left", ncols=2)
    figure.set_label(
        "Dot chart: agreement of the first model's map with each of the second's, and its baseline"
    )
    return figure


@matplotlib.rc_context(STYLE)
def cross_model(rankings: Sequence[Mapping[str, Any]], labels: Mapping[str, str]) -> Figure:
    """SRG on both models when the cells are masked in the order of each map."""
    names = [f"{labels[r['model']]}: {short(r['method'])}" for r in rankings]
    figure, axes = _rows(names, 0.34, 1.05)
    for place, row in enumerate(rankings):
        for offset, (role, score) in zip((-0.13, 0.13), row["srg"].items(), strict=True):
            if score is not None:
                colour = MODEL_COLOURS[role]
                face = colour if role == row["model"] else PAPER
                marker = MODEL_MARKERS[role]
                _dot(axes, score, place + offset, colour, face=face, marker=marker)
    for role, label in labels.items():
        colour, name = MODEL_COLOURS[role], f"tested on {the(label)}"
        axes.plot([], [], MODEL_MARKERS[role], color=colour, label=name)
    axes.plot([], [], "o", color=MUTED, markerfacecolor=PAPER, label="open: the other's map")
    axes.axvline(0, **REFERENCE_LINE)
    # Of the figure: beside the long names of rows there is no room for it.
    figure.supxlabel("SRG: 0 for a map that knows nothing", fontsize=9, color=MUTED)
    figure.legend(loc="outside upper left", ncols=2, fontsize=8)
    figure.set_label("Dot chart: SRG on both models by the order of each map")
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
