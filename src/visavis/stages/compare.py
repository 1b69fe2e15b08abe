"""Stage: compare both models on the same test images.

Reads, in both models' folders: config.json, data.json, history.jsonl, training.json,
predictions.npz, evaluation.json, heatmaps.npz, explanations.json; of their other trainings, in
seed-N, the same but explanations.json. Writes comparison.json.

All scores of the predictions are computed from the logits, image by image, so that differences are
paired.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from visavis import run_folder
from visavis.compare import behaviour, map_agreement, seeds
from visavis.compare.same_images import checksums, require_same, require_same_grid, shared_rows
from visavis.metrics import bootstrap, calibration, classification
from visavis.run_folder import ROLES, ModelFolder, model_folders

log = logging.getLogger(__name__)

VALIDATION_ACCURACIES = (0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)
"""Learning speed is the time to first reach each of these."""

TRAINING_FACTS = (
    "parameters",
    "epochs",
    "best_epoch",
    "train_seconds",
    "images_per_second",
    "best_val_accuracy",
)
"""A model that was not trained here has its parameters alone; the others are None."""

LOGITS = ("logits", "labels", "validation_logits", "validation_labels")

SAME = {run_folder.PREDICTIONS: ("indices", "labels", "cue_indices")}
"""What both tests share."""

Models = dict[str, ModelFolder]
"""The two models by role."""

Buckets = dict[str, Bool[np.ndarray, " n"]]
"""The test images by which model predicts them correctly."""


def compare(experiment: Path) -> None:
    """Write comparison.json.

    Raises:
        CheckpointError: a stage before this one is missing, or the two models were not trained,
            tested and explained alike.
    """
    models = model_folders(experiment)
    # In the order of the stages, so that an error names the first missing.
    for model in models.values():
        _ = model.training, model.evaluation, model.heatmaps, model.explanations
    trained = seeds.trainings(experiment)
    require_same(models["first"], models["second"], SAME, "test both on the same data")
    require_same_grid(models)
    first = models["first"]
    histories = {role: model.history for role, model in models.items() if model.history}
    run_folder.write_json(
        experiment / run_folder.COMPARISON,
        {
            "labels": {role: model.label for role, model in models.items()},
            "data": {key: value for key, value in first.data.items() if key != "notice"},
            "test_n": len(first.labels),
            "heatmaps_sha256": checksums(experiment),
            **_scores(models),
            **_errors(models),
            **_maps(models),
            "cues": _cues(models),
            "calibration": {
                role: calibration.calibration(*(model.predictions[key] for key in LOGITS))
                for role, model in models.items()
            },
            "convergence": convergence(histories),
            "grid": seeds.grid_of_all(trained),
            "seeds": seeds.accuracies(trained),
        },
    )
    log.info("compared both models on %d test images", len(first.labels))


def _scores(models: Models) -> dict[str, Any]:
    """The scores of both models on the test images, and their differences."""
    first, second = models.values()
    classes = len(first.data["class_names"])
    truth, predicted = first.labels, (first.predicted, second.predicted)
    confusions = [classification.confusion_matrix(truth, of, classes) for of in predicted]
    columns = [classification.f1_columns(truth, of, classes) for of in predicted]

    def f1_difference(means: Float[np.ndarray, "draws columns"]) -> Float[np.ndarray, " draws"]:
        a, b = (classification.f1_macro_of(of) for of in np.split(means, 2, axis=1))
        return a - b

    return {
        "models": {
            role: _facts(model, *of)
            for (role, model), *of in zip(models.items(), confusions, columns, strict=True)
        },
        "accuracy_difference": bootstrap.paired_difference(first.correct, second.correct),
        "f1_macro_difference": bootstrap.drawn_interval(
            np.concatenate(columns, axis=1), f1_difference
        ),
        "mcnemar": classification.mcnemar(first.correct, second.correct),
        "confusion_difference": (confusions[0] - confusions[1]).tolist(),
    }


def _errors(models: Models) -> dict[str, Any]:
    """Which images each model classifies correctly, and whether both make the same errors."""
    first, second = models.values()
    buckets = classification.buckets(first.labels, first.predicted, second.predicted)
    return {
        "error_consistency": behaviour.consistency(first.correct, second.correct),
        "same_wrong_class": behaviour.same_wrong_class(
            first.labels, first.predicted, second.predicted, len(first.data["class_names"])
        ),
        "buckets": _buckets(models, buckets),
        "mistakes": {role: _mistakes(model) for role, model in models.items()},
    }


def _cues(models: Models) -> dict[str, Any]:
    """What each model keeps of its accuracy on images from which one cue was taken."""
    first, second = models.values()
    rows = first.predictions["cue_indices"]
    counts = first.data["counts"]["test"]
    chance = max(counts) / sum(counts)

    def correct(model: ModelFolder, cue: str) -> Bool[np.ndarray, " n"]:
        return model.predictions[f"cue_{cue}"] == model.labels[rows]

    whole = (first.correct[rows], second.correct[rows])
    return {
        "n": len(rows),
        "chance": chance,
        "unchanged": {role: bootstrap.interval(of) for role, of in zip(ROLES, whole, strict=True)},
        "rows": [
            {
                "cue": cue,
                "label": of["label"],
                **behaviour.without_cue(whole, (correct(first, cue), correct(second, cue)), chance),
            }
            for cue, of in first.evaluation["cues"].items()
        ],
    }


def _maps(models: Models) -> dict[str, Any]:
    """Agreement of both models' maps, on the images for which both predict the same class."""
    first, second = (model.heatmaps for model in models.values())
    rows = shared_rows(first, second, same_prediction=True)
    default = _default_methods(models)
    return {
        "similarity": {
            "n": len(rows[0]),
            "pairs": [
                map_agreement.similarity(first, second, rows, (default[0], method))
                for method in models["second"].explanations["methods"]
            ],
        },
        "side_by_side": map_agreement.side_by_side(first, second, rows, default),
    }


def _default_methods(models: Models) -> map_agreement.Methods:
    first, second = (model.explanations["default_method"] for model in models.values())
    return first, second


def convergence(histories: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Epochs and training seconds until each model first reaches a validation accuracy.

    A model that never reaches it has None; accuracies that no model reaches are omitted, as are
    models that were not trained here.
    """
    rows: list[dict[str, Any]] = []
    for accuracy in VALIDATION_ACCURACIES:
        row: dict[str, Any] = {"val_accuracy": accuracy}
        for role, history in histories.items():
            reached = next((e for e in history if e["val_accuracy"] >= accuracy), None)
            row[role] = reached and {
                "epochs": reached["epoch"],
                "seconds": reached["elapsed_train_seconds"],
            }
        if any(row[role] for role in histories):
            rows.append(row)
    return rows


def _facts(
    run: ModelFolder,
    confusion: Int[np.ndarray, "classes classes"],
    columns: Float[np.ndarray, "n columns"],
) -> dict[str, Any]:
    """One model's column of the comparison."""
    return {
        **{key: run.training.get(key) for key in TRAINING_FACTS},
        "accuracy": bootstrap.interval(run.correct),
        "f1_macro": bootstrap.drawn_interval(columns, classification.f1_macro_of),
        "f1_per_class": classification.f1_per_class(confusion).tolist(),
        "confusion_matrix": confusion.tolist(),
        "inference_images_per_second": run.evaluation["inference_images_per_second"],
    }


def _buckets(models: Models, buckets: Buckets) -> dict[str, Any]:
    """For each bucket: the confidence of both models, and the agreement of their maps."""
    first, second = models.values()
    return {
        name: {
            "n": int(inside.sum()),
            "confidence": {
                role: bootstrap.interval(model.confidence[inside]) for role, model in models.items()
            },
            "similarity": behaviour.evidence_for_truth(
                first.heatmaps,
                second.heatmaps,
                first.predictions["indices"][inside],
                _default_methods(models),
            ),
        }
        for name, inside in buckets.items()
    }


def _mistakes(model: ModelFolder) -> dict[str, Any]:
    """Confidence of correct and of wrong predictions, and where the model looks for the latter."""
    method = model.explanations["default_method"]
    return {
        "method": method,
        "correct_confidence": bootstrap.interval(model.confidence[model.correct]),
        "incorrect_confidence": bootstrap.interval(model.confidence[~model.correct]),
        "same_place": map_agreement.same_place(model.heatmaps, method),
    }
