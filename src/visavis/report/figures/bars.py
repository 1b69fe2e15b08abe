"""Bar charts of counts."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from visavis.report.figures.style import (
    INK,
    MODEL_COLOURS,
    MUTED,
    STYLE,
    WIDTH,
    name_rows,
    new_figure,
)
from visavis.report.labels import bucket_names


@matplotlib.rc_context(STYLE)
def class_counts(counts: Sequence[int], class_names: Sequence[str], title: str) -> Figure:
    """How many images of each class a split holds."""
    figure, axes = new_figure(
        3.2, 0.6 + 0.24 * len(counts), title=f"{title}: {sum(counts):,} images"
    )
    _bars(axes, [(n, count, MUTED, 0.75) for n, count in zip(class_names, counts, strict=True)])
    axes.set_xlim(0, max(*counts, 1) * 1.22)
    figure.set_label(f"Bar chart: images of each class in the {title.lower()} split")
    return figure


@matplotlib.rc_context(STYLE)
def overlap(buckets: Mapping[str, Mapping[str, Any]], labels: Mapping[str, str]) -> Figure:
    """How many test images both models, one of them, or neither classifies correctly."""
    figure, axes = new_figure(WIDTH, 1.7)
    looks = {
        "both_correct": (MUTED, 0.35),
        "only_first": (MODEL_COLOURS["first"], 1.0),
        "only_second": (MODEL_COLOURS["second"], 1.0),
        "both_wrong_same": (INK, 0.9),
        "both_wrong_different": (INK, 0.55),
    }
    bars = [(name, buckets[key]["n"], *looks[key]) for key, name in bucket_names(labels).items()]
    _bars(axes, bars)
    axes.set_xlim(0, max(sum(count for _, count, *_ in bars), 1))
    figure.set_label("Bar chart: " + "; ".join(f"{label} {count:,}" for label, count, *_ in bars))
    return figure


def _bars(axes: Axes, bars: Sequence[tuple[str, int, str, float]]) -> None:
    """A bar for each label, count, colour and opacity, with the count at its end."""
    for row, (_, count, colour, alpha) in enumerate(bars):
        bar = axes.barh(row, count, height=0.66, color=colour, alpha=alpha)
        axes.bar_label(bar, [f"{count:,}"], padding=4, fontsize=8.5, color=INK)
    name_rows(axes, [label for label, *_ in bars])
    axes.grid(visible=False)
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)
