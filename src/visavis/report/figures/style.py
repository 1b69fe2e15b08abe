"""One look for all charts, and charts as SVG that takes its colours from the page around it."""

import html
import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# A colour-blind safe pair (Okabe & Ito 2008); each model keeps its colour everywhere.
FIRST = "#0072b2"
SECOND = "#d55e00"
INK = "#1c2430"
MUTED = "#5d6876"
RULE = "#d9dee5"
PAPER = "#ffffff"

WIDTH = 4.8
"""Of a chart, inches: fills a phone with its text still readable, and half of a page."""

BASELINE_COLOUR = MUTED
MODEL_COLOURS = {"first": FIRST, "second": SECOND}
MODEL_MARKERS = {"first": "o", "second": "s"}
"""Tell two models in one chart apart in grey print: their colours have a lightness of 46 and 54."""

REFERENCE_LINE: Any = {"color": MUTED, "linewidth": 1, "linestyle": (0, (3, 3)), "zorder": 1}
"""How chance, or equality, is drawn."""

STYLE: Any = {  # matplotlib types its keys as literals
    "font.family": "DejaVu Sans",  # comes with matplotlib, so figures look the same everywhere
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called "$"
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "figure.dpi": 144,
    "savefig.dpi": 144,
    "svg.fonttype": "none",  # text stays text: it can be searched and read aloud
    "svg.hashsalt": "visavis",  # the same figure gives the same bytes
}

_PAGE_COLOURS = {
    FIRST: "var(--first)",
    SECOND: "var(--second)",
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    RULE: "var(--rule)",
    PAPER: "var(--paper)",
}


def new_figure(width: float, height: float, *, title: str = "") -> tuple[Figure, Axes]:
    """A figure of one chart, inches. Call within `rc_context(STYLE)`.

    A title given here starts at the left edge of the figure: the axes beside long row names have
    no room for it.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
    return figure, figure.add_subplot()


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Name the rows of a chart, from the top down."""
    axes.set_yticks(range(len(names)), names, color=INK)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.spines["left"].set_visible(False)


def not_available(axes: Axes, place: int) -> None:
    """Say so in a row of a chart."""
    left = axes.get_yaxis_transform()
    axes.text(0.015, place, "not available", transform=left, va="center", color=MUTED)


def svg(figure: Figure, name: str = "") -> str:
    """The figure as an `<svg>` element for inlining in HTML.

    Its colours become the page's custom properties (--ink, --first, …), so that it follows the page
    from light to dark, and its text takes the page's font. The figure's own label describes what it
    shows, for those who cannot see it.

    Args:
        name: of the figure, which keeps its ids apart from those of others in the page.
    """
    buffer = io.StringIO()
    label = str(figure.get_label())
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name + label}):  # ids grow from it
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<style[^>]*>.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r"font: ((?:bold )?)([\d.]+)px [^;\"]+", r"font: \1\2px var(--font)", text)
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # would not be unique in the page
    for colour, name in _PAGE_COLOURS.items():
        text = text.replace(colour, name)
    width = re.search(r'viewBox="0 0 ([\d.]+)', text)
    assert width is not None
    opening = f'<svg role="img" aria-label="{html.escape(label)}" viewBox="0 0 {width[1]}'
    return re.sub(r'<svg [^>]*viewBox="0 0 [\d.]+', lambda _: opening, text, count=1)
