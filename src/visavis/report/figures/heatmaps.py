"""Images with their heatmaps, laid out in grids that a page or a figure can show."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from jaxtyping import Float, Num, UInt8
from matplotlib.figure import Figure
from PIL import Image

from visavis.report.figures.style import MUTED, STYLE

COLOUR_MAP = "inferno"
"""Perceptually uniform: equal steps in a map look equally large, in colour and in grey."""


@dataclass(frozen=True)
class Cell:
    """One image of a grid."""

    pixels: UInt8[np.ndarray, "h w 3"]
    alt: str
    """What it shows, for those who cannot see it."""
    caption: tuple[str, ...] = ()
    smooth: bool = False
    """May be scaled with interpolation; otherwise its pixels stay visible."""


@dataclass(frozen=True)
class Group:
    """Rows of images under common column headings."""

    title: str
    headings: tuple[tuple[str, str], ...]
    """For each column its name and a remark, which may be empty."""
    rows: tuple[tuple[Cell, ...], ...]
    row_labels: tuple[str, ...] = ()


def heat_image(heatmap: Num[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """The map in colours, a pixel for each cell: darkest for its lowest, lightest for its highest.

    Evidence against the class (below 0) counts as none. Each map has its own scale, so colours
    compare places within an image, never two images.
    """
    return _colours(stretched(heatmap))


def overlay(
    image: UInt8[np.ndarray, "s s 3"],
    heatmap: Num[np.ndarray, "h w"],
    *,
    scale: int = 8,
    opacity: float = 0.55,
) -> UInt8[np.ndarray, "S S 3"]:
    """Lay a heatmap over the image it explains, which turns grey: all colour is the map's.

    Args:
        heatmap: of any grid; it is smoothed to the image's size, and coloured as `heat_image`.
        scale: how many times larger the result is than the image.
        opacity: of the heatmap, 0 to 1.
    """
    side = (image.shape[1] * scale, image.shape[0] * scale)
    heat = Image.fromarray(stretched(heatmap)).resize(side, Image.Resampling.BICUBIC)
    grey = Image.fromarray(image).convert("L").resize(side, Image.Resampling.NEAREST)
    base = np.asarray(grey, dtype=np.float32)[..., None]
    blend = (1 - opacity) * base + opacity * _colours(np.clip(np.asarray(heat), 0, 1))
    return np.round(blend).astype(np.uint8)


def shrunk(image: UInt8[np.ndarray, "s s 3"], most: int) -> UInt8[np.ndarray, "S S 3"]:
    """The image with at most that many pixels a side: a page holds hundreds of them."""
    if image.shape[0] <= most:
        return image
    return np.asarray(Image.fromarray(image).resize((most, most), Image.Resampling.LANCZOS))


def heat_gradient(stops: int = 9) -> str:
    """The colour map from low to high as a CSS gradient."""
    return f"linear-gradient(90deg,{','.join(heat_colours(stops))})"


def heat_colours(shades: int) -> list[str]:
    """The colour map from low to high, as #rrggbb."""
    colours = _colours(np.linspace(0, 1, shades, dtype=np.float32)[None])[0]
    return ["#" + bytes(colour).hex() for colour in colours]


@matplotlib.rc_context(STYLE)
def image_figure(groups: Sequence[Group]) -> Figure:
    """The groups as a figure: side by side if they have few columns, else one below the other."""
    widths = [max((len(row) for row in group.rows), default=1) for group in groups]
    heights = [max(len(group.rows), 1) for group in groups]
    beside = sum(widths) <= 8
    columns = sum(widths) if beside else max(widths)
    lines = max(heights) if beside else sum(heights)
    figure = Figure(figsize=(1.25 * columns + 0.3, 1.62 * lines + 0.6), layout="constrained")
    parts = (
        figure.subfigures(1, len(groups), width_ratios=widths, squeeze=False)
        if beside
        else figure.subfigures(len(groups), 1, height_ratios=heights, squeeze=False)
    )
    for part, group, width, height in zip(parts.flat, groups, widths, heights, strict=True):
        part.suptitle(group.title, x=0.02, ha="left", fontsize=9, fontweight="bold")
        grid = part.subplots(lines if beside else height, width, squeeze=False)
        for axes in grid.flat:
            axes.axis("off")
        for y, row in enumerate(group.rows):
            for axes, cell in zip(grid[y], row, strict=False):
                axes.axis("on")
                axes.imshow(cell.pixels, interpolation="bilinear" if cell.smooth else "nearest")
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
                axes.set_xlabel("\n".join(cell.caption), fontsize=7.5, loc="left")
            if group.row_labels:
                grid[y, 0].set_ylabel(group.row_labels[y], fontsize=8)
        for axes, (name, remark) in zip(grid[0], group.headings, strict=False):
            words = name.replace(": ", ":\n").replace(", ", ",\n").splitlines()
            title = "\n".join(textwrap.fill(part, 14) for part in (*words, remark) if part)
            axes.set_title(title, loc="left", fontsize=7.5, fontweight="normal", color=MUTED)
    return figure


def where(heatmap: Num[np.ndarray, "h w"]) -> str:
    """The part of the image in which the map is highest, in words."""
    if not np.ptp(heatmap) > 0:
        return "nowhere"
    row, column = np.unravel_index(int(np.argmax(heatmap)), heatmap.shape)
    height, width = heatmap.shape
    vertical = ("upper", "", "lower")[int((row + 0.5) * 3 / height)]
    horizontal = ("left", "", "right")[int((column + 0.5) * 3 / width)]
    if not vertical and not horizontal:
        return "in the centre"
    part = "" if vertical and horizontal else "part"
    return " ".join(word for word in ("in the", vertical, horizontal, part) if word)


def stretched(heatmap: Num[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """From 0 at the lowest (or at 0, if that is higher) to 1 at the highest; a flat map is 0."""
    heat = np.maximum(np.nan_to_num(heatmap.astype(np.float32)), 0)
    heat -= heat.min()
    highest = heat.max()
    return heat / highest if highest > 0 else heat


def _colours(values: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    colours: UInt8[np.ndarray, "h w 4"] = matplotlib.colormaps[COLOUR_MAP](values, bytes=True)
    return colours[..., :3]
