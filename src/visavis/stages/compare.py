"""Stage: compare both models on the same test images.

Reads, in cnn/ and in vit/: data.json, history.jsonl, training.json, predictions.npz,
evaluation.json, heatmaps.npz, explanations.json. Writes comparison.json.

All scores of the predictions are computed from the logits, image by image, so that differences are
paired.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from visavis import run_folder
from visavis.compare import behaviour, heatmaps, seeds
from visavis.compare.pairing import checksums, common_rows
from visavis.config import MODEL_NAMES
from visavis.errors import CheckpointError
from visavis.metrics import bootstrap, calibration, classification
from visavis.run_folder import ModelFolder

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

LOGITS = ("logits", "labels", "validation_logits", "validation_labels")

Buckets = dict[str, Bool[np.ndarray, " n"]]
"""The test images by which model predicts them correctly."""


def compare(experiment: Path) -> None:
    """Write comparison.json.

    Raises:
        CheckpointError: a stage before this one is missing, or the two models were not trained
            and tested on the same images.
    """
    cnn, vit = (ModelFolder(experiment / name) for name in MODEL_NAMES)
    for model in (cnn, vit):  # in the order of the stages, so that an error names the first missing
        _ = model.training, model.evaluation, model.heatmaps, model.explanations
    trained = seeds.trainings(experiment)
    _require_same_test(cnn, vit)
    run_folder.write_json(
        experiment / run_folder.COMPARISON,
        {
            "data": {key: value for key, value in cnn.data.items() if key != "notice"},
            "test_n": len(cnn.labels),
            "heatmaps_sha256": checksums(experiment),
            **_scores(cnn, vit),
            **_errors(cnn, vit),
            **_maps(cnn, vit),
            "calibration": {
                model.name: calibration.calibration(*(model.predictions[key] for key in LOGITS))
                for model in (cnn, vit)
            },
            "convergence": convergence({"cnn": cnn.history, "vit": vit.history}),
            "grid": seeds.grid_of_all(trained),
            "seeds": seeds.accuracies(trained),
        },
    )
    log.info("compared both models on %d test images", len(cnn.labels))


def _scores(cnn: ModelFolder, vit: ModelFolder) -> dict[str, Any]:
    """The scores of both models on the test images, and their differences."""
    classes = len(cnn.data["class_names"])
    truth, predicted = cnn.labels, (cnn.predicted, vit.predicted)
    confusions = [classification.confusion_matrix(truth, of, classes) for of in predicted]
    *f1, f1_difference = classification.macro_f1_intervals(truth, *predicted, classes)
    return {
        "models": {
            "cnn": _facts(cnn, confusions[0], f1[0]),
            "vit": _facts(vit, confusions[1], f1[1]),
        },
        "accuracy_difference": bootstrap.paired_difference(cnn.correct, vit.correct),
        "f1_macro_difference": f1_difference,
        "mcnemar": classification.mcnemar(cnn.correct, vit.correct),
        "confusion_difference": (confusions[0] - confusions[1]).tolist(),
    }


def _errors(cnn: ModelFolder, vit: ModelFolder) -> dict[str, Any]:
    """Which images each model classifies correctly, and whether both make the same errors."""
    buckets = classification.buckets(cnn.labels, cnn.predicted, vit.predicted)
    return {
        "overlap": _overlap(buckets),
        "error_consistency": behaviour.consistency(cnn.correct, vit.correct),
        "same_wrong_class": behaviour.same_wrong_class(
            cnn.labels, cnn.predicted, vit.predicted, len(cnn.data["class_names"])
        ),
        "buckets": _buckets(cnn, vit, buckets),
        "mistakes": {of.name: _mistakes(of, seeds.DEFAULT_METHODS[of.name]) for of in (cnn, vit)},
    }


def _maps(cnn: ModelFolder, vit: ModelFolder) -> dict[str, Any]:
    """Agreement of both models' maps, on the images for which both predict the same class."""
    rows = common_rows(cnn.heatmaps, vit.heatmaps)
    return {
        "similarity": {
            "n": len(rows[0]),
            "pairs": [
                heatmaps.similarity(cnn.heatmaps, vit.heatmaps, rows, method)
                for method in vit.explanations["methods"]
            ],
        },
        "side_by_side": heatmaps.side_by_side(cnn.heatmaps, vit.heatmaps, rows),
    }


def convergence(histories: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Epochs and training seconds until each model first reaches a validation accuracy.

    A model that never reaches it has None; accuracies that no model reaches are omitted.
    """
    rows: list[dict[str, Any]] = []
    for accuracy in VALIDATION_ACCURACIES:
        row: dict[str, Any] = {"val_accuracy": accuracy}
        for name, history in histories.items():
            reached = next((e for e in history if e["val_accuracy"] >= accuracy), None)
            row[name] = reached and {
                "epochs": reached["epoch"],
                "seconds": reached["elapsed_train_seconds"],
            }
        if any(row[name] for name in histories):
            rows.append(row)
    return rows


def _require_same_test(cnn: ModelFolder, vit: ModelFolder) -> None:
    """Raise a CheckpointError unless both models were tested on the same images and labels."""
    for key in ("indices", "labels"):
        if not np.array_equal(cnn.predictions[key], vit.predictions[key]):
            raise CheckpointError(
                f"{cnn.path} and {vit.path} were tested on different test images (the {key} in "
                f"{run_folder.PREDICTIONS} differ); test both on the same data"
            )


def _facts(
    run: ModelFolder, confusion: Int[np.ndarray, "classes classes"], f1: bootstrap.Interval
) -> dict[str, Any]:
    """One model's column of the comparison."""
    return {
        **{key: run.training[key] for key in TRAINING_FACTS},
        "accuracy": bootstrap.interval(run.correct),
        "f1_macro": f1,
        "f1_per_class": classification.f1_per_class(confusion).tolist(),
        "confusion_matrix": confusion.tolist(),
        "inference_images_per_second": run.evaluation["inference_images_per_second"],
    }


def _overlap(buckets: Buckets) -> dict[str, int]:
    """How many images both models, one of them, or neither predict correctly."""
    n = {name: int(inside.sum()) for name, inside in buckets.items()}
    same, different = n.pop("both_wrong_same"), n.pop("both_wrong_different")
    return {**n, "both_wrong": same + different, "both_wrong_same_class": same}


def _buckets(cnn: ModelFolder, vit: ModelFolder, buckets: Buckets) -> dict[str, Any]:
    """For each bucket: the confidence of both models, and the agreement of their maps."""
    return {
        name: {
            "n": int(inside.sum()),
            "confidence": {
                run.name: bootstrap.interval(run.confidence[inside]) for run in (cnn, vit)
            },
            "similarity": behaviour.evidence_for_truth(
                cnn.heatmaps, vit.heatmaps, cnn.predictions["indices"][inside]
            ),
        }
        for name, inside in buckets.items()
    }


def _mistakes(run: ModelFolder, method: str) -> dict[str, Any]:
    """Confidence of correct and of wrong predictions, and where the model looks for the latter."""
    return {
        "method": method,
        "correct_confidence": bootstrap.interval(run.confidence[run.correct]),
        "incorrect_confidence": bootstrap.interval(run.confidence[~run.correct]),
        "same_place": heatmaps.same_place(run.heatmaps, method),
    }
