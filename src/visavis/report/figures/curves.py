"""How a training went: curves by epoch and by time."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter

from visavis.report.figures.style import (
    MODEL_COLOURS,
    MODEL_LABELS,
    MUTED,
    PAPER,
    STYLE,
    WIDTH,
    new_figure,
)

History = Sequence[Mapping[str, Any]]
"""The lines of history.jsonl."""


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
    figure, axes = new_figure(WIDTH, 2.9)
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
    figure.set_label("Line chart: validation accuracy of both models by training time")
    return figure


@matplotlib.rc_context(STYLE)
def reliability(calibration: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Accuracy of each model by confidence; on the diagonal they are equal.

    Args:
        calibration: of each model the `bins` as it is, and `scaled` by its temperature.
    """
    figure, axes = new_figure(3.6, 4.1)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (3, 3)), zorder=1)
    for model, facts in calibration.items():
        colour = MODEL_COLOURS[model]
        for key, face, label in (
            ("uncalibrated", colour, MODEL_LABELS[model]),
            ("temperature_scaled", PAPER, f"{MODEL_LABELS[model]}, scaled"),
        ):
            bins = facts[key]["bins"]
            sure = [row["confidence"] for row in bins]
            right = [row["accuracy"]["value"] for row in bins]
            low, high = ([row["accuracy"][end] for row in bins] for end in ("low", "high"))
            alpha = 1.0 if key == "uncalibrated" else 0.7
            axes.vlines(sure, low, high, color=colour, linewidth=1.2, alpha=alpha)
            axes.plot(
                sure,
                right,
                "o",
                color=colour,
                markerfacecolor=face,
                markersize=5,
                alpha=alpha,
                label=label,
            )
    axes.set(xlabel="Confidence", ylabel="Accuracy", title="Reliability diagram")
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), aspect="equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1, decimals=0))
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    said = "; ".join(
        f"{MODEL_LABELS[model]} mean confidence {facts['uncalibrated']['confidence']:.2f}"
        for model, facts in calibration.items()
    )
    figure.set_label(f"Dot chart: accuracy by confidence; {said}")
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
    axes.set(xlabel="Epoch", title=f"{title} of the {MODEL_LABELS[model]}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.legend(loc="best")
    figure.set_label(
        f"Line chart: {metric} of the {MODEL_LABELS[model]} by epoch, training from "
        f"{training[0]:.3f} to {training[-1]:.3f}, validation from {validation[0]:.3f} to "
        f"{validation[-1]:.3f}, {best:.3f} in the tested epoch {best_epoch}"
    )
    return figure
