"""Charts of counts, and of scores with their intervals."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from visavis.report.figures.style import (
    INK,
    MODEL_COLOURS,
    MODEL_LABELS,
    MUTED,
    PAPER,
    RULE,
    STYLE,
    WIDTH,
    new_figure,
)

Interval = Mapping[str, float]


class Score(NamedTuple):
    """One line of a `scores` chart."""

    label: str
    interval: Interval | None
    colour: str
    """One of the colours of `style`; grey marks a baseline."""


@matplotlib.rc_context(STYLE)
def class_counts(counts: Sequence[int], class_names: Sequence[str], title: str) -> Figure:
    """How many images of each class a split holds."""
    figure, axes = new_figure(3.3, 0.6 + 0.24 * len(counts))
    places = range(len(counts))
    axes.barh(places, counts, height=0.66, color=MUTED, alpha=0.75)
    for place, count in zip(places, counts, strict=True):
        _count(axes, count, place)
    axes.set(xlim=(0, max(*counts, 1) * 1.22))
    _title(figure, f"{title}: {sum(counts):,} images")
    _name_rows(axes, class_names)
    axes.grid(visible=False)
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)
    figure.set_label(f"Bar chart: images of each class in the {title.lower()} split")
    return figure


@matplotlib.rc_context(STYLE)
def f1_per_class(f1: Mapping[str, Sequence[float]], class_names: Sequence[str]) -> Figure:
    """F1 of each class, a dot for each model."""
    figure, axes = new_figure(WIDTH, 0.9 + 0.26 * len(class_names))
    places = np.arange(len(class_names))
    values = np.array(list(f1.values()))
    axes.hlines(places, values.min(axis=0), values.max(axis=0), color=RULE, linewidth=3)
    for model, row in f1.items():
        axes.plot(row, places, "o", color=MODEL_COLOURS[model], label=MODEL_LABELS[model])
    _title(figure, "F1 of each class")
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")
    _name_rows(axes, class_names)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(f1), borderaxespad=0)
    figure.set_label("Dot chart: F1 of each class for both models")
    return figure


@matplotlib.rc_context(STYLE)
def overlap(counts: Mapping[str, int]) -> Figure:
    """How many test images both models, one of them, or neither classifies correctly.

    Args:
        counts: `both_correct`, `only_cnn`, `only_vit`, `both_wrong`, `both_wrong_same_class`.
    """
    figure, axes = new_figure(WIDTH, 1.7)
    apart = counts["both_wrong"] - counts["both_wrong_same_class"]
    bars = [
        ("Both correct", counts["both_correct"], MUTED, 0.35),
        ("Only CNN correct", counts["only_cnn"], MODEL_COLOURS["cnn"], 1.0),
        ("Only ViT correct", counts["only_vit"], MODEL_COLOURS["vit"], 1.0),
        ("Both wrong, same class", counts["both_wrong_same_class"], INK, 0.9),
        ("Both wrong, different classes", apart, INK, 0.55),
    ]
    total = sum(count for _, count, _, _ in bars)
    for row, (_, count, colour, alpha) in enumerate(bars):
        axes.barh(row, count, height=0.66, color=colour, alpha=alpha)
        _count(axes, count, row)
    axes.set_xlim(0, max(total, 1))
    _name_rows(axes, [label for label, *_ in bars])
    axes.grid(visible=False)
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)
    figure.set_label("Bar chart: " + "; ".join(f"{label} {count:,}" for label, count, *_ in bars))
    return figure


@matplotlib.rc_context(STYLE)
def scores(
    rows: Sequence[Score], title: str, *, chance: float | None = None, share: bool = False
) -> Figure:
    """A score of several maps, dots with 95 % intervals; a line at what chance gives.

    A row without a score says "not available". A `share` is shown in percent, from 0.
    """
    figure, axes = new_figure(WIDTH, 0.75 + 0.29 * len(rows))
    for place, row in enumerate(rows):
        if row.interval is None:
            axes.annotate(
                "not available",
                (0, place),
                xytext=(4, 0),
                xycoords=axes.get_yaxis_transform(),
                textcoords="offset points",
                va="center",
                fontsize=8,
                color=MUTED,
            )
            continue
        _dot(axes, row.interval, place, row.colour)
    if chance is not None:
        axes.axvline(chance, color=MUTED, linewidth=1, linestyle=(0, (3, 3)), zorder=1)
    axes.margins(x=0.08)
    axes.update_datalim([(0, 0)], updatey=False)
    if share:
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    _title(figure, title)
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")
    _name_rows(axes, [row.label for row in rows])
    known = [f"{row.label} {row.interval['value']:.2f}" for row in rows if row.interval]
    figure.set_label(f"Dot chart with 95 % intervals, {title}: {'; '.join(known)}")
    return figure


@matplotlib.rc_context(STYLE)
def layer_sweep(rows: Sequence[Mapping[str, Any]], colour: str = MODEL_COLOURS["cnn"]) -> Figure:
    """Deletion and insertion score of the maps from each layer; the chosen layer is filled."""
    figure, axes = new_figure(WIDTH, 1.0 + 0.36 * len(rows))
    for place, row in enumerate(rows):
        for score, offset, marker in (("deletion", -0.14, "o"), ("insertion", 0.14, "s")):
            if row[score] is not None:
                face = colour if row["chosen"] else PAPER
                _dot(axes, row[score], place + offset, colour, face=face, marker=marker)
    for marker, score in (("o", "deletion"), ("s", "insertion")):
        drawn = any(row[score] is not None for row in rows)
        label = score if drawn else f"{score}: none"  # short, or a phone cuts the legend off
        axes.plot([], [], marker, color=colour, markerfacecolor=PAPER, label=label)
    axes.plot([], [], "D", color=colour, label="chosen layer: filled")
    axes.axvline(0, color=MUTED, linewidth=1, linestyle=(0, (3, 3)), zorder=1)
    axes.set_xlabel("Normalised: 0 random order, 1 single-cell effects")
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.08)
    _name_rows(axes, [f"{row['layer']}, {row['grid'][0]} × {row['grid'][1]}" for row in rows])
    figure.legend(loc="outside upper left", ncols=3)
    figure.set_label("Dot chart: deletion and insertion score of each layer, with 95 % intervals")
    return figure


@matplotlib.rc_context(STYLE)
def similarity(pairs: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> Figure:
    """Agreement of the CNN's map with each ViT map, above the within-class permutation baseline."""
    figure, axes = new_figure(WIDTH, 1.05 + 0.36 * len(pairs))
    for place, pair in enumerate(pairs):
        if pair["agreement"] is None:
            continue
        ends = [pair["permutation_baseline"]["value"], pair["agreement"]["value"]]
        axes.plot(ends, [place, place], color=RULE, linewidth=4, zorder=1)
        _dot(axes, pair["permutation_baseline"], place, MUTED, face=PAPER)
        _dot(axes, pair["agreement"], place, MODEL_COLOURS["vit"])
    axes.plot([], [], "o", color=MODEL_COLOURS["vit"], label="same image")
    axes.plot([], [], "o", color=MUTED, markerfacecolor=PAPER, label="permutation baseline")
    axes.axvline(0, color=MUTED, linewidth=1, linestyle=(0, (3, 3)), zorder=1)
    axes.set_xlabel("Mean rank correlation with the CNN's Grad-CAM")
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.08)
    _name_rows(axes, labels)
    figure.legend(loc="outside upper left", ncols=2)
    figure.set_label(
        "Dot chart: agreement of the CNN's map with each of the ViT's, and its baseline"
    )
    return figure


def _dot(
    axes: Axes,
    interval: Interval,
    place: int | float,
    colour: str,
    *,
    face: str | None = None,
    marker: str = "o",
) -> None:
    """A value and its interval, on a line of the chart."""
    axes.hlines(place, interval["low"], interval["high"], color=colour, linewidth=1.6)
    axes.plot(
        [interval["value"]],
        [place],
        marker,
        color=colour,
        markersize=6,
        markerfacecolor=face or colour,
    )


def _count(axes: Axes, count: int, place: int | float) -> None:
    """A count at the end of its bar."""
    axes.annotate(
        f"{count:,}",
        (count, place),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        fontsize=8.5,
        color=INK,
    )


def _title(figure: Figure, text: str) -> None:
    """A title from the left edge of the figure: beside long row names the axes have no room."""
    figure.suptitle(text, x=0.01, ha="left", fontsize=10, fontweight="bold")


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Rows from the top down, named."""
    axes.set_yticks(range(len(names)), names, color=INK)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.spines["left"].set_visible(False)
