"""Stage: what the finished trainings of a study show together.

Reads study.json and, in the run folder of each finished training, config.json, provenance.json,
history.jsonl, training.json, predictions.npz, evaluation.json, heatmaps.npz, removal.npz and
explanations.json. Writes results.json.
"""

import json
import logging
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from visavis import run_folder
from visavis.compare import conclusions, decomposition, study_accuracy, training_pairs
from visavis.compare.same_images import require_same
from visavis.compare.trainings import Training, shared_images
from visavis.errors import CheckpointError
from visavis.run_folder import ModelFolder

log = logging.getLogger(__name__)

SAME = {
    run_folder.PREDICTIONS: ("indices", "labels"),
    run_folder.EXPLANATIONS: ("n", "grid"),
    run_folder.REMOVAL: ("indices",),
}
"""What all trainings of a study share."""


def summarise(out: Path) -> dict[str, Any]:
    """Write results.json from the trainings that are finished, and return its content.

    Raises:
        CheckpointError: none is, or the file of one is damaged.
    """
    study = run_folder.read_json(out / run_folder.STUDY)
    trainings, missing = finished(out, study)
    if not trainings:
        raise CheckpointError(f"no training of the study in {out} is finished; repeat its command")
    _require_as_planned(trainings, study["variants"])
    for each in trainings[1:]:
        require_same(
            trainings[0].model,
            each.model,
            SAME,
            "move one away, and repeat the command of the study",
        )
    by_name: dict[str, list[Training]] = {}
    for training in trainings:
        by_name.setdefault(training.variant, []).append(training)
    rows = shared_images(trainings)
    found = {name: study_accuracy.read(of) for name, of in by_name.items()}
    agreement = training_pairs.agreement(trainings, rows)
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
                "train_seconds": _mean_seconds(of),
                **study_accuracy.spreads(found[name]),
                **conclusions.of_variant(of),
            }
            for name, of in by_name.items()
        },
        "differences": study_accuracy.differences(found),
        "agreement": agreement,
        "errors": training_pairs.errors(trainings, agreement["above_chance"]),
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
                failed = model.path / run_folder.FAILED
                why = f" ({run_folder.read_json(failed)['reason']})" if failed.exists() else ""
                missing.append(f"{name}/{model.name}{why}")
    return found, missing


def _require_as_planned(trainings: Sequence[Training], variants: dict[str, Any]) -> None:
    """Raise a CheckpointError if a folder holds another training than the plan says."""
    seen: dict[tuple[str, str], Training] = {}
    for each in trainings:
        found = (each.model.config["model"]["name"], each.model.config["seed"])
        planned = (variants[each.variant]["model"], each.seed)
        if found != planned:
            raise CheckpointError(
                f"{each.model.path} holds {found[0]} with seed {found[1]}, but the study plans "
                f"{planned[0]} with seed {planned[1]} there; move it away, and repeat the command "
                "of the study"
            )
        # Other settings may come to the same weights, where what was varied has no effect.
        of = (each.model.training["weights_sha256"], json.dumps(each.model.config["model"]))
        other = seen.setdefault(of, each)
        if other is not each:
            raise CheckpointError(
                f"{each.model.path} and {other.model.path} hold the same weights, so one is a "
                "copy; move it away, and repeat the command of the study"
            )


def _mean_seconds(trainings: Sequence[Training]) -> float | None:
    """None where weights were brought along."""
    times = [seconds for of in trainings if (seconds := of.model.training.get("train_seconds"))]
    return statistics.fmean(times) if times else None


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
