"""Stage: what the finished trainings of a study show together.

Reads study.json and, in the run folder of each finished training, config.json, provenance.json,
history.jsonl, training.json, predictions.npz, evaluation.json, heatmaps.npz, removal.npz and
explanations.json. Writes results.json.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from visavis import run_folder
from visavis.compare import conclusions, decomposition, pairs, scores
from visavis.compare.trainings import Training, sampled
from visavis.errors import CheckpointError
from visavis.run_folder import ModelFolder

log = logging.getLogger(__name__)


def summarise(out: Path) -> dict[str, Any]:
    """Write results.json from the trainings that are finished, and return its content.

    Raises:
        CheckpointError: none is, or the file of one is damaged.
    """
    study = run_folder.read_json(out / run_folder.STUDY)
    trainings, missing = finished(out, study)
    if not trainings:
        raise CheckpointError(f"no training of the study in {out} is finished; repeat its command")
    _require_same_test(trainings)
    by_name: dict[str, list[Training]] = {}
    for training in trainings:
        by_name.setdefault(training.variant, []).append(training)
    rows = sampled(trainings)
    predicted = {name: scores.predicted(of) for name, of in by_name.items()}
    agreement = pairs.agreement(trainings, rows)
    results = {
        "data": study["data"],
        "test_n": len(trainings[0].model.labels),
        "missing": missing,
        "trainings": [
            {"variant": each.variant, "seed": each.seed, **_facts(each.model)} for each in trainings
        ],
        "variants": {
            name: {
                "label": name if study["variants"][name]["varied"] else of[0].model.label,
                "varied": study["variants"][name]["varied"],
                "parameters": of[0].model.training["parameters"],
                **scores.scores(predicted[name]),
                **conclusions.of_variant(of),
            }
            for name, of in by_name.items()
        },
        "differences": scores.differences(predicted),
        "agreement": agreement,
        "errors": pairs.errors(trainings, agreement["above_chance"]),
        "decomposition": decomposition.decomposition(trainings, rows),
    }
    run_folder.write_json(out / run_folder.RESULTS, results)
    return results


def finished(out: Path, study: dict[str, Any]) -> tuple[list[Training], list[str]]:
    """The trainings that are explained, variant by variant, and the names of the others."""
    found, missing = [], []
    for name, entry in study["variants"].items():
        for seed in entry["seeds"]:
            model = ModelFolder(out / name / run_folder.SEED.format(seed))
            if model.explained:
                found.append(Training(name, seed, model))
            else:
                missing.append(f"{name}/{model.name}")
    return found, missing


def _require_same_test(trainings: Sequence[Training]) -> None:
    first = trainings[0].model
    for each in trainings[1:]:
        for key in ("indices", "labels"):
            if not np.array_equal(first.predictions[key], each.model.predictions[key]):
                raise CheckpointError(
                    f"{first.path} and {each.model.path} were tested on different images (the "
                    f"{key} in {run_folder.PREDICTIONS} differ); move one away, and repeat the "
                    "command of the study"
                )


def _facts(model: ModelFolder) -> dict[str, Any]:
    """One training."""
    keys = ("parameters", "epochs", "best_epoch", "train_seconds")
    return {
        **{key: model.training.get(key) for key in keys},
        **{key: model.evaluation[key] for key in ("accuracy", "f1_macro")},
        "device": model.provenance["device_name"],
        "precision": model.provenance["precision"],
        "validation_accuracy": [epoch["val_accuracy"] for epoch in model.history],
        "default_method": model.explanations["default_method"],
        "layer": model.explanations["layer"],
    }
