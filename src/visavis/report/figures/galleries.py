"""Which images and heatmaps stand side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Num, UInt8

from visavis.report import labels
from visavis.report.figures.heatmaps import Cell, Group, heat_image, overlay, where
from visavis.report.text.numbers import decimal, percent

Arrays = Mapping[str, np.ndarray]
"""The content of heatmaps.npz."""

ORIGINAL = ("original", "")
ATTENTION_GALLERY = ("gradient_attention", "grad_cam", "attention", "rollout")
GRAD_CAM = "Grad-CAM for {}"


class Column(NamedTuple):
    """A column of maps of one method: over the image, or cell by cell."""

    heading: tuple[str, str]
    method: str
    label: str
    """With {} for the predicted class."""
    laid: bool = True


def class_examples(
    images: UInt8[np.ndarray, "classes h w 3"], class_names: Sequence[str]
) -> list[Group]:
    """An image of each class."""
    cells = [
        Cell(image, f"an example of {name}", (name,))
        for image, name in zip(images, class_names, strict=True)
    ]
    rows = tuple(tuple(cells[i : i + 5]) for i in range(0, len(cells), 5))
    return [Group("", (), rows)]


def grad_cam_gallery(
    heatmaps: Arrays, gallery: Mapping[str, Any], class_names: Sequence[str]
) -> list[Group]:
    """Original and Grad-CAM, for correct and incorrect predictions."""
    columns = [Column(("Grad-CAM", ""), "grad_cam", GRAD_CAM)]
    return _by_correctness(heatmaps, gallery, class_names, columns)


def grad_cam_detail(
    heatmaps: Arrays, gallery: Mapping[str, Any], class_names: Sequence[str]
) -> list[Group]:
    """Image, heatmap cell by cell, and overlay, for the first two images of each group."""
    first = {kind: gallery[kind][:2] for kind in ("correct", "incorrect")}
    columns = [
        Column(("heatmap", "8 × 8 cells"), "grad_cam", GRAD_CAM, laid=False),
        Column(("overlay", ""), "grad_cam", GRAD_CAM),
    ]
    return _by_correctness(heatmaps, first, class_names, columns)


def attention_gallery(
    heatmaps: Arrays,
    gallery: Mapping[str, Any],
    class_names: Sequence[str],
    methods: Mapping[str, Mapping[str, Any]],
) -> list[Group]:
    """The image and each of the ViT's maps of attention, and its Grad-CAM, over it."""
    columns = [
        Column((labels.short(m), _remark(methods[m])), m, methods[m]["label"])
        for m in ATTENTION_GALLERY
    ]
    return _by_correctness(heatmaps, gallery, class_names, columns)


def snapshots(strip: Arrays, method: str, class_names: Sequence[str]) -> list[Group]:
    """Up to five images and their maps of one method, from before training to its end."""
    times = [f"epoch {epoch}" if epoch else "untrained" for epoch in strip["epochs"].tolist()]

    def row(index: int) -> tuple[Cell, ...]:
        image, name = strip["images"][index], class_names[strip["labels"][index]]
        cells = [Cell(image, f"a validation image of {name}", (name,))]
        for time, maps in zip(times, strip[f"map_{method}"], strict=True):
            valid = np.isfinite(maps[index]).all() and np.ptp(maps[index]) > 0
            label = f"{labels.short(method)} for {name}, {time}"
            cells.append(_map_cell(maps[index], label, image=image, degenerate=not valid))
        return tuple(cells)

    headings = (ORIGINAL, *((time, "") for time in times))
    shown = range(min(5, len(strip["labels"])))
    return [Group("", headings, tuple(map(row, shown)))]


def attention_heads(
    heatmaps: Arrays, index: int, class_names: Sequence[str], *, most: int = 12
) -> list[Group]:
    """The class token's attention in each block and head, for one image.

    Of more than `most` blocks, evenly spaced ones are shown, the last included; of more heads, the
    first.
    """
    attention = heatmaps["attention_heads"][index].astype(np.float32)
    depth, heads = attention.shape[:2]
    blocks = np.unique(np.linspace(0, depth - 1, min(depth, most)).round().astype(int))
    tables = {"mean": attention.mean(axis=1)}
    tables |= {f"head {h + 1}": attention[:, h] for h in range(min(heads, most))}
    rows = tuple(
        tuple(_map_cell(table[b], f"block {b + 1}, {name} attention") for b in blocks)
        for name, table in tables.items()
    )
    original = Group("", (ORIGINAL,), ((_original(heatmaps, index, class_names),),))
    headings = tuple((f"block {b + 1}", "") for b in blocks)
    return [original, Group("", headings, rows, tuple(tables))]


def side_by_side(
    cnn: Arrays,
    vit: Arrays,
    pair: Mapping[str, Any],
    class_names: Sequence[str],
    vit_methods: Mapping[str, Mapping[str, Any]],
) -> list[Group]:
    """The images whose maps agree most and least: the CNN's map and the ViT's, side by side.

    `pair` is comparison.json's `side_by_side`; an image that was not found is omitted.
    """
    ours, theirs, other = pair["cnn_method"], pair["vit_method"], "attention"
    headings = (
        ORIGINAL,
        (f"CNN: {labels.short(ours)}", ""),
        (f"ViT: {labels.short(theirs)}", ""),
        (f"ViT: {labels.short(other)}", _remark(vit_methods[other])),
    )
    groups = []
    for kind in ("highest_agreement", "lowest_agreement"):
        if (found := pair[kind]) is None:
            continue
        c, v = found["row_cnn"], found["row_vit"]
        name = class_names[cnn["labels"][c]]
        maps = (
            (cnn, c, ours, f"CNN, {labels.short(ours)} for {name}"),
            (vit, v, theirs, f"ViT, {labels.short(theirs)} for {name}"),
            (vit, v, other, f"ViT, {labels.short(other)}"),
        )
        image = Cell(cnn["images"][c], f"test image of {name}")
        confidences = [
            f"CNN {percent(float(cnn['confidence'][c]), 0)}",
            f"ViT {percent(float(vit['confidence'][v]), 0)}",
        ]
        rows = (
            (replace(image, caption=(name, *confidences)), *(_map(*which) for which in maps)),
            (image, *(_map(*which, laid=False) for which in maps)),
        )
        title = kind.capitalize().replace("_", " ")
        groups.append(
            Group(f"{title}: rank correlation {decimal(found['agreement'])}", headings, rows)
        )
    return groups


def _by_correctness(
    heatmaps: Arrays,
    gallery: Mapping[str, Any],
    class_names: Sequence[str],
    columns: Sequence[Column],
) -> list[Group]:
    """Each image of `gallery` with its maps, the correctly classified ones first."""

    def row(index: int) -> tuple[Cell, ...]:
        predicted = class_names[heatmaps["predicted"][index]]
        maps = [
            _map(heatmaps, index, method, label.format(predicted), laid=laid)
            for _, method, label, laid in columns
        ]
        return (_original(heatmaps, index, class_names), *maps)

    headings = (ORIGINAL, *(column.heading for column in columns))
    return [
        Group(f"{kind.capitalize()}ly classified", headings, tuple(map(row, gallery[kind])))
        for kind in ("correct", "incorrect")
    ]


def _original(heatmaps: Arrays, index: int, class_names: Sequence[str]) -> Cell:
    true = class_names[heatmaps["labels"][index]]
    predicted = class_names[heatmaps["predicted"][index]]
    confidence = percent(float(heatmaps["confidence"][index]), 0)
    return Cell(
        heatmaps["images"][index],
        f"test image {heatmaps['indices'][index]}: {true}, predicted {predicted} ({confidence})",
        (f"true: {true}", f"predicted: {predicted}, {confidence}"),
    )


def _map(heatmaps: Arrays, index: int, method: str, label: str, *, laid: bool = True) -> Cell:
    """A stored map, laid over its image or cell by cell."""
    return _map_cell(
        heatmaps[f"map_{method}"][index],
        label,
        image=heatmaps["images"][index] if laid else None,
        degenerate=bool(heatmaps[f"degenerate_{method}"][index]),
    )


def _map_cell(
    heatmap: Num[np.ndarray, "h w"],
    label: str,
    *,
    image: UInt8[np.ndarray, "s s 3"] | None = None,
    degenerate: bool = False,
) -> Cell:
    """A map laid over `image` or, without one, cell by cell; a degenerate one is dark."""
    highest = "degenerate" if degenerate else f"highest {where(heatmap)}"
    if degenerate:
        heatmap = np.zeros_like(heatmap)
    pixels = heat_image(heatmap) if image is None else overlay(image, heatmap, scale=4)
    caption = ("degenerate",) if degenerate else ()
    return Cell(pixels, f"{label}: {highest}", caption, smooth=image is not None)


def _remark(method: Mapping[str, Any]) -> str:
    return "" if method["class_specific"] else "class-agnostic"
