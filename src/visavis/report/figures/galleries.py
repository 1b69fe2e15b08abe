"""Which images and heatmaps stand side by side."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from visavis.report import labels
from visavis.report.figures.heatmaps import Cell, Group, heat_image, overlay, where

Arrays = Mapping[str, np.ndarray]
"""The content of heatmaps.npz."""

CLASS_AGNOSTIC = "class-agnostic"
ATTENTION_GALLERY = ("gradient_attention", "grad_cam", "attention", "rollout")


def class_examples(
    images: UInt8[np.ndarray, "classes h w 3"], class_names: Sequence[str], *, columns: int = 5
) -> list[Group]:
    """An image of each class."""
    cells = [
        Cell(image, f"an example of {name}", (name,))
        for image, name in zip(images, class_names, strict=True)
    ]
    rows = tuple(tuple(cells[i : i + columns]) for i in range(0, len(cells), columns))
    return [Group("", (), rows)]


def grad_cam_gallery(
    heatmaps: Arrays, gallery: Mapping[str, Any], class_names: Sequence[str]
) -> list[Group]:
    """Original and Grad-CAM, for correct and incorrect predictions."""
    headings = (("original", ""), ("Grad-CAM", ""))

    def row(index: int) -> tuple[Cell, ...]:
        predicted = class_names[heatmaps["predicted"][index]]
        laid = _overlay(
            heatmaps, index, "grad_cam", f"Grad-CAM for {predicted}", f"for {predicted}"
        )
        return _original(heatmaps, index, class_names), laid

    return _by_answer(gallery, headings, row)


def grad_cam_detail(
    heatmaps: Arrays, gallery: Mapping[str, Any], class_names: Sequence[str], *, rows: int = 2
) -> list[Group]:
    """Image, heatmap cell by cell, and overlay, apart, for the first of the gallery."""
    headings = (("original", ""), ("heatmap", "8 × 8 cells"), ("overlay", ""))

    def row(index: int) -> tuple[Cell, ...]:
        predicted = class_names[heatmaps["predicted"][index]]
        return (
            _original(heatmaps, index, class_names),
            _heat(heatmaps, index, "grad_cam", f"Grad-CAM for {predicted}"),
            _overlay(heatmaps, index, "grad_cam", f"Grad-CAM for {predicted}"),
        )

    first = {kind: gallery[kind][:rows] for kind in ("correct", "incorrect")}
    return _by_answer(first, headings, row)


def attention_gallery(
    heatmaps: Arrays,
    gallery: Mapping[str, Any],
    class_names: Sequence[str],
    methods: Mapping[str, Mapping[str, Any]],
) -> list[Group]:
    """The image and each of the ViT's maps of attention, and its Grad-CAM, over it.

    Args:
        methods: those of explanations.json.
    """
    methods = {m: methods[m] for m in ATTENTION_GALLERY}
    remarks = {m: _remark(method) for m, method in methods.items()}
    headings = (("original", ""), *((labels.short(m), remarks[m]) for m in methods))

    def row(index: int) -> tuple[Cell, ...]:
        laid = [_overlay(heatmaps, index, m, methods[m]["label"]) for m in methods]
        return (_original(heatmaps, index, class_names), *laid)

    return _by_answer(gallery, headings, row)


def snapshots(
    strip: Arrays, method: str, class_names: Sequence[str], *, rows: int = 5
) -> list[Group]:
    """A few images and their maps of one method, from before the training to its end.

    Args:
        strip: the content of snapshots.npz.
    """
    epochs = strip["epochs"].tolist()
    headings = (("original", ""), *((_when(epoch), "") for epoch in epochs))

    def row(index: int) -> tuple[Cell, ...]:
        name = class_names[strip["labels"][index]]
        image = Cell(strip["images"][index], f"a validation image of {name}", (name,))
        frames = []
        for epoch, maps in zip(epochs, strip[f"map_{method}"], strict=True):
            heatmap = maps[index]
            valid = np.isfinite(heatmap).all() and np.ptp(heatmap) > 0
            heatmap = heatmap if valid else np.zeros_like(heatmap)
            where_to = f"highest {where(heatmap)}" if valid else "degenerate"
            laid = overlay(strip["images"][index], heatmap, scale=4)
            alt = f"{labels.short(method)} for {name}, {_when(epoch)}: {where_to}"
            frames.append(Cell(laid, alt, () if valid else ("degenerate",), smooth=True))
        return (image, *frames)

    shown = range(min(rows, len(strip["labels"])))
    return [Group("", headings, tuple(row(index) for index in shown))]


def _when(epoch: int) -> str:
    return f"epoch {epoch}" if epoch else "untrained"


def attention_heads(
    heatmaps: Arrays,
    index: int,
    class_names: Sequence[str],
    *,
    max_blocks: int = 12,
    max_heads: int = 12,
) -> list[Group]:
    """The class token's attention in each block and head, for one image.

    Of more than `max_blocks` blocks, evenly spaced ones are shown, the last included; of more than
    `max_heads` heads, the first.
    """
    attention = heatmaps["attention_heads"][index].astype(np.float32)
    depth, heads = attention.shape[:2]
    blocks = np.unique(np.linspace(0, depth - 1, min(depth, max_blocks)).round().astype(int))
    shown = range(min(heads, max_heads))
    rows = [
        tuple(_tile(attention[b].mean(axis=0), f"block {b + 1}, mean of all heads") for b in blocks)
    ]
    rows += [
        tuple(_tile(attention[b, h], f"block {b + 1}, head {h + 1}") for b in blocks) for h in shown
    ]
    original = Group("", (("original", ""),), ((_original(heatmaps, index, class_names),),))
    headings = tuple((f"block {b + 1}", "") for b in blocks)
    labels = ("mean", *(f"head {h + 1}" for h in shown))
    return [original, Group("", headings, tuple(rows), labels)]


def side_by_side(
    cnn: Arrays,
    vit: Arrays,
    pair: Mapping[str, Any],
    class_names: Sequence[str],
    vit_methods: Mapping[str, Mapping[str, Any]],
) -> list[Group]:
    """The images whose maps agree most and least: the CNN's map and the ViT's, side by side.

    `pair` is comparison.json's `side_by_side`; an image that was not found is left out.
    """
    ours, theirs, other = pair["cnn_method"], pair["vit_method"], "attention"
    headings = (
        ("original", ""),
        (f"CNN: {labels.short(ours)}", ""),
        (f"ViT: {labels.short(theirs)}", ""),
        (f"ViT: {labels.short(other)}", _remark(vit_methods[other])),
    )
    groups = []
    for kind, title in (
        ("highest_agreement", "Highest agreement"),
        ("lowest_agreement", "Lowest agreement"),
    ):
        if (found := pair[kind]) is None:
            continue
        c, v = found["row_cnn"], found["row_vit"]
        name = class_names[cnn["labels"][c]]
        sure = (
            f"CNN {percent(cnn['confidence'][c])}",
            f"ViT {percent(vit['confidence'][v])}",
        )
        shown = (
            (cnn, c, ours, f"CNN, {labels.short(ours)} for {name}"),
            (vit, v, theirs, f"ViT, {labels.short(theirs)} for {name}"),
            (vit, v, other, f"ViT, {labels.short(other)}"),
        )
        image = Cell(cnn["images"][c], f"test image of {name}")
        named = replace(image, caption=(name, *sure))
        rows = (
            (named, *(_overlay(*which) for which in shown)),
            (image, *(_heat(*which) for which in shown)),
        )
        agreement = f"{found['agreement']:.2f}".replace("-", "−")
        groups.append(Group(f"{title}: rank correlation {agreement}", headings, rows))
    return groups


def percent(fraction: float | np.floating) -> str:
    """A confidence in whole percent."""
    return f"{100 * fraction:.0f}\N{NO-BREAK SPACE}%"


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
    predicted = class_names[heatmaps["predicted"][index]]
    sure = percent(heatmaps["confidence"][index])
    return Cell(
        heatmaps["images"][index],
        f"test image {heatmaps['indices'][index]}: {true}, predicted {predicted} ({sure})",
        (f"true: {true}", f"predicted: {predicted}, {sure}"),
    )


def _heat(heatmaps: Arrays, index: int, method: str, label: str) -> Cell:
    heatmap = heatmaps[f"map_{method}"][index]
    if heatmaps[f"degenerate_{method}"][index]:
        return Cell(heat_image(np.zeros_like(heatmap)), f"{label}: degenerate", ("degenerate",))
    return Cell(heat_image(heatmap), f"{label}: highest {where(heatmap)}")


def _overlay(heatmaps: Arrays, index: int, method: str, label: str, caption: str = "") -> Cell:
    heatmap = heatmaps[f"map_{method}"][index]
    if heatmaps[f"degenerate_{method}"][index]:
        blank = overlay(heatmaps["images"][index], np.zeros_like(heatmap), scale=4)
        return Cell(blank, f"{label}: degenerate", ("degenerate",), smooth=True)
    laid = overlay(heatmaps["images"][index], heatmap, scale=4)
    caption_lines = (caption,) if caption else ()
    return Cell(laid, f"{label}: highest {where(heatmap)}", caption_lines, smooth=True)


def _tile(heatmap: Float[np.ndarray, "h w"], label: str) -> Cell:
    return Cell(heat_image(heatmap), f"{label}: highest {where(heatmap)}")


def _remark(method: Mapping[str, Any]) -> str:
    return "" if method["class_specific"] else CLASS_AGNOSTIC
