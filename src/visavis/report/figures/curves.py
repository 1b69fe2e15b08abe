"""Curves: a training by epoch and by time, accuracy by confidence, maps by what is changed."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter

from visavis.report.figures.style import (
    MODEL_COLOURS,
    MODEL_MARKERS,
    MUTED,
    PAPER,
    REFERENCE_LINE,
    STYLE,
    WIDTH,
    new_figure,
)
from visavis.report.labels import Methods, short, the

History = Sequence[Mapping[str, Any]]
"""The lines of history.jsonl."""

MARKERS = ("o", "s", "D", "^", "v", "P", "X", "<", ">", "*", "h", "d")


@matplotlib.rc_context(STYLE)
def training_curve(
    history: History, best_epoch: int, metric: str, *, label: str, colour: str
) -> Figure:
    """Training and validation `loss` or `accuracy` by epoch; marks the lowest validation loss."""
    figure, axes = new_figure(WIDTH, 3.1)
    epochs = [row["epoch"] for row in history]
    validation = [row[f"val_{metric}"] for row in history]
    training = [row[f"train_{metric}"] for row in history]
    name = the(label)
    axes.plot(epochs, training, color=MUTED, linestyle=(0, (4, 2)), label="training")
    axes.plot(epochs, validation, color=colour, label="validation")
    best = validation[epochs.index(best_epoch)]
    axes.axvline(best_epoch, color=colour, linewidth=1, linestyle=(0, (1, 2)), zorder=1)
    axes.plot([best_epoch], [best], "o", color=colour, markersize=7, markeredgecolor=PAPER)
    axes.plot([], [], "o", color=colour, label=f"tested: epoch {best_epoch}")
    title = {"loss": "Loss (cross-entropy)", "accuracy": "Accuracy"}[metric]
    axes.set(xlabel="Epoch", title=f"{title} of {name}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.yaxis.set_major_formatter(
        PercentFormatter(1, decimals=0) if metric == "accuracy" else StrMethodFormatter("{x:g}")
    )
    axes.legend(loc="best")
    figure.set_label(
        f"Line chart: {metric} of {name} by epoch, training from "
        f"{training[0]:.3f} to {training[-1]:.3f}, validation from {validation[0]:.3f} to "
        f"{validation[-1]:.3f}, {best:.3f} in the tested epoch {best_epoch}"
    )
    return figure


@matplotlib.rc_context(STYLE)
def wall_clock(histories: Mapping[str, History], labels: Mapping[str, str]) -> Figure:
    """Validation accuracy of all models that were trained here by seconds of training."""
    figure, axes = new_figure(WIDTH, 2.9)
    longest = max(history[-1]["elapsed_train_seconds"] for history in histories.values())
    unit, name = (60, "minutes") if longest > 180 else (1, "seconds")
    for role, history in histories.items():
        times = [epoch["elapsed_train_seconds"] / unit for epoch in history]
        values = [epoch["val_accuracy"] for epoch in history]
        style = f"{MODEL_MARKERS[role]}-"
        axes.plot(times, values, style, ms=4, color=MODEL_COLOURS[role], label=labels[role])
    axes.set(xlabel=f"Training time, {name}", title="Validation accuracy by training time")
    axes.set_xlim(left=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.legend(loc="lower right")
    figure.set_label("Line chart: validation accuracy by training time")
    return figure


@matplotlib.rc_context(STYLE)
def spoilt(validations: Mapping[str, Mapping[str, Any]], labels: Mapping[str, str]) -> Figure:
    """SRG of each model's best map as noise replaces it, and as it is shifted."""
    figure, axes = new_figure(WIDTH, 2.9)
    for role, found in validations.items():
        course = found["scores"]["srg"]["course"]
        colour, marker, start = MODEL_COLOURS[role], MODEL_MARKERS[role], course["as it is"]
        noisy = [value for name, value in course.items() if "noise" in name]
        shifted = [value for name, value in course.items() if "away" in name]
        axes.plot([start, *noisy], f"{marker}-", ms=4, color=colour, label=labels[role])
        axes.plot([start, *shifted], f"{marker}--", ms=4, color=colour, markerfacecolor=PAPER)
    axes.axhline(0, **REFERENCE_LINE)
    axes.set_xticks(
        range(5), ["as it is", "25 %\n1 cell", "50 %\n2 cells", "75 %\n3 cells", "noise"]
    )
    axes.set(ylabel="SRG", title="A good map, spoilt step by step")
    axes.legend(loc="upper right")
    figure.set_label("Line chart: SRG falls as a good map is replaced by noise or shifted")
    return figure


@matplotlib.rc_context(STYLE)
def reliability(calibration: Mapping[str, Mapping[str, Any]], labels: Mapping[str, str]) -> Figure:
    """Accuracy of each model by confidence, as it is and scaled by its temperature."""
    figure, axes = new_figure(3.6, 4.1)
    axes.plot([0, 1], [0, 1], **REFERENCE_LINE)
    for role, facts in calibration.items():
        colour, marker, name = MODEL_COLOURS[role], MODEL_MARKERS[role], labels[role]
        for key, face, alpha, label in (
            ("uncalibrated", colour, 1.0, name),
            ("temperature_scaled", PAPER, 0.7, f"{name}, scaled"),
        ):
            confidence = [row["confidence"] for row in facts[key]["bins"]]
            accuracy, low, high = (
                [row["accuracy"][part] for row in facts[key]["bins"]]
                for part in ("value", "low", "high")
            )
            axes.vlines(confidence, low, high, color=colour, linewidth=1.2, alpha=alpha)
            (dots,) = axes.plot(confidence, accuracy, marker, ms=5, label=label)
            dots.set(color=colour, markerfacecolor=face, alpha=alpha)
    axes.set(xlabel="Confidence", ylabel="Accuracy", title="Reliability diagram")
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), aspect="equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1, decimals=0))
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    means = "; ".join(
        f"{labels[role]} mean confidence {facts['uncalibrated']['confidence']:.2f}"
        for role, facts in calibration.items()
    )
    figure.set_label(f"Dot chart: accuracy by confidence; {means}")
    return figure


@matplotlib.rc_context(STYLE)
def cascade(methods: Methods, *, label: str, colour: str) -> Figure:
    """Agreement with the original maps as parameters are randomised from the head down."""
    figure, axes = new_figure(WIDTH, 3.3, title=f"{label}: parameters randomised down to …")
    parts = [step["part"] for step in next(iter(methods.values()))["cascading"]]
    for (method, facts), marker in zip(methods.items(), MARKERS, strict=False):
        steps = [step["agreement"] for step in facts["cascading"]]
        values = [1, *(step["value"] if step else np.nan for step in steps)]
        face = colour if facts["class_specific"] else PAPER
        style = f"{marker}-"
        axes.plot(values, style, c=colour, mfc=face, ms=4, lw=1.3, label=short(method, methods))
    axes.axhline(0, **REFERENCE_LINE)
    ticks = ["none", *(part.replace("_", " ") for part in parts)]
    axes.set_xticks(range(len(ticks)), ticks, rotation=35, ha="right", rotation_mode="anchor")
    axes.set(ylim=(min(-0.25, axes.get_ylim()[0]), 1.05), ylabel="Rank correlation")
    figure.legend(loc="outside lower left", ncols=2, fontsize=8)
    figure.set_label(
        f"Line chart: rank correlation of {the(label)}'s maps with the originals as its parameters "
        "are randomised part by part"
    )
    return figure
