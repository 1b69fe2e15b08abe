"""Which images and heatmaps stand side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Num, UInt8

from visavis.report import labels
from visavis.report.figures.heatmaps import Cell, Group, heat_image, overlay, shrunk, where
from visavis.report.text.numbers import decimal, percent
from visavis.run_folder import ModelFolder

Arrays = Mapping[str, np.ndarray]
"""The content of heatmaps.npz."""

ORIGINAL = ("original", "")
BESIDE_DEFAULT = ("gradient_attention", "attention", "rollout")
"""Methods that stand beside the default one, where a model has them."""

SIDE = 128
"""Of an overlay, pixels, and the most of an image."""

PIXELATED = 64
"""The side up to which the pixels of an image are to be seen."""


class Column(NamedTuple):
    """A column of maps of one method: over the image, or cell by cell."""

    heading: tuple[str, str]
    method: str
    laid: bool = True


def class_examples(
    images: UInt8[np.ndarray, "classes h w 3"], class_names: Sequence[str]
) -> list[Group]:
    """An image of each class."""
    cells = [
        _photo(image, f"an example of {name}", name)
        for image, name in zip(images, class_names, strict=True)
    ]
    rows = tuple(tuple(cells[i : i + 5]) for i in range(0, len(cells), 5))
    return [Group("", (), rows)]


def gallery(model: ModelFolder, class_names: Sequence[str]) -> list[Group]:
    """The image, the default map over it and those BESIDE it, for correct and incorrect ones."""
    methods = model.explanations["methods"]
    shown = dict.fromkeys((model.explanations["default_method"], *BESIDE_DEFAULT))
    columns = [
        Column((labels.short(method, methods), _remark(methods[method])), method)
        for method in shown
        if method in methods
    ]
    return _by_correctness(model, model.gallery, class_names, columns)


def detail(model: ModelFolder, class_names: Sequence[str]) -> list[Group]:
    """Image, heatmap cell by cell, and overlay, for the first two images of each group."""
    first = {kind: model.gallery[kind][:2] for kind in ("correct", "incorrect")}
    method = model.explanations["default_method"]
    rows, columns = model.explanations["grid"]
    shown = [
        Column(("heatmap", f"{rows} × {columns} cells"), method, laid=False),
        Column(("overlay", ""), method),
    ]
    return _by_correctness(model, first, class_names, shown)


def figure_1(model: ModelFolder, class_names: Sequence[str]) -> list[Group]:
    """The first image of each group, and the default map over it: panels (a) to (d)."""
    method = model.explanations["default_method"]
    name = labels.short(method, model.explanations["methods"])
    first = {kind: model.gallery[kind][:1] for kind in ("correct", "incorrect")}
    groups = _by_correctness(model, first, class_names, [Column((name, ""), method)])
    return [
        replace(group, headings=tuple((f"({panel}) {what}", "") for panel, what in named))
        for group, named in zip(
            groups,
            ((("a", "original"), ("b", name)), (("c", "original"), ("d", name))),
            strict=True,
        )
        if group.rows
    ]


def snapshots(strip: Arrays, method: str, class_names: Sequence[str]) -> list[Group]:
    """Up to five images and their maps of one method, from before training to its end."""
    times = [f"epoch {epoch}" if epoch else "untrained" for epoch in strip["epochs"].tolist()]

    def row(index: int) -> tuple[Cell, ...]:
        image, name = strip["images"][index], class_names[strip["labels"][index]]
        cells = [_photo(image, f"a validation image of {name}", name)]
        for time, maps in zip(times, strip[f"map_{method}"], strict=True):
            valid = np.isfinite(maps[index]).all() and np.ptp(maps[index]) > 0
            label = f"{labels.short(method)} for {name}, {time}"
            cells.append(_map_cell(maps[index], label, image=image, degenerate=not valid))
        return tuple(cells)

    headings = (ORIGINAL, *((time, "") for time in times))
    shown = range(min(5, len(strip["labels"])))
    return [Group("", headings, tuple(map(row, shown)))]


def without_cues(models: Mapping[str, ModelFolder], class_names: Sequence[str]) -> list[Group]:
    """One test image without each cue, with the predictions of both models."""
    first = models["first"]
    index = first.predictions["cue_indices"][0]
    name, cues = class_names[first.labels[index]], first.evaluation["cues"]

    def predicted(model: ModelFolder, cue: str) -> str:
        found = model.predictions[f"cue_{cue}"][0] if cue else model.predicted[index]
        return f"{model.label}: {class_names[found]}"

    labels = {"": ORIGINAL[0]} | {cue: of["label"] for cue, of in cues.items()}
    cells = tuple(
        _photo(
            image,
            f"test image {index} of {name}, {label}",
            *(predicted(model, cue) for model in models.values()),
        )
        for image, (cue, label) in zip(
            first.predictions["cue_examples"], labels.items(), strict=True
        )
    )
    return [Group("", tuple((label, "") for label in labels.values()), (cells,))]


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
    models: Mapping[str, ModelFolder], pair: Mapping[str, Any], class_names: Sequence[str]
) -> list[Group]:
    """The images whose default maps agree most and least: the maps of both models side by side.

    `pair` is comparison.json's `side_by_side`; an image that was not found is omitted.
    """
    methods = {role: model.explanations["methods"] for role, model in models.items()}
    columns = [(role, pair[f"{role}_method"]) for role in models]
    columns += [(role, "attention") for role in models if "attention" in methods[role]]
    headings = [ORIGINAL]
    for role, method in columns:
        of = methods[role]
        name = f"{models[role].label}: {labels.short(method, of)}"
        headings.append((name, _remark(of[method])))
    groups = []
    for kind in ("highest_agreement", "lowest_agreement"):
        if (found := pair[kind]) is None:
            continue
        row = {role: found[f"row_{role}"] for role in models}
        first = models["first"].heatmaps
        name = class_names[first["labels"][row["first"]]]
        confidences = [
            f"{model.label} {percent(float(model.heatmaps['confidence'][row[role]]), 0)}"
            for role, model in models.items()
        ]
        image = _photo(first["images"][row["first"]], f"test image of {name}")
        over, cells = (
            [_map(models[role], row[role], method, name, laid=laid) for role, method in columns]
            for laid in (True, False)
        )
        rows = ((replace(image, caption=(name, *confidences)), *over), (image, *cells))
        title = kind.capitalize().replace("_", " ")
        title += f": rank correlation {decimal(found['agreement'])}, test image {found['index']}"
        groups.append(Group(title, tuple(headings), rows))
    return groups


def _by_correctness(
    model: ModelFolder,
    rows: Mapping[str, Any],
    class_names: Sequence[str],
    columns: Sequence[Column],
) -> list[Group]:
    """Each image with its maps, the correctly classified ones first."""

    def row(index: int) -> tuple[Cell, ...]:
        predicted = class_names[model.heatmaps["predicted"][index]]
        maps = [_map(model, index, of.method, predicted, laid=of.laid) for of in columns]
        return (_original(model.heatmaps, index, class_names), *maps)

    headings = (ORIGINAL, *(column.heading for column in columns))
    return [
        Group(f"{kind.capitalize()}ly classified", headings, tuple(map(row, rows[kind])))
        for kind in ("correct", "incorrect")
    ]


def _original(heatmaps: Arrays, index: int, class_names: Sequence[str]) -> Cell:
    true = class_names[heatmaps["labels"][index]]
    predicted = class_names[heatmaps["predicted"][index]]
    confidence = percent(float(heatmaps["confidence"][index]), 0)
    return _photo(
        heatmaps["images"][index],
        f"test image {heatmaps['indices'][index]}: {true}, predicted {predicted} ({confidence})",
        f"true: {true}",
        f"predicted: {predicted}, {confidence}",
    )


def _photo(image: UInt8[np.ndarray, "s s 3"], alt: str, *caption: str) -> Cell:
    """An image without a map."""
    return Cell(shrunk(image, SIDE), alt, caption, smooth=image.shape[0] > PIXELATED)


def _map(model: ModelFolder, index: int, method: str, target: str, *, laid: bool) -> Cell:
    """A stored map, laid over its image or cell by cell."""
    heatmaps, of = model.heatmaps, model.explanations["methods"][method]
    return _map_cell(
        heatmaps[f"map_{method}"][index],
        f"{of['label']} of {labels.the(model.label)}"
        + (f" for {target}" if of["class_specific"] else ""),
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
    if image is None:
        pixels = heat_image(heatmap)
    else:
        image = shrunk(image, SIDE)
        pixels = overlay(image, heatmap, scale=SIDE // image.shape[0])
    caption = ("degenerate",) if degenerate else ()
    return Cell(pixels, f"{label}: {highest}", caption, smooth=image is not None)


def _remark(method: Mapping[str, Any]) -> str:
    return "" if method["class_specific"] else "class-agnostic"
