"""Matrices: confusions of a model, of two models, and the agreement of maps."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import matplotlib.colors
import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from visavis.report.figures.style import INK, MODEL_COLOURS, MUTED, RULE, STYLE, new_figure
from visavis.report.labels import short, the
from visavis.report.text.numbers import decimal

MAX_OPACITY = 0.55
"""Of a cell: text in ink keeps a contrast of 4.5 on it."""

MANY = 20
"""Classes; with more, a matrix has no room for numbers."""

Counts = Int[np.ndarray, "classes classes"]


@matplotlib.rc_context(STYLE)
def confusion(counts: Counts, class_names: Sequence[str], *, label: str, colour: str) -> Figure:
    """Counts, and below each its share of the row: of all images of that true class."""
    figure, axes = _class_matrix(class_names)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    strength = np.sqrt(shares)  # errors are rare, but they are what readers look for
    figure.set_label(f"Confusion matrix of {the(label)}: true classes by predicted")
    if len(class_names) > MANY:
        axes.set_title(f"{label}: share of the true class")
        colours_alone(axes, strength, colour)
        return figure
    axes.set_title(f"{label}: counts, and % of the true class")
    for (row, column), count in np.ndenumerate(counts):
        _cell(axes, row, column, colour, float(strength[row, column]))
        weight = "bold" if row == column else "normal"
        if count:
            _text(axes, row - 0.14, column, f"{count:,}", fontweight=weight)
            _text(axes, row + 0.24, column, f"{100 * shares[row, column]:.1f}", fontsize=6.5)
        else:
            _text(axes, row, column, "0", fontweight=weight, color=MUTED)
    return figure


@matplotlib.rc_context(STYLE)
def confusion_difference(
    difference: Counts, class_names: Sequence[str], labels: Mapping[str, str]
) -> Figure:
    """The first model's counts minus the second's, in the colour of the one that has more."""
    figure, axes = _class_matrix(class_names)
    strength = np.abs(difference) / max(int(np.abs(difference).max()), 1)
    axes.set_title(f"{labels['first']} minus {labels['second']}, counts")
    figure.set_label(
        f"Confusion matrix of {the(labels['first'])} minus that of {the(labels['second'])}"
    )
    if len(class_names) > MANY:
        colours_alone(axes, strength * (difference > 0), MODEL_COLOURS["first"])
        rows, columns = np.nonzero(difference < 0)  # dots, to be told apart without colours
        colours = [
            (MODEL_COLOURS["second"], float(strength[at])) for at in zip(rows, columns, strict=True)
        ]
        axes.scatter(columns, rows, s=14, c=colours, linewidths=0)
        return figure
    for (row, column), value in np.ndenumerate(difference):
        role = "first" if value > 0 else "second"
        _cell(axes, row, column, MODEL_COLOURS[role], float(strength[row, column]))
        text = f"{value:+d}".replace("-", "−") if value else "0"
        _text(axes, row, column, text, color=INK if value else MUTED)
    return figure


@matplotlib.rc_context(STYLE)
def agreement(grid: Mapping[str, Any], labels: Mapping[str, str]) -> Figure:
    """How much each pair of maps agrees above chance.

    Cells between two maps of one model have its colour; those between the models are grey.
    """
    maps = grid["maps"]
    size = 2.6 + 0.5 * len(maps)
    names = [f"{labels[m['model']]}: {short(m['method'])}" for m in maps]
    figure, axes = _matrix(names, size, 0.82 * size)
    for row, a in enumerate(maps):
        for column, b in enumerate(maps):
            value = grid["above_chance"][row][column]
            colour = MODEL_COLOURS[a["model"]] if a["model"] == b["model"] else MUTED
            strength = 0.0 if value is None or a is b else min(max(2 * value, 0.0), 1.0)
            _cell(axes, row, column, colour, strength)
            if a is not b:
                text = "–" if value is None else decimal(value)
                _text(axes, row, column, text, fontsize=7.5)
    for ticks in (axes.get_xticklabels(), axes.get_yticklabels()):
        for tick, m in zip(ticks, maps, strict=True):
            tick.set_color(MODEL_COLOURS[m["model"]])
    figure.set_label("Matrix: agreement above chance of each pair of maps of the two models")
    return figure


def _class_matrix(class_names: Sequence[str]) -> tuple[Figure, Axes]:
    many = len(class_names) > MANY
    size = 1.3 + (0.12 if many else 0.53) * max(len(class_names), 4)
    figure, axes = _matrix(class_names, size, 0.9 * size)
    axes.set(xlabel="Predicted class", ylabel="True class")
    if many:
        axes.tick_params(labelsize=5)
        axes.tick_params(axis="x", labelrotation=90)
    return figure, axes


def _matrix(names: Sequence[str], width: float, height: float) -> tuple[Figure, Axes]:
    """A square matrix whose rows, from the top down, and columns have the same names."""
    figure, axes = new_figure(width, height)
    places = range(len(names))
    axes.set_xticks(places, names, rotation=40, ha="right", rotation_mode="anchor", color=INK)
    axes.set_yticks(places, names, color=INK)
    axes.set(xlim=(-0.5, len(names) - 0.5), ylim=(len(names) - 0.5, -0.5))
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    return figure, axes


def colours_alone(axes: Axes, strength: Float[np.ndarray, "classes classes"], colour: str) -> None:
    """As one image, without numbers: there are too many cells to read."""
    pixels = np.zeros((*strength.shape, 4))
    pixels[..., :3] = matplotlib.colors.to_rgb(colour)
    pixels[..., 3] = strength
    axes.imshow(pixels, interpolation="nearest", aspect="auto")


def _cell(axes: Axes, row: int, column: int, colour: str, strength: float) -> None:
    """A cell of a strength from 0 to 1, transparent so that the page's background shows."""
    face, corner = (colour, MAX_OPACITY * strength), (column - 0.48, row - 0.48)
    axes.add_patch(Rectangle(corner, 0.96, 0.96, facecolor=face, edgecolor=RULE, linewidth=0.5))


def _text(axes: Axes, row: int | float, column: int, text: str, **changes: Any) -> None:
    style: dict[str, Any] = {"fontsize": 8.5, "color": INK, "ha": "center", "va": "center"}
    axes.text(column, row, text, **style | changes)
