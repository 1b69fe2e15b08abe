"""Confusion matrices: counts and row shares, and the difference of two models."""

from collections.abc import Sequence

import matplotlib
import matplotlib.colors
import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from visavis.report.figures.style import (
    INK,
    MODEL_COLOURS,
    MODEL_LABELS,
    MUTED,
    RULE,
    STYLE,
    new_figure,
)

FULL = 0.55
"""Opacity of the strongest colour: text in ink keeps a contrast of 4.5 on it."""

MANY = 20
"""Classes; of more a matrix has no room for numbers."""

Counts = Int[np.ndarray, "classes classes"]


@matplotlib.rc_context(STYLE)
def confusion(counts: Counts, class_names: Sequence[str], model: str) -> Figure:
    """Counts, and below each its share of the row: of all images of that true class."""
    figure, axes = _grid(class_names)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.set_title(f"{MODEL_LABELS[model]}: counts, and % of the true class")
    figure.set_label(f"Confusion matrix of the {MODEL_LABELS[model]}: true classes by predicted")
    if len(class_names) > MANY:
        axes.set_title(f"{MODEL_LABELS[model]}: share of the true class")
        _colours_alone(axes, np.sqrt(shares), MODEL_COLOURS[model])
        return figure
    for (row, column), share in np.ndenumerate(shares):
        count = counts[row, column]
        strength = float(share) ** 0.5  # mistakes are rare, and what one wants to see
        _cell(axes, row, column, MODEL_COLOURS[model], strength)
        colour = INK if count else MUTED
        axes.text(
            column,
            row - 0.14 if count else row,
            f"{count:,}",
            color=colour,
            fontsize=8.5,
            ha="center",
            va="center",
            fontweight="bold" if row == column else "normal",
        )
        if count:
            text = f"{100 * share:.1f}"
            axes.text(
                column, row + 0.24, text, color=colour, fontsize=6.5, ha="center", va="center"
            )
    return figure


@matplotlib.rc_context(STYLE)
def confusion_difference(difference: Counts, class_names: Sequence[str]) -> Figure:
    """The CNN's counts minus the ViT's, in the colour of the model that has more."""
    figure, axes = _grid(class_names)
    largest = max(int(np.abs(difference).max()), 1)
    axes.set_title("CNN minus ViT, counts")
    figure.set_label("Confusion matrix of the CNN minus that of the ViT")
    if len(class_names) > MANY:
        for sign, model in ((1, "cnn"), (-1, "vit")):
            share = np.maximum(sign * difference, 0) / largest
            _colours_alone(axes, share, MODEL_COLOURS[model])
        return figure
    for (row, column), value in np.ndenumerate(difference):
        strength = abs(float(value)) / largest
        _cell(axes, row, column, MODEL_COLOURS["cnn" if value > 0 else "vit"], strength)
        colour = INK if value else MUTED
        text = f"{value:+d}".replace("-", "−") if value else "0"
        axes.text(column, row, text, color=colour, fontsize=8.5, ha="center", va="center")
    return figure


def _grid(class_names: Sequence[str]) -> tuple[Figure, Axes]:
    many = len(class_names) > MANY
    size = 1.3 + (0.12 if many else 0.53) * max(len(class_names), 4)
    figure, axes = new_figure(size, 0.9 * size)
    places = range(len(class_names))
    axes.set_xticks(places, class_names, rotation=40, ha="right", rotation_mode="anchor", color=INK)
    axes.set_yticks(places, class_names, color=INK)
    if many:
        axes.tick_params(labelsize=5)
        axes.tick_params(axis="x", labelrotation=90)
    axes.set(xlabel="Predicted class", ylabel="True class")
    axes.set_xlim(-0.5, len(class_names) - 0.5)
    axes.set_ylim(len(class_names) - 0.5, -0.5)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    return figure, axes


def _colours_alone(axes: Axes, strength: Float[np.ndarray, "classes classes"], colour: str) -> None:
    """As one image, without numbers: there are too many cells to read."""
    pixels = np.zeros((*strength.shape, 4))
    pixels[..., :3] = matplotlib.colors.to_rgb(colour)
    pixels[..., 3] = strength
    axes.imshow(pixels, interpolation="nearest", aspect="auto")


def _cell(axes: Axes, row: int, column: int, colour: str, strength: float) -> None:
    """A cell whose colour fades into whatever page is behind it, and lets its text be read."""
    corner = (column - 0.48, row - 0.48)
    axes.add_patch(Rectangle(corner, 0.96, 0.96, facecolor="none", edgecolor=RULE, linewidth=0.5))
    if strength > 0.004:
        axes.add_patch(
            Rectangle(corner, 0.96, 0.96, facecolor=colour, alpha=FULL * strength, linewidth=0)
        )
