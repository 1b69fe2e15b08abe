"""Pictures with their heatmaps, laid out in grids that a page or a figure can show."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float, Num, UInt8
from matplotlib.figure import Figure
from PIL import Image

from visavis.plots.style import MUTED, STYLE

Arrays = Mapping[str, np.ndarray]
"""The content of heatmaps.npz."""

COLOUR_MAP = "inferno"
"""Perceptually uniform: equal steps in a map look equally large, in colour and in grey."""

CLASS_AGNOSTIC = "class-agnostic"


@dataclass(frozen=True)
class Cell:
    """One picture of a grid."""

    pixels: UInt8[np.ndarray, "h w 3"]
    alt: str
    """What it shows, for those who cannot see it."""
    caption: tuple[str, ...] = ()
    smooth: bool = False
    """May be scaled with interpolation; otherwise its pixels are shown as squares."""


@dataclass(frozen=True)
class Group:
    """Rows of pictures under common column headings."""

    title: str
    headings: tuple[tuple[str, str], ...]
    """For each column its name and a remark, which may be empty."""
    rows: tuple[tuple[Cell, ...], ...]
    row_labels: tuple[str, ...] = ()


def heat_picture(heatmap: Num[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """The map in colours, a pixel for each cell: darkest for its lowest, lightest for its highest.

    Evidence against the class (below 0) counts as none. Each map has its own scale, so colours
    compare places within a picture, never two pictures.
    """
    return _colours(_stretched(heatmap))


def overlay(
    image: UInt8[np.ndarray, "s s 3"],
    heatmap: Num[np.ndarray, "h w"],
    *,
    scale: int = 8,
    opacity: float = 0.6,
) -> UInt8[np.ndarray, "S S 3"]:
    """Lay a heatmap over the picture it explains.

    Args:
        image: the picture, uint8.
        heatmap: of any grid; it is smoothed to the picture's size, and coloured as `heat_picture`.
        scale: how many times larger the result is than the picture.
        opacity: of the heatmap, 0 to 1.
    """
    side = (image.shape[1] * scale, image.shape[0] * scale)
    heat = Image.fromarray(_stretched(heatmap)).resize(side, Image.Resampling.BICUBIC)
    picture = np.asarray(Image.fromarray(image).resize(side, Image.Resampling.NEAREST))
    colours = _colours(np.clip(np.asarray(heat), 0, 1))
    blend = (1 - opacity) * picture.astype(np.float32) + opacity * colours
    return np.round(blend).astype(np.uint8)


def heat_gradient(stops: int = 9) -> str:
    """The colour map from low to high as a CSS gradient."""
    colours = _colours(np.linspace(0, 1, stops, dtype=np.float32)[None])[0]
    return f"linear-gradient(90deg,{','.join('#' + bytes(colour).hex() for colour in colours)})"


def class_examples(
    pictures: UInt8[np.ndarray, "classes h w 3"], class_names: Sequence[str], *, columns: int = 5
) -> list[Group]:
    """A picture of each class."""
    cells = [
        Cell(picture, f"an example of {name}", (name,))
        for picture, name in zip(pictures, class_names, strict=True)
    ]
    rows = tuple(tuple(cells[i : i + columns]) for i in range(0, len(cells), columns))
    return [Group("", (), rows)]


def grad_cam_gallery(
    heatmaps: Arrays, gallery: Mapping[str, Any], class_names: Sequence[str]
) -> list[Group]:
    """Figure 1 of the assignment: original and Grad-CAM, for right and for wrong answers."""
    headings = (("original", ""), ("Grad-CAM", ""))

    def row(index: int) -> tuple[Cell, ...]:
        said = class_names[heatmaps["predicted"][index]]
        laid = _overlay(heatmaps, index, "grad_cam", f"Grad-CAM for {said}", f"for {said}")
        return _original(heatmaps, index, class_names), laid

    return _by_answer(gallery, headings, row)


def grad_cam_detail(
    heatmaps: Arrays, gallery: Mapping[str, Any], class_names: Sequence[str], *, rows: int = 2
) -> list[Group]:
    """Picture, heatmap cell by cell, and overlay, apart, for the first of the gallery."""
    headings = (("original", ""), ("heatmap", "8 × 8 cells"), ("overlay", ""))

    def row(index: int) -> tuple[Cell, ...]:
        said = class_names[heatmaps["predicted"][index]]
        return (
            _original(heatmaps, index, class_names),
            _heat(heatmaps, index, "grad_cam", f"Grad-CAM for {said}"),
            _overlay(heatmaps, index, "grad_cam", f"Grad-CAM for {said}"),
        )

    first = {kind: gallery[kind][:rows] for kind in ("correct", "incorrect")}
    return _by_answer(first, headings, row)


def attention_gallery(
    heatmaps: Arrays,
    gallery: Mapping[str, Any],
    class_names: Sequence[str],
    methods: Mapping[str, Mapping[str, Any]],
) -> list[Group]:
    """The picture and each of the ViT's maps over it; `methods` is explanations.json's."""
    remarks = {m: _remark(method) for m, method in methods.items()}
    headings = (("original", ""), *((short_label(m), remarks[m]) for m in methods))

    def row(index: int) -> tuple[Cell, ...]:
        laid = [_overlay(heatmaps, index, m, methods[m]["label"]) for m in methods]
        return (_original(heatmaps, index, class_names), *laid)

    return _by_answer(gallery, headings, row)


def attention_heads(
    heatmaps: Arrays, index: int, *, max_blocks: int = 12, max_heads: int = 8
) -> list[Group]:
    """The class token's attention in each block and head, for one picture.

    Of more than `max_blocks` blocks, evenly spaced ones are shown, the last included; of more than
    `max_heads` heads, the first.
    """
    attention = heatmaps["attention_heads"][index].astype(np.float32)
    depth, heads = attention.shape[:2]
    blocks = np.unique(np.linspace(0, depth - 1, min(depth, max_blocks)).round().astype(int))
    shown = range(min(heads, max_heads))
    rows = tuple(
        (
            _tile(attention[block].mean(axis=0), f"block {block + 1}, mean of all heads"),
            *(_tile(attention[block, h], f"block {block + 1}, head {h + 1}") for h in shown),
        )
        for block in blocks
    )
    headings = (("mean", ""), *((f"head {h + 1}", "") for h in shown))
    return [Group("", headings, rows, tuple(f"block {block + 1}" for block in blocks))]


def face_to_face(
    cnn: Arrays,
    vit: Arrays,
    pair: Mapping[str, Any],
    class_names: Sequence[str],
    vit_methods: Mapping[str, Mapping[str, Any]],
) -> list[Group]:
    """The pictures whose maps agree most and least: the CNN's map and the ViT's, side by side.

    `pair` is comparison.json's `face_to_face`; a picture that was not found is left out.
    """
    groups = []
    other = "attention"
    headings = (
        ("original", ""),
        ("CNN: Grad-CAM", "8 × 8 cells"),
        ("CNN: Grad-CAM", "overlay"),
        (f"ViT: {short_label(pair['vit_method'])}", "8 × 8 cells"),
        (f"ViT: {short_label(pair['vit_method'])}", "overlay"),
        (f"ViT: {short_label(other)}", _remark(vit_methods[other])),
    )
    for kind, title in (("most_alike", "Most alike"), ("least_alike", "Least alike")):
        if (found := pair[kind]) is None:
            continue
        c, v = found["row_cnn"], found["row_vit"]
        name = class_names[cnn["labels"][c]]
        sure = tuple(
            f"{model} {percent(maps['confidence'][row])}"
            for model, maps, row in (("CNN", cnn, c), ("ViT", vit, v))
        )
        cells = (
            Cell(cnn["images"][c], f"test picture of {name}", (name, *sure)),
            _heat(cnn, c, pair["cnn_method"], f"CNN, Grad-CAM for {name}"),
            _overlay(cnn, c, pair["cnn_method"], f"CNN, Grad-CAM for {name}"),
            _heat(vit, v, pair["vit_method"], f"ViT, gradient attention for {name}"),
            _overlay(vit, v, pair["vit_method"], f"ViT, gradient attention for {name}"),
            _overlay(vit, v, other, "ViT, attention of the last block"),
        )
        agreement = f"{found['agreement']:.2f}".replace("-", "−")
        groups.append(Group(f"{title}: rank correlation {agreement}", headings, (cells,)))
    return groups


@matplotlib.rc_context(STYLE)
def picture_figure(groups: Sequence[Group], title: str = "") -> Figure:
    """The groups as a figure: side by side if they have few columns, else one below the other."""
    widths = [max(len(row) for row in group.rows) if group.rows else 0 for group in groups]
    beside = sum(widths) <= 8
    tall = [len(group.rows) for group in groups]
    columns = sum(widths) if beside else max(widths, default=1)
    lines = max(tall, default=1) if beside else sum(tall)
    columns, lines = max(columns, 1), max(lines, 1)
    figure = Figure(figsize=(1.25 * columns + 0.3, 1.62 * lines + 0.6), layout="constrained")
    figure.suptitle(title, fontsize=11, fontweight="bold")
    grid = figure.add_gridspec(lines, columns)
    left = top = 0
    for group, width in zip(groups, widths, strict=True):
        for y, row in enumerate(group.rows):
            for x, cell in enumerate(row):
                axes = figure.add_subplot(grid[top + y, left + x])
                smooth = "bilinear" if cell.smooth else "nearest"
                axes.imshow(cell.pixels, interpolation=smooth)
                axes.set_xticks([])
                axes.set_yticks([])
                axes.spines[:].set_visible(False)
                axes.set_xlabel("\n".join(cell.caption), fontsize=7.5)
                heading = group.headings[x][0] if y == 0 and group.headings else ""
                lead = f"{group.title}\n" if y == 0 and x == 0 and group.title else ""
                axes.set_title(lead + heading, fontsize=8, fontweight="normal", color=MUTED)
                if x == 0 and group.row_labels:
                    axes.set_ylabel(group.row_labels[y], fontsize=8)
        left, top = (left + width, top) if beside else (left, top + len(group.rows))
    return figure


def short_label(method: str) -> str:
    """What a method is called where there is little room."""
    return {
        "grad_cam": "Grad-CAM",
        "attention": "attention, last block",
        "rollout": "rollout",
        "gradient_attention": "gradient attention",
    }.get(method, method.replace("_", " "))


def percent(fraction: float) -> str:
    """A confidence in whole percent."""
    return f"{100 * fraction:.0f} %"


def where(heatmap: Num[np.ndarray, "h w"]) -> str:
    """The part of the picture in which the map is highest, in words."""
    if not np.ptp(heatmap) > 0:
        return "nowhere"
    row, column = np.unravel_index(int(np.argmax(heatmap)), heatmap.shape)
    height, width = heatmap.shape
    vertical = ("upper", "", "lower")[min(int(row * 3 / height), 2)]
    horizontal = ("left", "", "right")[min(int(column * 3 / width), 2)]
    return "in the " + (f"{vertical} {horizontal}".strip() or "centre")


def _by_answer(
    gallery: Mapping[str, Any],
    headings: tuple[tuple[str, str], ...],
    row: Callable[[int], tuple[Cell, ...]],
) -> list[Group]:
    titles = (("correct", "Correctly classified"), ("incorrect", "Incorrectly classified"))
    return [
        Group(title, headings, tuple(row(index) for index in gallery[kind]))
        for kind, title in titles
    ]


def _original(heatmaps: Arrays, index: int, class_names: Sequence[str]) -> Cell:
    true = class_names[heatmaps["labels"][index]]
    said = class_names[heatmaps["predicted"][index]]
    sure = percent(heatmaps["confidence"][index])
    return Cell(
        heatmaps["images"][index],
        f"test picture {heatmaps['indices'][index]}: {true}, predicted {said} ({sure})",
        (f"true: {true}", f"said: {said}, {sure}"),
    )


def _heat(heatmaps: Arrays, index: int, method: str, label: str) -> Cell:
    heatmap = heatmaps[f"map_{method}"][index]
    return Cell(heat_picture(heatmap), f"{label}: highest {where(heatmap)}")


def _overlay(heatmaps: Arrays, index: int, method: str, label: str, caption: str = "") -> Cell:
    heatmap = heatmaps[f"map_{method}"][index]
    if heatmaps[f"refused_{method}"][index]:
        blank = overlay(heatmaps["images"][index], np.zeros_like(heatmap), scale=4)
        return Cell(blank, f"{label}: no evidence", ("no evidence",), smooth=True)
    laid = overlay(heatmaps["images"][index], heatmap, scale=4)
    caption_lines = (caption,) if caption else ()
    return Cell(laid, f"{label}: highest {where(heatmap)}", caption_lines, smooth=True)


def _tile(heatmap: Float[np.ndarray, "h w"], label: str) -> Cell:
    return Cell(heat_picture(heatmap), f"{label}: highest {where(heatmap)}")


def _remark(method: Mapping[str, Any]) -> str:
    return "" if method["class_specific"] else CLASS_AGNOSTIC


def _stretched(heatmap: Num[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """From 0 at the lowest (or at 0, if that is higher) to 1 at the highest; a flat map is 0."""
    heat = np.maximum(np.nan_to_num(heatmap.astype(np.float32)), 0)
    heat -= heat.min()
    highest = heat.max()
    return heat / highest if highest > 0 else heat


def _colours(values: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    colours: UInt8[np.ndarray, "h w 4"] = matplotlib.colormaps[COLOUR_MAP](values, bytes=True)
    return colours[..., :3]
