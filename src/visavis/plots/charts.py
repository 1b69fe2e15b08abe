"""Charts: curves, counts, scores with their intervals."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter

from visavis.plots.style import (
    INK,
    MODEL_COLOURS,
    MODEL_LABELS,
    MUTED,
    PAPER,
    RULE,
    STYLE,
    new_figure,
)

History = Sequence[Mapping[str, Any]]
Interval = Mapping[str, float]

WIDTH = 4.8
"""Inches: fills a phone with its text still readable, and half of a page."""


class Score(NamedTuple):
    """One line of a `scores` chart."""

    label: str
    interval: Interval | None
    colour: str
    """One of the colours of `style`; grey marks a baseline."""


@matplotlib.rc_context(STYLE)
def class_counts(counts: Sequence[int], class_names: Sequence[str], title: str) -> Figure:
    """How many pictures of each class a split holds."""
    figure, axes = new_figure(3.3, 0.6 + 0.24 * len(counts))
    places = range(len(counts))
    axes.barh(places, counts, height=0.66, color=MUTED, alpha=0.75)
    for place, count in zip(places, counts, strict=True):
        axes.text(count, place, f" {count:,}", va="center", fontsize=8.5, color=INK)
    axes.set(xlim=(0, max(*counts, 1) * 1.22), title=f"{title}: {sum(counts):,}")
    _name_rows(axes, class_names)
    axes.grid(visible=False)
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)
    return figure


@matplotlib.rc_context(STYLE)
def loss_curve(history: History, best_epoch: int, model: str) -> Figure:
    """Training and validation loss by epoch, the epoch of the lowest validation loss marked."""
    return _training_curve(history, best_epoch, model, "loss", "Loss (cross-entropy)")


@matplotlib.rc_context(STYLE)
def accuracy_curve(history: History, best_epoch: int, model: str) -> Figure:
    """Training and validation accuracy by epoch, the epoch of the lowest validation loss marked."""
    figure = _training_curve(history, best_epoch, model, "accuracy", "Accuracy")
    figure.axes[0].yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return figure


@matplotlib.rc_context(STYLE)
def wall_clock(histories: Mapping[str, History]) -> Figure:
    """Validation accuracy of all models against the seconds spent on training."""
    figure, axes = new_figure(1.3 * WIDTH, 3.3)
    longest = max(history[-1]["elapsed_train_seconds"] for history in histories.values())
    unit, name = (60, "minutes") if longest > 180 else (1, "seconds")
    for model, history in histories.items():
        times = [epoch["elapsed_train_seconds"] / unit for epoch in history]
        values = [epoch["val_accuracy"] for epoch in history]
        axes.plot(
            times,
            values,
            "o-",
            markersize=4,
            color=MODEL_COLOURS[model],
            label=MODEL_LABELS[model],
        )
    axes.set(xlabel=f"Training time, {name}", title="Validation accuracy by training time")
    axes.set_xlim(left=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.legend(loc="lower right")
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
    axes.set_title("F1 of each class")
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")
    _name_rows(axes, class_names)
    figure.legend(loc="outside upper right", ncols=len(f1))
    return figure


@matplotlib.rc_context(STYLE)
def overlap(counts: Mapping[str, int]) -> Figure:
    """How many test pictures both models, one of them, or neither gets right.

    Args:
        counts: `both_right`, `only_cnn`, `only_vit`, `both_wrong`, `both_wrong_same_class`.
    """
    figure, axes = new_figure(1.3 * WIDTH, 1.9)
    apart = counts["both_wrong"] - counts["both_wrong_same_class"]
    bars = [
        ("Both right", counts["both_right"], MUTED, 0.35),
        ("Only CNN right", counts["only_cnn"], MODEL_COLOURS["cnn"], 1.0),
        ("Only ViT right", counts["only_vit"], MODEL_COLOURS["vit"], 1.0),
        ("Both wrong, same class", counts["both_wrong_same_class"], INK, 0.9),
        ("Both wrong, different classes", apart, INK, 0.55),
    ]
    total = sum(count for _, count, _, _ in bars)
    for row, (_, count, colour, alpha) in enumerate(bars):
        axes.barh(row, count, height=0.66, color=colour, alpha=alpha)
        axes.text(count, row, f" {count:,}", va="center", fontsize=8.5)
    axes.set_xlim(0, max(total, 1))
    _name_rows(axes, [label for label, *_ in bars])
    axes.grid(visible=False)
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)
    return figure


@matplotlib.rc_context(STYLE)
def scores(rows: Sequence[Score], title: str, *, chance: float | None = None) -> Figure:
    """A score of several maps, dots with 95 % intervals; a line at what chance gives.

    A row without a score says "not available".
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
    axes.set_title(title)
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")
    _name_rows(axes, [row.label for row in rows])
    return figure


@matplotlib.rc_context(STYLE)
def layer_sweep(rows: Sequence[Mapping[str, Any]], colour: str = MODEL_COLOURS["cnn"]) -> Figure:
    """Deletion and insertion score of the maps from each layer; the chosen layer is filled."""
    figure, axes = new_figure(1.3 * WIDTH, 1.0 + 0.42 * len(rows))
    for place, row in enumerate(rows):
        for score, offset, marker in (("deletion", -0.14, "o"), ("insertion", 0.14, "s")):
            if row[score] is not None:
                face = colour if row["chosen"] else PAPER
                _dot(axes, row[score], place + offset, colour, face=face, marker=marker)
    for marker, label in (("o", "deletion"), ("s", "insertion")):
        axes.plot([], [], marker, color=colour, markerfacecolor=PAPER, label=label)
    axes.plot([], [], "D", color=colour, label="chosen layer: filled")
    axes.axvline(0, color=MUTED, linewidth=1, linestyle=(0, (3, 3)), zorder=1)
    axes.set_xlabel("Normalised score: 0 random order, 1 the model's own best single cells")
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.08)
    _name_rows(axes, [f"{row['layer']}, {row['grid'][0]} × {row['grid'][1]}" for row in rows])
    figure.legend(loc="outside upper left", ncols=3)
    return figure


@matplotlib.rc_context(STYLE)
def similarity(pairs: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> Figure:
    """Agreement of the CNN's map with each ViT map, above its floor from shuffled pictures."""
    figure, axes = new_figure(1.3 * WIDTH, 1.05 + 0.42 * len(pairs))
    for place, pair in enumerate(pairs):
        if pair["agreement"] is None:
            continue
        ends = [pair["floor"]["value"], pair["agreement"]["value"]]
        axes.plot(ends, [place, place], color=RULE, linewidth=4, zorder=1)
        _dot(axes, pair["floor"], place, MUTED, face=PAPER)
        _dot(axes, pair["agreement"], place, MODEL_COLOURS["vit"])
    axes.plot([], [], "o", color=MODEL_COLOURS["vit"], label="same picture")
    axes.plot([], [], "o", color=MUTED, markerfacecolor=PAPER, label="floor: another of its class")
    axes.axvline(0, color=MUTED, linewidth=1, linestyle=(0, (3, 3)), zorder=1)
    axes.set_xlabel("Mean rank correlation with the CNN's Grad-CAM")
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.08)
    _name_rows(axes, labels)
    figure.legend(loc="outside upper left", ncols=2)
    return figure


def _training_curve(
    history: History, best_epoch: int, model: str, metric: str, title: str
) -> Figure:
    figure, axes = new_figure(WIDTH, 3.1)
    epochs = [row["epoch"] for row in history]
    validation = [row[f"val_{metric}"] for row in history]
    training = [row[f"train_{metric}"] for row in history]
    colour = MODEL_COLOURS[model]
    axes.plot(epochs, training, color=MUTED, linestyle=(0, (4, 2)), label="training")
    axes.plot(epochs, validation, color=colour, label="validation")
    best = validation[epochs.index(best_epoch)]
    axes.axvline(best_epoch, color=colour, linewidth=1, linestyle=(0, (1, 2)), zorder=1)
    axes.plot([best_epoch], [best], "o", color=colour, markersize=7, markeredgecolor=PAPER)
    axes.plot([], [], "o", color=colour, label=f"tested: epoch {best_epoch}")
    axes.set(xlabel="Epoch", title=f"{MODEL_LABELS[model]}: {title}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.legend(loc="best")
    return figure


def _dot(
    axes: Axes,
    interval: Interval,
    place: float,
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


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Rows from the top down, named."""
    axes.set_yticks(range(len(names)), names, color=INK)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.spines["left"].set_visible(False)
