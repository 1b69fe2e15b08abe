"""The report's figures: what is drawn, from which numbers."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from visavis.report import figures, labels
from visavis.report.figures import Group, Score
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
    drawn = {
        f"class_counts_{split}": figures.class_counts(counts, names, SPLITS[split])
        for split, counts in comparison["data"]["counts"].items()
    }
    for name, model in material.models.items():
        best = model.training["best_epoch"]
        matrix = np.array(comparison["models"][name]["confusion_matrix"])
        drawn[f"{name}_loss"] = figures.loss_curve(model.history, best, name)
        drawn[f"{name}_accuracy"] = figures.accuracy_curve(model.history, best, name)
        drawn[f"{name}_confusion"] = figures.confusion(matrix, names, name)
        drawn |= _score_charts(model)
        drawn |= _trust_charts(model, comparison["models"][name]["accuracy"]["value"])
    drawn["wall_clock"] = figures.wall_clock({n: m.history for n, m in material.models.items()})
    drawn["f1_per_class"] = figures.f1_per_class(
        {name: comparison["models"][name]["f1_per_class"] for name in material.models}, names
    )
    difference = np.array(comparison["confusion_difference"])
    drawn["confusion_difference"] = figures.confusion_difference(difference, names)
    drawn["overlap"] = figures.overlap(comparison["overlap"])
    drawn["reliability"] = figures.reliability(comparison["calibration"])
    drawn["agreement"] = figures.agreement(comparison["grid"])
    drawn["cross_model"] = figures.cross_model(material.cross_model["rankings"])
    pairs = comparison["similarity"]["pairs"]
    methods = material.vit.explanations["methods"]
    names_of_rows = [_row_label(pair["vit_method"], methods[pair["vit_method"]]) for pair in pairs]
    drawn["similarity"] = figures.similarity(pairs, names_of_rows)
    return drawn


def galleries(material: Material) -> dict[str, list[Group]]:
    """The figures that show images and their heatmaps."""
    cnn, vit, names = material.cnn, material.vit, material.class_names
    pair, methods = material.comparison["side_by_side"], vit.explanations["methods"]
    found = pair["highest_agreement"]
    one = found["row_vit"] if found else 0
    films = {
        f"{model.name}_film": figures.snapshots(
            model.snapshots, model.explanations["default_method"], names
        )
        for model in (cnn, vit)
        if model.snapshots is not None
    }
    return films | {
        "class_examples": figures.class_examples(cnn.split["examples"], names),
        "grad_cam_gallery": figures.grad_cam_gallery(cnn.heatmaps, cnn.gallery, names),
        "grad_cam_detail": figures.grad_cam_detail(cnn.heatmaps, cnn.gallery, names),
        "attention_gallery": figures.attention_gallery(vit.heatmaps, vit.gallery, names, methods),
        "attention_heads": figures.attention_heads(vit.heatmaps, one, names),
        "side_by_side": figures.side_by_side(cnn.heatmaps, vit.heatmaps, pair, names, methods),
    }


def _row_label(name: str, method: Mapping[str, Any]) -> str:
    """A method's name in a chart, with a star if it is class-agnostic."""
    return numbers.capital(labels.short(name)) + ("" if method["class_specific"] else " *")


def _trust_charts(model: ModelFolder, accuracy: float) -> dict[str, Figure]:
    """A model's layers, its maps with randomised parameters, and keep-top-k accuracy."""
    explanations, colour = model.explanations, figures.MODEL_COLOURS[model.name]
    baselines = explanations["baselines"]
    lines = {model.default_method["label"]: (model.default_method["scores"], colour)} | {
        baselines[name]["label"]: (baselines[name]["scores"], figures.BASELINE_COLOUR)
        for name in ("centre", "random")
    }
    rows = {
        label: {
            "kept": {share / 100: scores[f"keep_top_{share}"] for share in (10, 20, 30, 50)},
            "colour": line,
        }
        for label, (scores, line) in lines.items()
    }
    return {
        f"{model.name}_layers": figures.layer_sweep(explanations["layer_sweep"]["rows"], colour),
        f"{model.name}_cascade": figures.cascade(explanations["methods"], model.name),
        f"{model.name}_keep_top_k": figures.keep_top_k(rows, model.name, accuracy),
    }


def _score_charts(model: ModelFolder) -> dict[str, Figure]:
    """Each score of a model's maps beside the maps that need no model."""
    explanations = model.explanations
    chance = {"deletion": 0.0, "insertion": 0.0, "central_mass": explanations["centre_chance"]}
    if explanations["mask_chance"]:
        chance["relevance_mass"] = explanations["mask_chance"]["value"]
    drawn = {}
    for key, title in SCORES.items():
        rows = [
            Score(
                _row_label(name, method),
                method["scores"][key],
                figures.MODEL_COLOURS[model.name],
            )
            for name, method in explanations["methods"].items()
            if key != "class_sensitivity" or method["class_specific"]
        ]
        rows += [
            Score(baseline["label"], baseline["scores"][key], figures.BASELINE_COLOUR)
            for baseline in explanations["baselines"].values()
            if key in baseline["scores"]
        ]
        if len([row for row in rows if row.interval]) > 1:
            drawn[f"{model.name}_{key}"] = figures.scores(
                rows, title, chance=chance.get(key), share=key in ("central_mass", "relevance_mass")
            )
    return drawn
