"""The report's figures: what is drawn, from which numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from visavis.report import labels
from visavis.report.figures import bars, curves, dots, galleries, matrices
from visavis.report.figures.dots import KNOWS_NOTHING, Both, Row
from visavis.report.figures.heatmaps import Group
from visavis.report.figures.style import BASELINE_COLOUR, MODEL_COLOURS
from visavis.report.material import Material
from visavis.report.text import numbers
from visavis.run_folder import ModelFolder

SPLITS = {"train": "Training", "validation": "Validation", "test": "Test"}
SCORES = {
    "central_mass": "Share of the map in the central quarter",
    "class_sensitivity": "Class sensitivity",
    "relevance_mass": "Relevance mass accuracy",
}


def charts(material: Material) -> dict[str, Figure]:
    """The figures that show numbers."""
    comparison, names, of = material.comparison, material.class_names, material.labels
    models, cues = comparison["models"], comparison["cues"]
    difference = np.array(comparison["confusion_difference"])
    drawn = {
        "reliability": curves.reliability(comparison["calibration"], of),
        "f1_per_class": dots.f1_per_class(
            {role: facts["f1_per_class"] for role, facts in models.items()}, names, of
        ),
        "similarity": _similarity(material),
        "cross_model": dots.both_models(
            [
                Both(f"{of[row['model']]}: {labels.short(row['method'])}", row["srg"], row["model"])
                for row in material.cross_model["rankings"]
            ],
            of,
            "SRG of each map on both models",
            chance=0.0,
        ),
        "cues": dots.both_models(
            [
                Both("Original", cues["unchanged"]),
                *(Both(numbers.capital(row["label"]), row["accuracy"]) for row in cues["rows"]),
            ],
            of,
            "Accuracy without one cue",
            chance=cues["chance"],
            share=True,
        ),
        "overlap": bars.overlap(comparison["buckets"], of),
        "agreement": matrices.agreement(comparison["grid"], of),
        "confusion_difference": matrices.confusion_difference(difference, names, of),
    }
    if histories := {role: m.history for role, m in material.models.items() if m.history}:
        drawn["wall_clock"] = curves.wall_clock(histories, of)
    tested = {
        role: found
        for role, model in material.models.items()
        if (found := model.explanations.get("score_validation"))
    }
    if len(tested) == len(material.models):
        drawn["spoilt"] = curves.spoilt(tested, of)
    for split, counts in comparison["data"]["counts"].items():
        drawn[f"class_counts_{split}"] = bars.class_counts(counts, names, SPLITS[split])
    for role, model in material.models.items():
        drawn |= _model_charts(role, model, models[role], names)
    return drawn


def _similarity(material: Material) -> Figure:
    """Agreement of the first model's default map with each of the second's."""
    methods = material.models["second"].explanations["methods"]
    rows = [
        Row(
            _row_label(pair["second_method"], methods),
            pair["agreement"],
            MODEL_COLOURS["second"],
            pair["permutation_baseline"] if pair["agreement"] else None,
        )
        for pair in material.comparison["similarity"]["pairs"]
    ]
    title = f"Agreement with each map of {labels.the(material.labels['second'])}"
    legend = ("same image", "permutation baseline")
    return dots.dots(rows, title, legend=legend, xlabel="Mean rank correlation", chance=0.0)


def _model_charts(
    role: str, model: ModelFolder, facts: Mapping[str, Any], class_names: list[str]
) -> dict[str, Figure]:
    """The charts of one model; their names begin with its role."""
    explanations, look = model.explanations, {"label": model.label, "colour": MODEL_COLOURS[role]}
    matrix = np.array(facts["confusion_matrix"])
    drawn = {
        "confusion": matrices.confusion(matrix, class_names, **look),
        "cascade": curves.cascade(explanations["methods"], **look),
        "faithfulness": _faithfulness(explanations, **look),
        **_score_charts(explanations, look["colour"]),
    }
    if model.history:
        for metric in ("loss", "accuracy"):
            drawn[metric] = curves.training_curve(
                model.history, model.training["best_epoch"], metric, **look
            )
    if sweep := explanations["layer_sweep"]:
        drawn["layers"] = _layers(sweep["rows"], **look)
    return {f"{role}_{name}": figure for name, figure in drawn.items()}


def image_grids(material: Material) -> dict[str, list[Group]]:
    """The figures that show images and their heatmaps."""
    models, names = material.models, material.class_names
    pair = material.comparison["side_by_side"]
    grids = {
        "class_examples": galleries.class_examples(models["first"].split["examples"], names),
        "without_cues": galleries.without_cues(models, names),
        "side_by_side": galleries.side_by_side(models, pair, names),
    }
    found = pair["highest_agreement"]
    for role, model in models.items():
        grids[f"{role}_gallery"] = galleries.gallery(model, names)
        grids[f"{role}_detail"] = galleries.detail(model, names)
        if "attention_heads" in model.heatmaps:
            one = found[f"row_{role}"] if found else 0
            grids[f"{role}_attention_heads"] = galleries.attention_heads(model.heatmaps, one, names)
        method = model.explanations["default_method"]
        if model.snapshots is not None and f"map_{method}" in model.snapshots:
            grids[f"{role}_snapshots"] = galleries.snapshots(model.snapshots, method, names)
    return grids


def _row_label(name: str, methods: labels.Methods) -> str:
    """A method's name in a chart, with a star if it is class-agnostic."""
    star = "" if methods[name]["class_specific"] else " *"
    return numbers.capital(labels.short(name, methods)) + star


def _layers(rows: Sequence[Mapping[str, Any]], label: str, colour: str) -> Figure:
    """SRG of Grad-CAM at each layer; the chosen layer is filled."""
    of = [
        Row(
            f"{row['layer']}, {row['grid'][0]} × {row['grid'][1]}",
            row["srg"] if row["chosen"] else None,
            colour,
            None if row["chosen"] else row["srg"],
        )
        for row in rows
    ]
    legend = ("chosen layer", "other layers")
    title = f"{label}: Grad-CAM by layer"
    return dots.dots(of, title, legend=legend, xlabel=KNOWS_NOTHING, chance=0.0)


def _faithfulness(explanations: Mapping[str, Any], label: str, colour: str) -> Figure:
    """SRG of each map, with that of the runner-up's map, beside the maps that need no model."""
    rows = _maps(explanations, "srg", colour, second="srg_runner_up")
    legend = ("its map", "the runner-up’s map")
    return dots.dots(rows, label, legend=legend, xlabel=KNOWS_NOTHING, chance=0.0)


def _score_charts(explanations: Mapping[str, Any], colour: str) -> dict[str, Figure]:
    """Each score of a model's maps beside the maps that need no model."""
    chance = {"central_mass": explanations["centre_chance"]}
    if explanations["mask_chance"]:
        chance["relevance_mass"] = explanations["mask_chance"]["value"]
    drawn = {}
    for key, title in SCORES.items():
        rows = _maps(explanations, key, colour)
        if len([row for row in rows if row.filled]) > 1:
            share = key in ("central_mass", "relevance_mass")
            drawn[key] = dots.dots(rows, title, chance=chance.get(key), share=share)
    return drawn


def _maps(explanations: Mapping[str, Any], key: str, colour: str, *, second: str = "") -> list[Row]:
    """A row for each map of a model with one or two of its scores, and for each baseline."""
    methods, baselines = explanations["methods"], explanations["baselines"]
    rows = [
        Row(_row_label(name, methods), method["scores"][key], colour, method["scores"].get(second))
        for name, method in methods.items()
        if key != "class_sensitivity" or method["class_specific"]
    ]
    return rows + [
        Row(of["label"], of["scores"][key], BASELINE_COLOUR)
        for of in baselines.values()
        if key in of["scores"]
    ]
