"""Stage: train one model and keep the epoch with the lowest validation loss.

Reads the training images only. Writes config.json, data.json, split.npz, provenance.json,
history.jsonl and snapshots.npz (while training), resume.ckpt, previous.ckpt and best.ckpt (until it
is finished), weights.safetensors and, last, training.json; or failed.json.
"""

import contextlib
import datetime
import gc
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger

from visavis import models, run_folder
from visavis.config import IMAGE_SIDE, Experiment
from visavis.data import Dataset, split
from visavis.data.batches import hold
from visavis.errors import CheckpointError, DivergedError, EnvironmentFault
from visavis.files import file_sha256, lock
from visavis.registry import OWN
from visavis.run_folder import ModelFolder
from visavis.stages.trained import build, observed
from visavis.training import hardware, tensorboard, tracking
from visavis.training.callbacks import History
from visavis.training.checkpoints import (
    check_fits,
    check_resumable,
    checkpoints,
    read_checkpoint,
)
from visavis.training.fit import fit, synchronised
from visavis.training.memory import out_of_memory
from visavis.training.module import Classifier, Split
from visavis.training.provenance import claim, provenance
from visavis.training.ranks import Ranks, check, from_first, joined
from visavis.training.snapshots import Snapshots

log = logging.getLogger(__name__)

CONDITIONS = ("torch", "lightning", "device", "device_name", "threads", "compiled")
"""What changes the arithmetic of a training, if only in the last digits. A training may be resumed
under others; provenance.json then names them."""


def train(
    folder: Path,
    experiment: Experiment,
    name: str,
    dataset: Dataset,
    *,
    tracked_in: Path | None = None,
) -> None:
    """Train the model `name` in `folder`, or resume an interrupted training.

    A finished training is left unchanged.

    Args:
        tracked_in: the experiment folder, for W&B's files and the group of the run; `folder` if
            None.

    Raises:
        CheckpointError: the folder holds a training with other settings or other data.
        EnvironmentFault: the device is missing, or another process is writing the folder.
        DivergedError: the loss became NaN or infinite; failed.json then says so.
    """
    gc.collect()  # an earlier training here, whose Trainer and module refer to each other
    config = experiment.data
    rows = split(dataset.train_labels, config.validation_fraction, config.split_seed)
    batch = min(experiment.model(name).optim.batch_size, len(rows[0]))
    ranks = check(experiment.train, batch=batch, validation=len(rows[1]))
    with lock(folder) if ranks.first else contextlib.nullcontext():
        with joined(ranks, experiment.train):
            facts = from_first(ranks, lambda: _begin(folder, experiment, name, dataset, rows))
            if facts is None:
                return
            with _enough_memory(folder, experiment, name):
                module = _module(experiment, name, dataset, rows, facts, ranks)
                if facts["resumed"]:
                    for checkpoint in (run_folder.RESUME, run_folder.BEST):
                        check_fits(module, folder / checkpoint)
                callbacks: list[Callback] = [*checkpoints(folder)]
                loggers: list[Logger] = []
                if ranks.first:
                    subject = observed(module.model, dataset.train_pixels[:2])
                    snapshots = Snapshots(folder, dataset, rows[1], subject)
                    callbacks = [History(folder, name), snapshots, *callbacks]
                    loggers = _loggers(experiment, name, folder, tracked_in or folder)
                try:
                    fit(module, callbacks, loggers, facts["precision"], folder / run_folder.RESUME)
                except DivergedError as error:
                    if ranks.first:
                        run_folder.write_json(folder / run_folder.FAILED, {"reason": str(error)})
                    raise
        if ranks.first:
            _finish(folder, module, facts, dataset.train_labels[rows[1]])


def _begin(
    folder: Path,
    experiment: Experiment,
    name: str,
    dataset: Dataset,
    rows: tuple[np.ndarray, np.ndarray],
) -> dict[str, Any] | None:
    """Claim the folder; return what `_provenance` does, or None if the training is finished."""
    finished = (folder / run_folder.TRAINING).exists()
    if not ModelFolder(folder).begun:
        build(experiment.model(name), dataset)
    device = None if finished else hardware.select_device(experiment.train.device)
    claim(folder, experiment, name, dataset, *rows)
    (folder / run_folder.FAILED).unlink(missing_ok=True)
    if device is None:
        log.info("%s: already trained", name)
        return None
    return _provenance(folder, experiment, name, device)


def _provenance(
    folder: Path, experiment: Experiment, name: str, device: torch.device
) -> dict[str, Any]:
    """Write provenance.json; a resumed training keeps its precision, start and first machine.

    Raises:
        CheckpointError: the training cannot be resumed: a file is damaged or incomplete, or it
            began on another number of devices.
        EnvironmentFault: it cannot be resumed here, in the precision in which it began.
    """
    facts = {**provenance(experiment.train, device), "compiled": experiment.train.compile}
    facts["resumed"] = (folder / run_folder.RESUME).exists()
    if facts["resumed"]:
        check_resumable(folder)
        begun = run_folder.read_json(folder / run_folder.PROVENANCE)
        if begun["precision"] == "fp16" and device.type != "cuda":
            raise EnvironmentFault(
                f"the training in {folder} began in fp16, which needs a CUDA GPU; resume it on "
                "one, or use another --out"
            )
        if (devices := begun["devices"]) != facts["devices"]:
            raise CheckpointError(
                f"the training in {folder} began with --train.devices {devices} and would end with "
                f"other weights on {facts['devices']}; use the same number, or another --out"
            )
        log.info("%s: resuming from %s", name, folder / run_folder.RESUME)
        changed = [
            f"{key} {begun.get(key)}, then {facts[key]}"
            for key in CONDITIONS
            if begun.get(key) != facts[key]
        ]
        if changed:
            log.info("NOTE: %s: resumed under other conditions: %s", name, "; ".join(changed))
        if begun["precision"] != facts["precision"]:
            log.info("NOTE: %s: it continues in %s, as it began", name, begun["precision"])
        facts |= {key: begun[key] for key in ("precision", "started", "started_on")}
        facts["changed_when_resumed"] = [*begun.get("changed_when_resumed", []), *changed]
    run_folder.write_json(folder / run_folder.PROVENANCE, facts)
    return facts


def _loggers(experiment: Experiment, name: str, folder: Path, place: Path) -> list[Logger]:
    """The trackers that are wanted and work."""
    title = name if folder == place else folder.relative_to(place).as_posix()
    group, settings = place.resolve().name, experiment.tracking
    found = [
        tracking.logger(settings, folder=place, name=title, group=group),
        tensorboard.logger(settings, folder=place, name=title),
    ]
    return [logger for logger in found if logger]


@contextlib.contextmanager
def _enough_memory(folder: Path, experiment: Experiment, name: str) -> Iterator[None]:
    """Say what to do about too little memory: a batch may shrink until an epoch is finished."""
    try:
        yield
    except Exception as error:
        if not out_of_memory(error):
            raise
        size = experiment.model(name).optim.batch_size
        flag = f"--{name}.optim.batch-size" if name in OWN else "--optim.batch-size"
        advice = f"repeat the command with a smaller {flag}, which this folder still accepts"
        if ModelFolder(folder).begun:
            advice = f"close other programs and repeat the command, or use {flag} and a new --out"
        raise EnvironmentFault(
            f"not enough memory for a batch of {size} images; {advice}"
        ) from error


def _module(
    experiment: Experiment,
    name: str,
    dataset: Dataset,
    rows: tuple[np.ndarray, np.ndarray],
    facts: dict[str, Any],
    ranks: Ranks,
) -> Classifier:
    """A freshly initialised model with its data on the device."""
    device = hardware.select_device(experiment.train.device)
    training = _held(dataset, rows[0], device)
    torch.manual_seed(experiment.seed)
    config = experiment.model(name)
    side = training[0].shape[-1]
    model = models.build(config, len(dataset.class_names), side)
    first = training[0][: 5000 * IMAGE_SIDE**2 // side**2]  # as many pixels at every size
    models.fit_input(model, first.float().cpu() / 255)
    if ranks.world_size > 1 and device.type == "cuda":  # PyTorch has it on GPUs alone
        model = synchronised(model, name)
    return Classifier(
        hardware.place(model, device),
        config.optim,
        training=training,
        validation=_held(dataset, rows[1][ranks.rank :: ranks.world_size], device),
        seed=experiment.seed,
        compiled=facts["compiled"],
        dtype=hardware.DTYPES[facts["precision"]],
        ranks=ranks,
    )


def _finish(
    folder: Path, module: Classifier, facts: dict[str, Any], validation_labels: np.ndarray
) -> None:
    """Keep the weights of the best epoch and record the outcome of the training.

    Raises:
        CheckpointError: the checkpoint and the history disagree about the best epoch.
    """
    rows = run_folder.read_history(folder)
    best = min(rows, key=lambda row: row["val_loss"])
    model = module.model
    model.load_state_dict(_best_weights(folder, best["epoch"]))
    models.save(model, folder / run_folder.WEIGHTS)
    chance = _chance(validation_labels, best["val_accuracy"])
    seconds, batches = rows[-1]["elapsed_train_seconds"], module.train_dataloader()
    resumed = facts.pop("resumed")
    run_folder.write_json(
        folder / run_folder.PROVENANCE,
        {**facts, "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")},
    )
    run_folder.write_json(
        folder / run_folder.TRAINING,
        {
            "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
            "epochs": len(rows),
            "best_epoch": best["epoch"],
            "best_val_loss": best["val_loss"],
            "best_val_accuracy": best["val_accuracy"],
            **chance,
            "train_seconds": seconds,
            "images": len(batches.labels),
            "images_per_second": module.steps * batches.batch_size / seconds,
            "weights_sha256": file_sha256(folder / run_folder.WEIGHTS),
            "modules": models.modules_of(model),
            "resumed": resumed,
        },
    )
    for leftover in (run_folder.RESUME, run_folder.PREVIOUS, run_folder.BEST):
        (folder / leftover).unlink(missing_ok=True)


def _best_weights(folder: Path, epoch: int) -> dict[str, torch.Tensor]:
    """Those that the training kept, of this epoch."""
    kept = read_checkpoint(folder / run_folder.BEST)
    if kept["epoch"] + 1 != epoch:
        raise CheckpointError(
            f"{folder / run_folder.BEST} holds epoch {kept['epoch'] + 1}, but epoch "
            f"{epoch} had the lowest validation loss; train into another folder"
        )
    return {key.removeprefix("model."): value for key, value in kept["state_dict"].items()}


def _chance(labels: np.ndarray, accuracy: float) -> dict[str, Any]:
    """The accuracy of the most frequent class, and whether the model's is above; a note if not."""
    n, most = len(labels), int(np.bincount(labels).max())
    test = scipy.stats.binomtest(round(accuracy * n), n, most / n, alternative="greater")
    learned = bool(test.pvalue < 0.05)
    if not learned:
        log.warning(
            "NOTE: the model is not shown to have learned anything: its validation accuracy, "
            "%.1f %%, is not significantly above the %.1f %% of always predicting the most "
            "frequent class. Train it longer, or with other learning rates; its heatmaps may mean "
            "nothing",
            100 * accuracy,
            100 * most / n,
        )
    return {"chance_accuracy": most / n, "learned": learned}


def _held(dataset: Dataset, indices: np.ndarray, device: torch.device) -> Split:
    labels = torch.from_numpy(dataset.train_labels[indices]).to(device)
    return hold(dataset.train_pixels, indices, device), labels
