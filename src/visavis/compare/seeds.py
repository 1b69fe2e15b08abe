"""Other trainings of both models, with other seeds: how well does a model agree with itself?"""

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from visavis import run_folder
from visavis.compare.heatmaps import CNN_METHOD, VIT_METHOD
from visavis.compare.pairing import Arrays, common_rows
from visavis.compare.similarity import Kind, grid, maps_of
from visavis.config import MODEL_NAMES
from visavis.errors import CheckpointError
from visavis.metrics import agreement, bootstrap

MAIN = {"cnn": CNN_METHOD, "vit": VIT_METHOD}


@dataclass(frozen=True)
class Training:
    """One trained and explained model."""

    model: str
    seed: int
    folder: Path
    heatmaps: Arrays


def trainings(experiment: Path) -> list[Training]:
    """The two models of an experiment and then, seed by seed, those that were trained again.

    A seed of which one model is not explained yet is left out.

    Raises:
        CheckpointError: one was trained on other images or with other settings than the first.
    """
    again = sorted(experiment.glob(run_folder.SEED.format("*")))
    folders = [
        experiment,
        *(f for f in again if all((f / n / run_folder.HEATMAPS).exists() for n in MODEL_NAMES)),
    ]
    first = run_folder.read_json(experiment / "cnn" / run_folder.DATA)
    settings = {
        n: run_folder.read_json(experiment / n / run_folder.CONFIG)["model"] for n in MODEL_NAMES
    }
    found = []
    for folder in folders:
        for name in MODEL_NAMES:
            data = run_folder.read_json(folder / name / run_folder.DATA)
            for key in ("fingerprint", "split_fingerprint"):
                if data[key] != first[key]:
                    raise CheckpointError(
                        f"{folder / name} was trained on other images than {experiment}/cnn "
                        f"(their {key} differs); move it away, or train it from the same data"
                    )
            config = run_folder.read_json(folder / name / run_folder.CONFIG)
            if config["model"] != settings[name]:
                raise CheckpointError(
                    f"{folder / name} was trained with other settings than {experiment / name}: it "
                    "is not another seed of it; move it away"
                )
            heatmaps = run_folder.read_arrays(folder / name / run_folder.HEATMAPS)
            found.append(Training(name, config["seed"], folder / name, heatmaps))
    return found


def accuracies(found: list[Training]) -> list[dict[str, Any]]:
    """Test accuracy and macro F1 of each training."""
    rows = []
    for training in found:
        evaluation = run_folder.read_json(training.folder / run_folder.EVALUATION)
        scores = {key: evaluation[key] for key in ("accuracy", "f1_macro")}
        rows.append({"model": training.model, "seed": training.seed, **scores})
    return rows


def grid_of_all(found: list[Training], methods: dict[str, list[str]]) -> dict[str, Any]:
    """The grid of all maps of all trainings, and the two main maps' agreement under its ceiling.

    Args:
        methods: of each model.

    Returns:
        What `grid` returns, on the images that all trainings put in the same class, and
        `ceiling`: None with one seed; otherwise of the main maps the excess agreement between the
        models (`models`), of each model with its other trainings (`cnn`, `vit`), and `normalised`,
        models / sqrt(cnn vit): how much of the agreement that two trainings of a model reach two
        different models reach. Above 1 is possible by chance; None where a ceiling was not shown to
        be above 0.
    """
    rows = common_rows(*(training.heatmaps for training in found))
    maps = [
        of
        for training, places in zip(found, rows, strict=True)
        for of in maps_of(
            training.model, training.seed, training.heatmaps, places, methods[training.model]
        )
    ]
    classes = found[0].heatmaps["predicted"][rows[0]]
    return grid(maps, classes) | {"noise_ceiling": _ceiling(maps, classes)}


def _ceiling(maps: list[Kind], classes: Int[np.ndarray, " n"]) -> dict[str, Any] | None:
    main = [of for of in maps if of.method == MAIN[of.model]]
    by_kind: dict[str, list[Float[np.ndarray, " n"]]] = {"models": [], "cnn": [], "vit": []}
    for a, b in combinations(main, 2):
        excess = agreement.agreement_above_chance(a.values, b.values, classes)
        by_kind["models" if a.model != b.model else a.model].append(excess)
    if not all(by_kind.values()):
        return None
    means = {kind: np.mean(pairs, axis=0) for kind, pairs in by_kind.items()}
    intervals = {kind: bootstrap.interval(of, clusters=classes) for kind, of in means.items()}
    known = np.isfinite(np.stack(list(means.values()))).all(axis=0)
    shown = all((of := intervals[name]) and of["low"] > 0 for name in MODEL_NAMES)
    normalised = None
    if shown:
        normalised = bootstrap.drawn_interval(
            np.stack([of[known] for of in means.values()], axis=1),
            lambda m: m[:, 0] / np.sqrt(np.clip(m[:, 1] * m[:, 2], 1e-9, None)),
            clusters=classes[known],
        )
    return {**intervals, "normalised": normalised}
