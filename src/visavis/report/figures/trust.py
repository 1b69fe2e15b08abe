"""Charts of what the maps depend on, and of how they resemble one another."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter

from visavis.report import labels
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

MARKERS = ("o", "s", "D", "^", "v", "P")


@matplotlib.rc_context(STYLE)
def cascade(methods: Mapping[str, Mapping[str, Any]], model: str) -> Figure:
    """Agreement with the original maps as parameters are randomised from the head down."""
    figure, axes = new_figure(WIDTH, 3.3)
    parts = [step["part"] for step in next(iter(methods.values()))["cascading"]]
    for (name, method), marker in zip(methods.items(), MARKERS, strict=False):
        values = [
            step["agreement"]["value"] if step["agreement"] else np.nan
            for step in method["cascading"]
        ]
        axes.plot(
            range(len(parts) + 1),
            [1, *values],
            f"{marker}-",
            markersize=4,
            linewidth=1.3,
            color=MODEL_COLOURS[model],
            markerfacecolor=MODEL_COLOURS[model] if method["class_specific"] else PAPER,
            label=labels.short(name),
        )
    axes.axhline(0, color=MUTED, linewidth=1, linestyle=(0, (3, 3)), zorder=1)
    names = ["none", *(part.replace("_", " ") for part in parts)]
    axes.set_xticks(range(len(names)), names, rotation=35, ha="right", rotation_mode="anchor")
    axes.set(ylim=(min(-0.25, axes.get_ylim()[0]), 1.05), ylabel="Rank correlation")
    figure.suptitle(
        f"{MODEL_LABELS[model]}: parameters randomised down to …",
        x=0.01,
        ha="left",
        fontsize=10,
        fontweight="bold",
    )
    figure.legend(loc="outside lower left", ncols=3, fontsize=8)
    figure.set_label(
        f"Line chart: rank correlation of the {MODEL_LABELS[model]}'s maps with the originals as "
        "its parameters are randomised part by part"
    )
    return figure


@matplotlib.rc_context(STYLE)
def keep_top_k(
    rows: Mapping[str, Mapping[str, Any]], model: str, full_image_accuracy: float
) -> Figure:
    """Accuracy by share of cells kept.

    Args:
        rows: for each line's name its `kept` (share of the cells: interval) and its colour.
        full_image_accuracy: accuracy on full images.
    """
    figure, axes = new_figure(WIDTH, 3.1)
    for (name, row), marker in zip(rows.items(), MARKERS, strict=False):
        known = {share: value for share, value in row["kept"].items() if value}
        shares = list(known)
        axes.plot(
            shares,
            [known[share]["value"] for share in shares],
            marker=marker,
            color=row["colour"],
            markersize=5,
            linewidth=1.4,
            linestyle="-" if row["colour"] != MUTED else (0, (3, 2)),
            label=name,
        )
        low, high = ([known[share][end] for share in shares] for end in ("low", "high"))
        axes.vlines(shares, low, high, color=row["colour"], linewidth=1.2)
    axes.axhline(full_image_accuracy, color=INK, linewidth=1, linestyle=(0, (1, 2)), zorder=1)
    axes.annotate(
        "full images",
        (0, full_image_accuracy),  # on the left, where no line comes near it
        xycoords=axes.get_yaxis_transform(),
        xytext=(2, -10),
        textcoords="offset points",
        ha="left",
        fontsize=8,
        color=MUTED,
    )
    axes.set(xlabel="Share of the cells kept", ylim=(0, 1), xlim=(0, 0.56))
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    figure.suptitle(
        f"{MODEL_LABELS[model]}: keep-top-k accuracy",
        x=0.01,
        ha="left",
        fontsize=10,
        fontweight="bold",
    )
    figure.legend(loc="outside lower left", ncols=2, fontsize=8)
    figure.set_label(f"Line chart: accuracy of the {MODEL_LABELS[model]} by share of cells kept")
    return figure


@matplotlib.rc_context(STYLE)
def agreement(grid: Mapping[str, Any]) -> Figure:
    """How much each pair of maps of the first seed agrees above chance, as a matrix.

    Cells between two maps of one model have its colour; those between the models are grey.
    """
    first = [i for i, m in enumerate(grid["maps"]) if m["seed"] == grid["maps"][0]["seed"]]
    maps = [grid["maps"][i] for i in first]
    table = [[grid["above_chance"][i][j] for j in first] for i in first]
    count = len(maps)
    size = 2.6 + 0.5 * count
    figure, axes = new_figure(size, 0.82 * size)
    for row in range(count):
        for column in range(count):
            value = table[row][column]
            corner = (column - 0.48, row - 0.48)
            axes.add_patch(
                Rectangle(corner, 0.96, 0.96, facecolor="none", edgecolor=RULE, linewidth=0.5)
            )
            if row == column:
                continue
            same = maps[row]["model"] == maps[column]["model"]
            colour = MODEL_COLOURS[maps[row]["model"]] if same else MUTED
            if value is not None and value > 0:
                alpha = 0.55 * min(2 * value, 1)
                axes.add_patch(
                    Rectangle(corner, 0.96, 0.96, facecolor=colour, alpha=alpha, linewidth=0)
                )
            text = (
                "–" if value is None else f"{value:.2f}".replace("-", "−").replace("−0.00", "0.00")
            )
            axes.text(column, row, text, color=INK, fontsize=7.5, ha="center", va="center")
    names = [f"{MODEL_LABELS[m['model']]}: {labels.short(m['method'])}" for m in maps]
    colours = [MODEL_COLOURS[m["model"]] for m in maps]
    axes.set_xticks(range(count), names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(count), names)
    for ticks in (axes.get_xticklabels(), axes.get_yticklabels()):
        for label, colour in zip(ticks, colours, strict=True):
            label.set_color(colour)
    axes.set(xlim=(-0.5, count - 0.5), ylim=(count - 0.5, -0.5))
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    figure.set_label("Matrix: agreement above chance of each pair of maps of the two models")
    return figure


@matplotlib.rc_context(STYLE)
def cross_model(rankings: Sequence[Mapping[str, Any]]) -> Figure:
    """Deletion scores on both models when the cells go in the order of each map."""
    figure, axes = new_figure(WIDTH, 1.05 + 0.34 * len(rankings))
    for place, row in enumerate(rankings):
        for offset, (model, score) in zip((-0.13, 0.13), row["deletion"].items(), strict=True):
            if score is None:
                continue
            colour = MODEL_COLOURS[model]
            axes.hlines(place + offset, score["low"], score["high"], color=colour, linewidth=1.5)
            face = colour if model == row["model"] else PAPER
            axes.plot(
                [score["value"]],
                [place + offset],
                "o",
                color=colour,
                markerfacecolor=face,
                markersize=5.5,
            )
    for model, colour in MODEL_COLOURS.items():
        axes.plot([], [], "o", color=colour, label=f"tested on the {MODEL_LABELS[model]}")
    axes.plot([], [], "o", color=MUTED, markerfacecolor=PAPER, label="open: the other's map")
    axes.axvline(0, color=MUTED, linewidth=1, linestyle=(0, (3, 3)), zorder=1)
    axes.set_xlabel("Normalised deletion: 0 random order, 1 single-cell effects")
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")
    names = [f"{MODEL_LABELS[r['model']]}: {labels.short(r['method'])}" for r in rankings]
    axes.set_yticks(range(len(names)), names, color=INK)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.spines["left"].set_visible(False)
    axes.margins(x=0.08)
    figure.legend(loc="outside upper left", ncols=2, fontsize=8)
    figure.set_label("Dot chart: deletion score on both models by the order of each map")
    return figure
