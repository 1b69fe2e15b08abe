"""The main job: train, test and explain both models, compare them, write the report.

Reads and writes what the stages do, and experiment.json. A stage whose last file exists is
skipped.
"""

import dataclasses
import logging
from pathlib import Path

import torch

from visavis import registry, run_folder
from visavis.compare.same_images import checksums
from visavis.config import Experiment, ExplainConfig, to_json
from visavis.data import Dataset
from visavis.errors import CheckpointError
from visavis.files import lock
from visavis.report.page import figures, report
from visavis.run_folder import ModelFolder
from visavis.stages.compare import compare
from visavis.stages.cross_model import cross_evaluate
from visavis.stages.explain import explain_again
from visavis.stages.explain.cost import FEWEST, same_for_all
from visavis.stages.steps import explain_once, train_and_test
from visavis.stages.trained import build, load_trained
from visavis.training import hardware, tensorboard, tracking
from visavis.training.provenance import differences

log = logging.getLogger(__name__)


def run(out: Path, experiment: Experiment, preset_name: str, dataset: Dataset) -> Path:
    """Run every stage that has not finished yet, and return the report's path.

    Raises:
        VisavisError: a stage failed; the files of finished stages remain.
    """
    with lock(out):
        for role in run_folder.ROLES:  # both, before hours go into the first
            name = getattr(experiment, role)
            if not ModelFolder(out / run_folder.folder_name(name)).begun:
                build(experiment.model(name), dataset)
        claim(out, experiment, preset_name, dataset)
        device = hardware.select_device(experiment.train.device)
        names = {role: getattr(experiment, role) for role in run_folder.ROLES}
        folders = {
            role: train_and_test(model.path, experiment, names[role], dataset, tracked_in=out)
            for role, model in run_folder.model_folders(out).items()
        }
        settings = _same_for_both(folders, dataset, experiment.explain, device)
        for role, model in folders.items():
            explain_once(model, experiment, names[role], dataset, settings)
        for seed in range(experiment.seed + 1, experiment.seed + experiment.seeds):
            _train_again(out, dataclasses.replace(experiment, seed=seed), dataset, device)
        if not _cross_evaluated(out):
            log.info("testing each model with the other's maps")
            autocast = hardware.precision(experiment.train, device) == "bf16"
            cross_evaluate(out, dataset, experiment.explain, device=device, autocast=autocast)
        compare(out)
        tracked = experiment.tracking
        first_time = not (out / run_folder.REPORT).exists()
        path = report(out)
        if first_time and (tracked.wandb != "off" or tracked.tensorboard):
            drawn = figures(out)
            tracking.log_experiment(tracked, folder=out, group=out.name, figures=drawn)
            tensorboard.log_experiment(tracked, folder=out, figures=drawn)
        return path


def _same_for_both(
    folders: dict[str, ModelFolder], dataset: Dataset, config: ExplainConfig, device: torch.device
) -> ExplainConfig:
    """The settings with one scoring grid and one number of images, those of a model that has them.

    A model may be explained already, if an earlier run was interrupted.
    """
    for model in folders.values():
        if model.explained:
            n, grid = model.explanations["n"], model.explanations["grid"][0]
            return dataclasses.replace(
                config, grid=config.grid or grid, images=config.images or max(n, FEWEST)
            )
    trained = (load_trained(model.path) for model in folders.values())
    return same_for_all(trained, dataset, config, device)


def _train_again(out: Path, experiment: Experiment, dataset: Dataset, device: torch.device) -> None:
    """Train, test and explain both models with another seed, as the first two were."""
    for role, first in run_folder.model_folders(out).items():
        name = getattr(experiment, role)
        folder = out / run_folder.SEED.format(experiment.seed) / first.name
        log.info("%s: training again, with seed %d", name, experiment.seed)
        model = train_and_test(folder, experiment, name, dataset, tracked_in=out)
        layer, grid = first.explanations["layer"], first.explanations["grid"][0]
        if not _explained_at(layer, model):
            n = max(first.explanations["n"], FEWEST)
            settings = dataclasses.replace(experiment.explain, grid=grid, images=n)
            explain_again(model.path, dataset, settings, layer=layer, device=device)


def _explained_at(layer: str | None, model: ModelFolder) -> bool:
    """Whether the model's maps are of its present weights, with Grad-CAM at that layer."""
    if not (model.path / run_folder.HEATMAPS).exists():
        return False
    found = (str(model.heatmaps.get(key)) for key in ("layer", "weights_sha256"))
    return tuple(found) == (str(layer), model.training["weights_sha256"])


def _cross_evaluated(out: Path) -> bool:
    """Whether cross_model.json was made from the present heatmaps."""
    path = out / run_folder.CROSS_MODEL
    return path.exists() and run_folder.read_json(path).get("heatmaps_sha256") == checksums(out)


def claim(out: Path, experiment: Experiment, preset_name: str, dataset: Dataset) -> None:
    """Write experiment.json, or check that the folder holds the same experiment.

    Raises:
        CheckpointError: it holds another one; the message names what differs.
    """
    out.mkdir(parents=True, exist_ok=True)
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
    settings = found["experiment"]
    names = [settings["first"], settings["second"]]
    begun = [name for name in names if ModelFolder(out / run_folder.folder_name(name)).begun]
    if not begun:  # such as after too large a batch
        run_folder.write_json(path, wanted)
        return
    # The other settings do not change results, nor do those of a model that has not begun.
    decides = {"first", "second", "seed", "cnn", "vit", "optim", "pretrained", "explain"}
    decides -= set(registry.OWN) - set(begun)
    lines = differences({key: settings.get(key) for key in decides}, to_json(experiment))
    lines += differences({"data": found.get("data")}, wanted)
    if lines:
        raise CheckpointError(
            f"{out} holds an experiment with other settings: {'; '.join(lines)}. "
            "Use the same settings, or another --out"
        )
    now = to_json(experiment)
    changed = {key: now[key] for key in ("seeds", "cnn", "vit")}
    if changed != {key: settings.get(key) for key in changed}:
        run_folder.write_json(path, found | {"experiment": settings | changed})
