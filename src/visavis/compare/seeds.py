"""Both models trained with other seeds: how well do the maps of one model agree across seeds?"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from visavis import run_folder
from visavis.compare.same_images import maps_at, shared_rows
from visavis.compare.similarity import Kind, grid
from visavis.errors import CheckpointError
from visavis.metrics import agreement, bootstrap
from visavis.run_folder import ROLES, ModelFolder, model_folders

Trained = list[tuple[str, ModelFolder]]
"""Models, each with its role."""


def trainings(experiment: Path) -> Trained:
    """The two models of an experiment, then those of its other seeds, seed by seed.

    A seed of which one model is not explained yet is left out.

    Raises:
        CheckpointError: one was trained on other images or with other settings than the first.
    """
    models = model_folders(experiment)
    found = list(models.items())
    for folder in sorted(experiment.glob(run_folder.SEED.format("*"))):
        again = [(role, ModelFolder(folder / model.name)) for role, model in models.items()]
        if all((model.path / run_folder.HEATMAPS).exists() for _, model in again):
            found += again
    first = models["first"]
    for role, model in found:
        for key in ("fingerprint", "split_fingerprint"):
            if model.data[key] != first.data[key]:
                raise CheckpointError(
                    f"{model.path} was trained on other images than {first.path} (their {key} "
                    "differs); train it on the same data, with the same --data.split-seed and "
                    "--data.validation-fraction, or move it away"
                )
        if model.config["model"] != models[role].config["model"]:
            raise CheckpointError(
                f"{model.path} was trained with other settings than {models[role].path}, so "
                "it is not another seed of it; move it away"
            )
    return found


def accuracies(trained: Trained) -> list[dict[str, Any]]:
    """Test accuracy and macro F1 of each training."""
    return [
        {
            "model": role,
            "seed": model.config["seed"],
            "accuracy": model.evaluation["accuracy"],
            "f1_macro": model.evaluation["f1_macro"],
        }
        for role, model in trained
    ]


def grid_of_all(trained: Trained) -> dict[str, Any]:
    """The grid of the maps of the first seed, with the noise ceiling of the default methods.

    Returns:
        What `grid` returns, on the images for which the two models predict the same class, and
        `noise_ceiling`, on those for which all trainings do: None with one seed; otherwise the
        agreement above chance of the default methods' maps between the models (`models`) and
        between the seeds of each model (`first`, `second`), and `normalised`,
        models / sqrt(first second): the agreement of the two models relative to that of two
        trainings of one model. It may exceed 1 by chance; None unless both ceilings are
        significantly above 0.
    """
    explanations = {role: model.explanations for role, model in trained[: len(ROLES)]}
    methods = {role: list(of["methods"]) for role, of in explanations.items()}
    default = {role: [of["default_method"]] for role, of in explanations.items()}
    ceiling = noise_ceiling(*_maps(trained, default))
    return grid(*_maps(trained[: len(ROLES)], methods)) | {"noise_ceiling": ceiling}


def _maps(
    trained: Trained, methods: Mapping[str, Sequence[str]]
) -> tuple[list[Kind], Int[np.ndarray, " n"]]:
    """Maps of the images for which all of `trained` predict the same class, and these classes.

    Args:
        methods: of each role. One may have failed its check with another seed, and is left out.
    """
    rows = shared_rows(*(model.heatmaps for _, model in trained), same_prediction=True)
    maps = [
        Kind(role, method, maps_at(of.heatmaps, method, at).astype(float))
        for (role, of), at in zip(trained, rows, strict=True)
        for method in methods[role]
        if f"map_{method}" in of.heatmaps
    ]
    return maps, trained[0][1].heatmaps["predicted"][rows[0]]


def noise_ceiling(maps: list[Kind], classes: Int[np.ndarray, " n"]) -> dict[str, Any] | None:
    """The `noise_ceiling` of `grid_of_all`, from the maps of the default methods alone."""
    above = agreement.above_chance(
        np.stack([agreement.unit_ranks(of.values) for of in maps]), classes
    )
    by_kind: dict[str, list[Float[np.ndarray, " n"]]] = {kind: [] for kind in ("models", *ROLES)}
    for i, j in combinations(range(len(maps)), 2):
        a, b = maps[i].model, maps[j].model
        by_kind["models" if a != b else a].append(above[:, i, j])
    if not all(by_kind.values()):
        return None
    means = {kind: agreement.mean_of_known(np.stack(of)) for kind, of in by_kind.items()}
    intervals = {kind: bootstrap.interval(of, classes=classes) for kind, of in means.items()}
    normalised = None
    if all((of := intervals[name]) and of["low"] > 0 for name in ROLES):
        normalised = agreement.over_ceilings(
            means["models"], means["first"], means["second"], classes
        )
    return {**intervals, "normalised": normalised}
