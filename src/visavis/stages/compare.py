"""Both models side by side on the same test images.

Reads, in cnn/ and in vit/: data.json, history.jsonl, training.json, predictions.npz,
evaluation.json, heatmaps.npz, explanations.json. Writes comparison.json.

Whatever the two models' answers decide is taken anew from their logits, image by image, so that
differences are paired.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import softmax

from visavis import run_folder
from visavis.compare import behaviour, heatmaps, seeds
from visavis.compare.pairing import checksums, common_rows
from visavis.errors import CheckpointError
from visavis.metrics import bootstrap, calibration, classification

log = logging.getLogger(__name__)

VALIDATION_ACCURACIES = (0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)
"""How fast a model learns is read off where it first reaches these."""

Buckets = dict[str, Bool[np.ndarray, " n"]]
"""The test images by who gets them right."""


@dataclass(frozen=True)
class Run:
    """What a trained, tested and explained model left in its folder."""

    data: dict[str, Any]
    history: list[dict[str, Any]]
    training: dict[str, Any]
    evaluation: dict[str, Any]
    explanations: dict[str, Any]
    heatmaps: dict[str, np.ndarray]
    labels: Int[np.ndarray, " n"]
    indices: Int[np.ndarray, " n"]
    logits: Float[np.ndarray, "n classes"]
    validation_logits: Float[np.ndarray, "m classes"]
    validation_labels: Int[np.ndarray, " m"]

    @property
    def predicted(self) -> Int[np.ndarray, " n"]:
        """The class with the highest logit."""
        return self.logits.argmax(axis=1)

    @property
    def confidence(self) -> Float[np.ndarray, " n"]:
        """The probability of that class."""
        return softmax(self.logits.astype(np.float64), axis=1).max(axis=1)

    @property
    def right(self) -> Bool[np.ndarray, " n"]:
        """Which test images the model names correctly."""
        return self.predicted == self.labels

    @classmethod
    def read(cls, folder: Path) -> "Run":
        """Read a model's run folder.

        Raises:
            CheckpointError: a file is missing, damaged, or of an earlier version.
        """
        path = folder / run_folder.PREDICTIONS
        predictions = run_folder.read_arrays(path)
        wanted = ("logits", "labels", "indices", "validation_logits", "validation_labels")
        if missing := [name for name in wanted if name not in predictions]:
            raise CheckpointError(
                f"{path} lacks {', '.join(missing)}; test the model again, on the data that it was "
                f"trained on: visavis evaluate {folder}"
            )
        return cls(
            data=run_folder.read_json(folder / run_folder.DATA),
            history=run_folder.read_history(folder),
            training=run_folder.read_json(folder / run_folder.TRAINING),
            evaluation=run_folder.read_json(folder / run_folder.EVALUATION),
            explanations=run_folder.read_json(folder / run_folder.EXPLANATIONS),
            heatmaps=run_folder.read_arrays(folder / run_folder.HEATMAPS),
            **{name: predictions[name] for name in wanted},
        )


def compare(experiment: Path) -> None:
    """Write comparison.json.

    Raises:
        CheckpointError: a stage before this one is missing, or the two models did not learn from
            and answer for the same images.
    """
    cnn, vit = Run.read(experiment / "cnn"), Run.read(experiment / "vit")
    _require_same_protocol(experiment, cnn, vit)
    classes = len(cnn.data["class_names"])
    confusions = [
        classification.confusion_matrix(r.labels, r.predicted, classes) for r in (cnn, vit)
    ]
    f1_cnn, f1_vit, f1_difference = classification.macro_f1_intervals(
        cnn.labels, cnn.predicted, vit.predicted, classes
    )
    buckets = classification.buckets(cnn.labels, cnn.predicted, vit.predicted)
    rows_cnn, rows_vit = common_rows(cnn.heatmaps, vit.heatmaps)
    trainings = seeds.trainings(experiment)
    mcnemar = classification.mcnemar(cnn.right, vit.right)
    run_folder.write_json(
        experiment / run_folder.COMPARISON,
        {
            "data": {key: value for key, value in cnn.data.items() if key != "notice"},
            "test_n": len(cnn.labels),
            "heatmaps_sha256": checksums(experiment),
            "models": {
                "cnn": _facts(cnn, confusions[0], f1_cnn),
                "vit": _facts(vit, confusions[1], f1_vit),
            },
            "accuracy_difference": bootstrap.paired_difference(cnn.right, vit.right),
            "f1_macro_difference": f1_difference,
            "mcnemar": {
                "only_cnn": mcnemar["only_a"],
                "only_vit": mcnemar["only_b"],
                "p_value": mcnemar["p_value"],
            },
            "overlap": _overlap(buckets),
            "error_consistency": behaviour.consistency(cnn.right, vit.right),
            "same_wrong_class": behaviour.same_wrong_class(
                cnn.labels, cnn.predicted, vit.predicted, classes
            ),
            "buckets": _buckets(cnn, vit, buckets),
            "calibration": {
                name: calibration.calibration(
                    run.logits, run.labels, run.validation_logits, run.validation_labels
                )
                for name, run in (("cnn", cnn), ("vit", vit))
            },
            "confusion_difference": (confusions[0] - confusions[1]).tolist(),
            "convergence": convergence({"cnn": cnn.history, "vit": vit.history}),
            "mistakes": {
                "cnn": _mistakes(cnn, heatmaps.CNN_METHOD),
                "vit": _mistakes(vit, heatmaps.VIT_METHOD),
            },
            "similarity": {
                "n": len(rows_cnn),
                "pairs": [
                    heatmaps.similarity(cnn.heatmaps, vit.heatmaps, rows_cnn, rows_vit, method)
                    for method in vit.explanations["methods"]
                ],
            },
            "grid": seeds.grid_of_all(
                trainings,
                {n: list(r.explanations["methods"]) for n, r in (("cnn", cnn), ("vit", vit))},
            ),
            "seeds": seeds.accuracies(trainings),
            "side_by_side": heatmaps.side_by_side(cnn.heatmaps, vit.heatmaps, rows_cnn, rows_vit),
        },
    )
    log.info("compared both models on %d test images", len(cnn.labels))


def convergence(histories: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Epochs and training seconds until each model first reaches a validation accuracy.

    A model that never reaches it has None; an accuracy that no model reaches is left out.
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


def _require_same_protocol(experiment: Path, cnn: Run, vit: Run) -> None:
    """Refuse two runs that cannot be compared fairly, naming the difference."""

    def differ(what: str) -> CheckpointError:
        return CheckpointError(
            f"{experiment}: cnn and vit cannot be compared: they have {what}; train both from the "
            "same data, with the same --data.split-seed and --data.validation-fraction"
        )

    if cnn.data["fingerprint"] != vit.data["fingerprint"]:
        raise differ(
            "different images ({} and {}; data fingerprints {:.12} and {:.12})".format(
                cnn.data["description"],
                vit.data["description"],
                cnn.data["fingerprint"],
                vit.data["fingerprint"],
            )
        )
    if cnn.data["split_fingerprint"] != vit.data["split_fingerprint"]:
        raise differ(
            "different splits into training and validation (split seeds {} and {}, validation "
            "fractions {} and {})".format(
                cnn.data["split_seed"],
                vit.data["split_seed"],
                cnn.data["validation_fraction"],
                vit.data["validation_fraction"],
            )
        )
    if not np.array_equal(cnn.indices, vit.indices):
        raise differ(f"different test images ({len(cnn.indices)} and {len(vit.indices)})")
    if not np.array_equal(cnn.labels, vit.labels):
        raise differ("different labels for the same test images")


def _facts(
    run: Run, confusion: Int[np.ndarray, "classes classes"], f1: bootstrap.Interval
) -> dict[str, Any]:
    """One model's column of the comparison."""
    return {
        "parameters": run.training["parameters"],
        "accuracy": bootstrap.interval(run.right),
        "f1_macro": f1,
        "f1_per_class": classification.f1_per_class(confusion).tolist(),
        "confusion_matrix": confusion.tolist(),
        "epochs": run.training["epochs"],
        "best_epoch": run.training["best_epoch"],
        "train_seconds": run.training["train_seconds"],
        "images_per_second": run.training["images_per_second"],
        "inference_images_per_second": run.evaluation["inference_images_per_second"],
        "best_val_accuracy": run.training["best_val_accuracy"],
    }


def _overlap(buckets: Buckets) -> dict[str, int]:
    """Which images the models get right together, alone, or not at all."""
    n = {name: int(inside.sum()) for name, inside in buckets.items()}
    return {
        "both_correct": n["both_correct"],
        "only_cnn": n["only_cnn"],
        "only_vit": n["only_vit"],
        "both_wrong": n["both_wrong_same"] + n["both_wrong_different"],
        "both_wrong_same_class": n["both_wrong_same"],
    }


def _buckets(cnn: Run, vit: Run, buckets: Buckets) -> dict[str, Any]:
    """Each bucket of test images: how sure both models are there, and what they look at."""
    return {
        name: {
            "n": int(inside.sum()),
            "confidence": {
                model: bootstrap.interval(run.confidence[inside])
                for model, run in (("cnn", cnn), ("vit", vit))
            },
            "similarity": behaviour.evidence_for_truth(
                cnn.heatmaps, vit.heatmaps, cnn.indices[inside]
            ),
        }
        for name, inside in buckets.items()
    }


def _mistakes(run: Run, method: str) -> dict[str, Any]:
    """How sure a model is when it is right and when it is wrong, and where it then looks."""
    return {
        "method": method,
        "correct_confidence": bootstrap.interval(run.confidence[run.right]),
        "incorrect_confidence": bootstrap.interval(run.confidence[~run.right]),
        "same_place": heatmaps.same_place(run.heatmaps, method),
    }
