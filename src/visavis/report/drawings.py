"""The report's figures: what is drawn, from which numbers."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from visavis.report import labels
from visavis.report.figures import bars, curves, dots, galleries, matrices
from visavis.report.figures.dots import Score
from visavis.report.figures.heatmaps import Group
from visavis.report.figures.style import BASELINE_COLOUR, MODEL_COLOURS
from visavis.report.material import Material
from visavis.report.text import numbers
from visavis.run_folder import ModelFolder

SPLITS = {"train": "Training", "validation": "Validation", "test": "Test"}
SCORES = {
    "deletion": "Normalised deletion",
    "insertion": "Normalised insertion",
    "central_mass": "Share of the map in the central quarter",
    "class_sensitivity": "Class sensitivity",
    "relevance_mass": "Relevance mass accuracy",
}


def charts(material: Material) -> dict[str, Figure]:
    """The figures that show numbers."""
    comparison, names = material.comparison, material.class_names
    models = comparison["models"]
    pairs = comparison["similarity"]["pairs"]
    methods = material.vit.explanations["methods"]
    vit_rows = [_row_label(pair["vit_method"], methods[pair["vit_method"]]) for pair in pairs]
    difference = np.array(comparison["confusion_difference"])
    drawn = {
        "wall_clock": curves.wall_clock({n: m.history for n, m in material.models.items()}),
        "reliability": curves.reliability(comparison["calibration"]),
        "f1_per_class": dots.f1_per_class(
            {name: models[name]["f1_per_class"] for name in material.models}, names
        ),
        "similarity": dots.similarity(pairs, vit_rows),
        "cross_model": dots.cross_model(material.cross_model["rankings"]),
        "overlap": bars.overlap(comparison["overlap"]),
        "agreement": matrices.agreement(comparison["grid"]),
        "confusion_difference": matrices.confusion_difference(difference, names),
    }
    for split, counts in comparison["data"]["counts"].items():
        drawn[f"class_counts_{split}"] = bars.class_counts(counts, names, SPLITS[split])
    for name, model in material.models.items():
        for metric in ("loss", "accuracy"):
            drawn[f"{name}_{metric}"] = curves.training_curve(
                model.history, model.training["best_epoch"], name, metric
            )
        matrix = np.array(models[name]["confusion_matrix"])
        drawn[f"{name}_confusion"] = matrices.confusion(matrix, names, name)
        drawn |= _score_charts(model) | _trust_charts(model)
    return drawn


def image_grids(material: Material) -> dict[str, list[Group]]:
    """The figures that show images and their heatmaps."""
    cnn, vit, names = material.cnn, material.vit, material.class_names
    pair, methods = material.comparison["side_by_side"], vit.explanations["methods"]
    found = pair["highest_agreement"]
    one = found["row_vit"] if found else 0
    grids = {
        "class_examples": galleries.class_examples(cnn.split["examples"], names),
        "grad_cam_gallery": galleries.grad_cam_gallery(cnn.heatmaps, cnn.gallery, names),
        "grad_cam_detail": galleries.grad_cam_detail(cnn.heatmaps, cnn.gallery, names),
        "attention_gallery": galleries.attention_gallery(vit.heatmaps, vit.gallery, names, methods),
        "attention_heads": galleries.attention_heads(vit.heatmaps, one, names),
        "side_by_side": galleries.side_by_side(cnn.heatmaps, vit.heatmaps, pair, names, methods),
    }
    for name, model in material.models.items():
        if model.snapshots is not None:
            method = model.explanations["default_method"]
            grids[f"{name}_snapshots"] = galleries.snapshots(model.snapshots, method, names)
    return grids


def _row_label(name: str, method: Mapping[str, Any]) -> str:
    """A method's name in a chart, with a star if it is class-agnostic."""
    return numbers.capital(labels.short(name)) + ("" if method["class_specific"] else " *")


def _trust_charts(model: ModelFolder) -> dict[str, Figure]:
    """A model's layers, and its maps with randomised parameters."""
    explanations, colour = model.explanations, MODEL_COLOURS[model.name]
    return {
        f"{model.name}_layers": dots.layer_sweep(explanations["layer_sweep"]["rows"], colour),
        f"{model.name}_cascade": curves.cascade(explanations["methods"], model.name),
    }


def _score_charts(model: ModelFolder) -> dict[str, Figure]:
    """Each score of a model's maps beside the maps that need no model."""
    explanations, colour = model.explanations, MODEL_COLOURS[model.name]
    chance = {"deletion": 0.0, "insertion": 0.0, "central_mass": explanations["centre_chance"]}
    if explanations["mask_chance"]:
        chance["relevance_mass"] = explanations["mask_chance"]["value"]
    drawn = {}
    for key, title in SCORES.items():
        rows = [
            Score(_row_label(name, method), method["scores"][key], colour)
            for name, method in explanations["methods"].items()
            if key != "class_sensitivity" or method["class_specific"]
        ]
        rows += [
            Score(baseline["label"], baseline["scores"][key], BASELINE_COLOUR)
            for baseline in explanations["baselines"].values()
            if key in baseline["scores"]
        ]
        if len([row for row in rows if row.interval]) > 1:
            drawn[f"{model.name}_{key}"] = dots.scores(
                rows, title, chance=chance.get(key), share=key in ("central_mass", "relevance_mass")
            )
    return drawn
