"""Figures of a study: its variants and all their trainings."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from visavis.report.figures.matrices import colours_alone
from visavis.report.figures.style import (
    FIRST,
    INK,
    MUTED,
    PAPER,
    REFERENCE_LINE,
    RULE,
    SECOND,
    STYLE,
    WIDTH,
    name_rows,
    new_figure,
    not_available,
)
from visavis.report.text.numbers import capital, decimal
from visavis.report.text.study import PARTS

Results = Mapping[str, Any]
"""The content of results.json."""

COLOURS = (FIRST, SECOND, "#009e73", "#cc79a7", "#b07d00", "#3f9fd6", "#5d6876")
"""Of the variants, in turn: Okabe & Ito (2008), yellow and light blue darkened for white paper."""
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")
MANY = 15
"""Trainings; with more, the matrix has no room for numbers."""


def _looks(results: Results) -> dict[str, dict[str, Any]]:
    """The colour and the marker of each variant, which together tell up to 56 apart."""
    return {
        name: {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}
        for i, name in enumerate(results["variants"])
    }


def _labels(results: Results) -> dict[str, str]:
    """What each variant is called."""
    return {name: of["label"] for name, of in results["variants"].items()}


class Row(NamedTuple):
    """One row of a `scores` chart."""

    label: str
    of: Mapping[str, Any] | None
    """A score with its value in each training."""
    look: Mapping[str, Any]


@matplotlib.rc_context(STYLE)
def scores(rows: Sequence[Row], title: str, *, share: bool = False, srg: bool = False) -> Figure:
    """The trainings as small open marks below their mean and its interval.

    Args:
        share: show percent.
        srg: the score is 0 for a map that knows nothing.
    """
    figure, axes = new_figure(WIDTH, 1.15 + 0.2 * srg + 0.42 * len(rows), title=title)
    for place, (_, of, look) in enumerate(rows):
        if of is None:
            not_available(axes, place)
            continue
        colour, marker = look["color"], look["marker"]
        if wide := of["both"] or of["images"]:
            axes.hlines(place - 0.1, wide["low"], wide["high"], color=colour, linewidth=1.6)
        axes.plot(of["value"], place - 0.1, marker, color=colour, markersize=6)
        small: Any = {"markerfacecolor": PAPER, "markersize": 4, "markeredgewidth": 0.9}
        axes.plot(of["values"], [place + 0.18] * len(of["values"]), marker, color=colour, **small)
    name_rows(axes, [row.label for row in rows])
    axes.grid(visible=True, axis="x")
    axes.margins(x=0.08)
    if srg:
        axes.axvline(0, **REFERENCE_LINE)
        axes.set_xlabel("SRG (0: knows nothing)")
    if share:
        axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:g}%")  # they may lie close
    axes.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
    axes.plot([], [], "o", color=MUTED, label="mean, 95 % interval")
    axes.plot([], [], "o", color=MUTED, markerfacecolor=PAPER, markersize=4, label="one training")
    figure.legend(loc="outside lower left", ncols=2, fontsize=8)
    known = [f"{row.label} {row.of['value']:.3f}" for row in rows if row.of]
    figure.set_label(f"Dot chart, {title}, mean of the trainings: {'; '.join(known)}")
    return figure


def _variants_legend(figure: Figure, results: Results) -> None:
    many = len(results["variants"]) > 8
    figure.legend(loc="outside lower left", ncols=2 if many else 3, fontsize=6 if many else 8)


@matplotlib.rc_context(STYLE)
def learning(results: Results) -> Figure:
    """Validation accuracy of each training by epoch."""
    figure, axes = new_figure(WIDTH, 3.2 + 0.07 * len(results["variants"]))
    named = set[str]()
    for training in results["trainings"]:
        name, values = training["variant"], training["validation_accuracy"]
        look = _looks(results)[name]
        axes.plot(
            range(1, len(values) + 1),
            values,
            linewidth=1,
            markersize=3,
            alpha=0.8,
            label=None if name in named else results["variants"][name]["label"],
            **look,
        )
        named.add(name)
    axes.set(xlabel="Epoch", title="Validation accuracy of each training")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    _variants_legend(figure, results)
    figure.set_label("Line chart: validation accuracy of each training by epoch")
    return figure


@matplotlib.rc_context(STYLE)
def matrix(results: Results, values: list[list[float | None]], title: str) -> Figure:
    """A number for each pair of trainings, with similar variants side by side.

    Args:
        values: in the order of the trainings; None on the diagonal.
    """
    order = results["agreement"]["order"]
    shown = np.array(values, dtype=float)[np.ix_(order, order)]
    names = [_labels(results)[results["trainings"][i]["variant"]] for i in order]
    n = len(order)
    figure, axes = new_figure(WIDTH, WIDTH)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
    top = max(float(np.nanmax(shown)), 0.05) if np.isfinite(shown).any() else 1.0
    colours_alone(axes, np.nan_to_num(np.clip(shown / top, 0, 1)) * 0.75, FIRST)
    axes.set_aspect("equal")
    for (row, column), value in np.ndenumerate(shown):
        if n <= MANY and np.isfinite(value):
            ink = PAPER if value / top > 0.75 else INK
            axes.text(column, row, decimal(value), ha="center", va="center", color=ink, fontsize=7)
    starts = [i for i in range(n) if i == 0 or names[i] != names[i - 1]]
    ends = [*starts[1:], n]
    for edge in starts[1:]:
        for line in (axes.axhline, axes.axvline):
            line(edge - 0.5, color=PAPER, linewidth=4 if n <= MANY else 1)
    middles = [(a + b - 1) / 2 for a, b in zip(starts, ends, strict=True)]
    labels = [names[i] for i in starts]
    size = 9 if len(labels) <= 8 else 6
    axes.set_xticks(middles, labels, rotation=60, ha="right", rotation_mode="anchor", fontsize=size)
    axes.set_yticks(middles, labels, fontsize=size)
    axes.tick_params(labelcolor=INK)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    found = [
        f"{names[i]} and {names[j]} {shown[i, j]:.2f}"
        for i in range(n)
        for j in range(i)
        if np.isfinite(shown[i, j]) and n <= MANY
    ]
    figure.set_label(f"Matrix: {title}; {'; '.join(found)}")
    return figure


@matplotlib.rc_context(STYLE)
def layout(results: Results) -> Figure:
    """The trainings in the plane, nearer the better their maps agree."""
    figure, axes = new_figure(
        WIDTH, 3.6 + 0.07 * len(results["variants"]), title="Trainings whose maps agree are close"
    )
    looks, points = _looks(results), np.array(results["agreement"]["layout"])
    variants = [training["variant"] for training in results["trainings"]]
    for name, look in looks.items():
        of = points[[variant == name for variant in variants]]
        axes.plot(
            of[:, 0],
            of[:, 1],
            linestyle="",
            markersize=8,
            alpha=0.85,
            label=_labels(results)[name],
            **look,
        )
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.margins(0.15)
    axes.spines[:].set_visible(True)
    _variants_legend(figure, results)
    share = results["agreement"]["layout_share"]
    figure.set_label(f"Map of the trainings; it shows {share:.0%} of their differences")
    return figure


@matplotlib.rc_context(STYLE)
def parts(results: Results) -> Figure:
    """What a map is made of, part by part."""
    rows = {PARTS[key]: of for key, of in results["decomposition"]["parts"].items()}
    figure, axes = new_figure(WIDTH, 0.9 + 0.36 * len(rows), title="Parts of a map")
    for place, interval in enumerate(rows.values()):
        axes.barh(place, interval["value"], height=0.55, color=FIRST, alpha=0.55)
        axes.hlines(place, interval["low"], interval["high"], color=INK, linewidth=1.4)
    name_rows(axes, [capital(name) for name in rows])
    axes.axvline(0, color=RULE, linewidth=1)
    axes.grid(visible=True, axis="x")
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    known = [f"{name} {interval['value']:.2f}" for name, interval in rows.items()]
    figure.set_label(f"Bar chart: parts of a map; {'; '.join(known)}")
    return figure


@matplotlib.rc_context(STYLE)
def errors(results: Results) -> Figure:
    """Error consistency of each pair of trainings against the agreement of their maps."""
    figure, axes = new_figure(WIDTH, 3.1, title="Pairs of trainings")
    once = np.triu(np.ones_like(np.array(results["errors"]["kappa"], dtype=float)), k=1) > 0
    variants = np.array([training["variant"] for training in results["trainings"]])
    same = (variants[:, None] == variants)[once]
    kappa = np.array(results["errors"]["kappa"], dtype=float)[once]
    agreed = np.array(results["agreement"]["above_chance"], dtype=float)[once]
    axes.plot(kappa[same], agreed[same], "o", color=FIRST, label="same variant", markersize=5)
    look: dict[str, Any] = {"color": SECOND, "markerfacecolor": PAPER, "markersize": 5}
    axes.plot(kappa[~same], agreed[~same], "s", label="two variants", **look)
    axes.set(xlabel="Error consistency (kappa)", ylabel="Agreement of the maps")
    figure.legend(loc="outside lower left", ncols=2, fontsize=8)
    figure.set_label("Scatter plot: agreement of the maps of pairs of trainings by their kappa")
    return figure


def charts(results: Results) -> dict[str, Figure]:
    """The figures that these results have, by name."""
    looks, variants = _looks(results), results["variants"]

    def each(key: str) -> list[Row]:
        return [Row(of["label"], of[key], looks[name]) for name, of in variants.items()]

    drawn = {
        "accuracy": scores(each("accuracy"), "Test accuracy", share=True),
        "f1_macro": scores(each("f1_macro"), "Test macro F1"),
    }
    if any(training["validation_accuracy"] for training in results["trainings"]):
        drawn["learning"] = learning(results)
    for name, variant in variants.items():
        rows = [Row(of["label"], of["srg"], looks[name]) for of in variant["methods"].values()]
        drawn[f"{name}_srg"] = scores(rows, f"{variant['label']}: SRG of each method", srg=True)
    if len(results["trainings"]) > 1:
        above, kappa = results["agreement"]["above_chance"], results["errors"]["kappa"]
        drawn["agreement"] = matrix(results, above, "Agreement above chance of each pair")
        drawn["kappa"] = matrix(results, kappa, "Error consistency (kappa) of each pair")
        drawn["errors"] = errors(results)
    if results["agreement"]["layout"]:
        drawn["layout"] = layout(results)
    if results["decomposition"]:
        drawn["parts"] = parts(results)
    return drawn
