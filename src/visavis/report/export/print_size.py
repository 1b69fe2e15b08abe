"""Figures at the size of print.

The rule: a chart takes one column, 88 mm. A matrix, or a chart with more in it than that, keeps
its size up to two columns, 180 mm. An image of a grid is about 25 mm wide, or less where there are
many. Nothing is higher than 210 mm, and text has between 6 and 9 points.
"""

import io
from typing import Any, Literal

import matplotlib
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text

from visavis.report.figures.style import STYLE, WIDTH

ONE_COLUMN = 88 / 25.4
TWO_COLUMNS = 180 / 25.4
HEIGHT = 210 / 25.4
IMAGES = 0.8
"""Of the size in which grids of images are drawn, 1.25 inches for each."""
SMALLEST_IMAGES = 0.6

CHART_HEIGHT = 0.82
"""What is left of the height of a chart, of which the width shrinks more: rows stay readable."""
CHART_TEXT = 0.85
SMALLEST = 6.0
"""Points."""
MARGIN = 0.06
"""Inches."""

Format = Literal["pdf", "svg", "png"]
FORMATS: tuple[Format, ...] = ("pdf", "svg", "png")
DPI = 300

EMBEDDED: Any = {
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
    "savefig.dpi": DPI,
    "text.parse_math": False,
}
"""TrueType fonts in PDF, which publishers ask for; in SVG, text as paths."""

METADATA: dict[Format, dict[str, None]] = {
    "pdf": {"CreationDate": None},
    "svg": {"Date": None},
    "png": {},
}
"""No dates: the same figure gives the same bytes."""


def fits(figure: Figure) -> bool:
    """Whether a grid of images fits on a page without becoming too small to see."""
    return bool(figure.get_figheight() * SMALLEST_IMAGES <= HEIGHT)


def to_print_size(figure: Figure, *, images: bool = False) -> Figure:
    """Resize a figure that was drawn for the page, and return it.

    Args:
        images: a grid of images instead of a chart.
    """
    width, height = figure.get_size_inches()
    if images:
        scale = min(IMAGES, TWO_COLUMNS / width, HEIGHT / height)
        wide, high, text = scale, scale, max(scale, IMAGES)
    elif width <= WIDTH:
        wide, high, text = ONE_COLUMN / WIDTH, CHART_HEIGHT, CHART_TEXT
        high = min(high, HEIGHT / height)
    else:
        wide = high = text = min(1.0, TWO_COLUMNS / width, HEIGHT / height)
    figure.set_size_inches(width * wide, height * high)
    _resize_text(figure, text)
    figure.set_layout_engine(ConstrainedLayoutEngine(w_pad=MARGIN, h_pad=MARGIN))
    return figure


def _resize_text(figure: Figure, scale: float) -> None:
    def size(points: float) -> float:
        return max(scale * points, min(points, SMALLEST))

    for text in figure.findobj(Text):
        text.set_fontsize(size(float(text.get_fontsize())))
    for axes in figure.axes:  # ticks that are made only when the figure is drawn
        for axis in (axes.xaxis, axes.yaxis):
            of = axis.get_major_ticks()
            if of:
                axis.set_tick_params(labelsize=of[0].label1.get_fontsize())


def image_of(figure: Figure, name: str, kind: Format) -> bytes:
    """The content of a file that shows the figure."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({**STYLE, **EMBEDDED, "svg.hashsalt": name}):
        figure.savefig(buffer, format=kind, metadata=METADATA[kind])
    figure.set_layout_engine("none")  # laid out once, for all formats
    return buffer.getvalue()
