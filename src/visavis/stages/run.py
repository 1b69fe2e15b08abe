"""The main job: train, test and explain both models, compare them, write the report.

Reads and writes what the stages do, and experiment.json. A stage whose last file is there is not
done again.
"""

import dataclasses
import logging
from pathlib import Path

import torch

from visavis import run_folder
from visavis.compare.pairing import checksums
from visavis.config import MODEL_NAMES, Experiment, to_json
from visavis.data import Dataset
from visavis.errors import CheckpointError
from visavis.report.figures import overlay
from visavis.report.page import figures, report
from visavis.stages.compare import compare
from visavis.stages.cross_model import cross_evaluate
from visavis.stages.evaluate import evaluate
from visavis.stages.explain import explain, explain_again
from visavis.stages.train import train
from visavis.training import hardware, tracking
from visavis.training.provenance import differences

log = logging.getLogger(__name__)


def run(out: Path, experiment: Experiment, preset_name: str, dataset: Dataset) -> Path:
    """Do every stage that is not done yet and return the report's path.

    Raises:
        VisavisError: as the stages do; what was finished before stays.
    """
    if dataset.notice:
        log.info("NOTE: %s", dataset.notice)
    with run_folder.lock(out):
        claim(out, experiment, preset_name, dataset)
        device = hardware.select_device(experiment.train.device)
        for name in MODEL_NAMES:
            folder = out / name
            train(folder, experiment, name, dataset, tracked_in=out)
            if not (folder / run_folder.EVALUATION).exists():
                evaluate(folder, dataset, device=device)
            if not (folder / run_folder.EXPLANATIONS).exists():
                log.info("%s: explaining, and measuring the explanations", name)
                explain(
                    folder,
                    dataset,
                    experiment.explain,
                    device=device,
                    autocast=hardware.precision(experiment.train, device) == "bf16",
                )
        for seed in range(experiment.seed + 1, experiment.seed + experiment.seeds):
            _train_again(out, dataclasses.replace(experiment, seed=seed), dataset, device)
        if not _cross_evaluated(out):
            log.info("testing each model with the other's maps")
            cross_evaluate(
                out,
                dataset,
                experiment.explain,
                device=device,
                autocast=hardware.precision(experiment.train, device) == "bf16",
            )
        compare(out)
        first_time = not (out / run_folder.REPORT).exists()
        path = report(out)
        if first_time:
            tracking.log_experiment(
                experiment.tracking,
                folder=out,
                group=out.name,
                figures=figures(out),
                overlay=overlay,
            )
        return path


def _train_again(out: Path, experiment: Experiment, dataset: Dataset, device: torch.device) -> None:
    """Both models with another seed, tested, and explained where the first ones were."""
    for name in MODEL_NAMES:
        folder = out / run_folder.SEED.format(experiment.seed) / name
        log.info("%s: training again, with seed %d", name, experiment.seed)
        train(folder, experiment, name, dataset, tracked_in=out)
        if not (folder / run_folder.EVALUATION).exists():
            evaluate(folder, dataset, device=device)
        layer = run_folder.read_json(out / name / run_folder.EXPLANATIONS)["layer"]
        if not _explained_at(layer, folder):
            explain_again(folder, dataset, experiment.explain, layer=layer, device=device)


def _explained_at(layer: str, folder: Path) -> bool:
    """Whether another training has maps of its present weights, Grad-CAM's from that layer."""
    path = folder / run_folder.HEATMAPS
    if not path.exists():
        return False
    stored = run_folder.read_arrays(path)
    weights = run_folder.read_json(folder / run_folder.TRAINING)["weights_sha256"]
    return (str(stored.get("layer")), str(stored.get("weights_sha256"))) == (layer, weights)


def _cross_evaluated(out: Path) -> bool:
    """Whether the cross_model was made with the heatmaps that are there now."""
    path = out / run_folder.CROSS_MODEL
    return path.exists() and run_folder.read_json(path).get("heatmaps_sha256") == checksums(out)


def claim(out: Path, experiment: Experiment, preset_name: str, dataset: Dataset) -> None:
    """Write experiment.json, or check that the folder is of the same experiment.

    Raises:
        CheckpointError: it is of another one, with what differs.
    """
    path = out / run_folder.EXPERIMENT
    wanted = {
        "preset": preset_name,
        "experiment": to_json(experiment),
        "data": {"source": dataset.source, "fingerprint": dataset.fingerprint},
    }
    if not path.exists():
        run_folder.write_json(path, wanted)
        return
    found = run_folder.read_json(path)
    decides = ("seed", "cnn", "vit", "explain")  # the rest says where and how, not what
    settings = found.get("experiment", {})
    lines = differences({key: settings.get(key) for key in decides}, to_json(experiment))
    lines += differences({"data": found.get("data")}, wanted)
    if not lines and settings.get("seeds") != experiment.seeds:
        run_folder.write_json(path, found | {"experiment": settings | {"seeds": experiment.seeds}})
    if lines:
        raise CheckpointError(
            f"{out} holds an experiment with other settings: {'; '.join(lines)}. "
            "Use the same settings, or another --out"
        )
