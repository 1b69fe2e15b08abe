"""Both models trained with other seeds: how well do the maps of one model agree across seeds?"""

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from visavis import run_folder
from visavis.compare.heatmaps import CNN_METHOD, VIT_METHOD
from visavis.compare.pairing import common_rows, maps_at
from visavis.compare.similarity import Kind, grid
from visavis.config import MODEL_NAMES
from visavis.errors import CheckpointError
from visavis.metrics import agreement, bootstrap
from visavis.run_folder import ModelFolder

DEFAULT_METHODS = {"cnn": CNN_METHOD, "vit": VIT_METHOD}


def trainings(experiment: Path) -> list[ModelFolder]:
    """The two models of an experiment, then those of its other seeds, seed by seed.

    A seed of which one model is not explained yet is left out.

    Raises:
        CheckpointError: one was trained on other images or with other settings than the first.
    """
    first = {name: ModelFolder(experiment / name) for name in MODEL_NAMES}
    found = list(first.values())
    for folder in sorted(experiment.glob(run_folder.SEED.format("*"))):
        models = [ModelFolder(folder / name) for name in MODEL_NAMES]
        if all((model.path / run_folder.HEATMAPS).exists() for model in models):
            found += models
    for model in found:
        for key in ("fingerprint", "split_fingerprint"):
            if model.data[key] != first["cnn"].data[key]:
                raise CheckpointError(
                    f"{model.path} was trained on other images than {experiment}/cnn (their {key} "
                    "differs); train it on the same data, with the same --data.split-seed and "
                    "--data.validation-fraction, or move it away"
                )
        if model.config["model"] != first[model.name].config["model"]:
            raise CheckpointError(
                f"{model.path} was trained with other settings than {first[model.name].path}, so "
                "it is not another seed of it; move it away"
            )
    return found


def accuracies(trained: list[ModelFolder]) -> list[dict[str, Any]]:
    """Test accuracy and macro F1 of each training."""
    return [
        {
            "model": model.name,
            "seed": model.config["seed"],
            "accuracy": model.evaluation["accuracy"],
            "f1_macro": model.evaluation["f1_macro"],
        }
        for model in trained
    ]


def grid_of_all(trained: list[ModelFolder]) -> dict[str, Any]:
    """The grid of all maps of all trainings, with the noise ceiling of the default methods.

    Returns:
        What `grid` returns, on the images for which all trainings predict the same class, and
        `noise_ceiling`: None with one seed; otherwise the agreement above chance of the default
        methods' maps between the models (`models`) and between the seeds of each model (`cnn`,
        `vit`), and `normalised`, models / sqrt(cnn vit): the agreement of the two models relative
        to that of two trainings of one model. It may exceed 1 by chance; None unless both
        ceilings are significantly above 0.
    """
    rows = common_rows(*(model.heatmaps for model in trained))
    methods = {model.name: list(model.explanations["methods"]) for model in trained[:2]}
    maps = [
        Kind(of.name, of.config["seed"], method, maps_at(of.heatmaps, method, at).astype(float))
        for of, at in zip(trained, rows, strict=True)
        for method in methods[of.name]
    ]
    classes = trained[0].heatmaps["predicted"][rows[0]]
    return grid(maps, classes) | {"noise_ceiling": noise_ceiling(maps, classes)}


def noise_ceiling(maps: list[Kind], classes: Int[np.ndarray, " n"]) -> dict[str, Any] | None:
    """The `noise_ceiling` of `grid_of_all`."""
    default = [of for of in maps if of.method == DEFAULT_METHODS[of.model]]
    by_kind: dict[str, list[Float[np.ndarray, " n"]]] = {"models": [], "cnn": [], "vit": []}
    for a, b in combinations(default, 2):
        above = agreement.agreement_above_chance(a.values, b.values, classes)
        by_kind["models" if a.model != b.model else a.model].append(above)
    if not all(by_kind.values()):
        return None
    means = {kind: np.mean(pairs, axis=0) for kind, pairs in by_kind.items()}
    intervals = {kind: bootstrap.interval(of, clusters=classes) for kind, of in means.items()}
    known = np.isfinite(np.stack(list(means.values()))).all(axis=0)
    normalised = None
    if all((of := intervals[name]) and of["low"] > 0 for name in MODEL_NAMES):
        normalised = bootstrap.drawn_interval(
            np.stack([of[known] for of in means.values()], axis=1),
            lambda m: m[:, 0] / np.sqrt(np.clip(m[:, 1] * m[:, 2], 1e-9, None)),
            clusters=classes[known],
        )
    return {**intervals, "normalised": normalised}
