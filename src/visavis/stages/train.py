"""Stage: train one model and keep the epoch with the lowest validation loss.

Reads the training images only. Writes config.json, data.json, split.npz, provenance.json,
history.jsonl and snapshots.npz (while training), resume.ckpt and best.ckpt (until it is
finished), weights.safetensors and, last, training.json.
"""

import datetime
import logging
import warnings
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger

from visavis import models, run_folder
from visavis.config import IMAGE_SIDE, Experiment
from visavis.data import Dataset, split
from visavis.data.batches import hold
from visavis.errors import CheckpointError, EnvironmentFault
from visavis.files import file_sha256, lock
from visavis.stages.trained import build, observed
from visavis.training import hardware, tracking
from visavis.training.callbacks import (
    AtomicCheckpointIO,
    History,
    check_fits,
    check_resumable,
    checkpoints,
    read_checkpoint,
)
from visavis.training.module import Classifier, Split
from visavis.training.provenance import claim, provenance
from visavis.training.snapshots import Snapshots

log = logging.getLogger(__name__)

LIGHTNING_PRECISION: dict[hardware.Precision, Any] = {
    "bf16": "bf16-mixed",
    "fp16": "16-mixed",
    "float32": "32-true",
}

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
        VisavisError: the loss became NaN or infinite.
    """
    with lock(folder):
        config = experiment.data
        rows = split(dataset.train_labels, config.validation_fraction, config.split_seed)
        finished = (folder / run_folder.TRAINING).exists()
        if not finished and not (folder / run_folder.CONFIG).exists():
            build(experiment.model(name), dataset)
        device = None if finished else hardware.select_device(experiment.train.device)
        claim(folder, experiment, name, dataset, *rows)
        if device is None:
            log.info("%s: already trained", name)
            return
        training, validation = (_held(dataset, indices, device) for indices in rows)
        facts = _provenance(folder, experiment, name, device)
        module = _module(experiment, name, len(dataset.class_names), training, validation, facts)
        if facts["resumed"]:
            check_fits(module, folder / run_folder.RESUME)
        subject = observed(module.model, dataset.train_pixels[:2])
        snapshots = Snapshots(folder, dataset, rows[1], subject)
        callbacks = [History(folder, name), snapshots, *checkpoints(folder)]
        place = tracked_in or folder
        logger = tracking.logger(
            experiment.tracking,
            folder=place,
            name=folder.relative_to(place).as_posix() if tracked_in else name,
            group=place.resolve().name,
        )
        precision = LIGHTNING_PRECISION[facts["precision"]]
        _fit(module, callbacks, logger, precision, folder / run_folder.RESUME)
        _finish(folder, module, facts)


def _provenance(
    folder: Path, experiment: Experiment, name: str, device: torch.device
) -> dict[str, Any]:
    """Write provenance.json; a resumed training keeps its precision, start and first machine.

    Raises:
        CheckpointError: the training cannot be resumed: a file is damaged or incomplete.
        EnvironmentFault: it cannot be resumed here, in the precision in which it began.
    """
    facts = {**provenance(experiment.train, device), "compiled": experiment.train.compile}
    facts["resumed"] = (folder / run_folder.RESUME).exists()
    if facts["resumed"]:
        check_resumable(folder)
        log.info("%s: resuming from %s", name, folder / run_folder.RESUME)
        begun = run_folder.read_json(folder / run_folder.PROVENANCE)
        if begun["precision"] == "fp16" and device.type != "cuda":
            raise EnvironmentFault(
                f"the training in {folder} began in fp16, which needs a CUDA GPU; resume it on "
                "one, or use another --out"
            )
        changed = [
            f"{key} {begun.get(key)}, then {facts[key]}"
            for key in CONDITIONS
            if begun.get(key) != facts[key]
        ]
        if changed:
            log.info("NOTE: %s: resumed under other conditions: %s", name, "; ".join(changed))
        if begun["precision"] != facts["precision"]:
            log.info("NOTE: %s: it goes on in %s, as it began", name, begun["precision"])
        facts |= {key: begun[key] for key in ("precision", "started", "started_on")}
        facts["changed_when_resumed"] = [*begun.get("changed_when_resumed", []), *changed]
    run_folder.write_json(folder / run_folder.PROVENANCE, facts)
    return facts


def _module(
    experiment: Experiment,
    name: str,
    classes: int,
    training: Split,
    validation: Split,
    facts: dict[str, Any],
) -> Classifier:
    """A freshly initialised and warmed-up model."""
    torch.manual_seed(experiment.seed)
    config = experiment.model(name)
    side = training[0].shape[-1]
    model = models.build(config, classes, side)
    first = training[0][: 5000 * IMAGE_SIDE**2 // side**2]  # as many pixels at every size
    models.fit_input(model, first.float().cpu() / 255)
    module = Classifier(
        hardware.place(model, training[0].device),
        config.optim,
        training=training,
        validation=validation,
        seed=experiment.seed,
        compiled=facts["compiled"],
        dtype=hardware.DTYPES[facts["precision"]],
    )
    _warm_up(module, training[0].device)
    return module


def _warm_up(module: Classifier, device: torch.device) -> None:
    """Take steps and undo them, so that compilation and first calls are not timed."""
    model, dtype = module.model.train(), module.dtype_of_products
    state = {key: value.clone() for key, value in model.state_dict().items()}
    for side in {module.config.side(0, module.image_side), module.image_side}:
        images = torch.rand(module.config.batch_size, 3, side, side, device=device)
        # As Lightning calls it: another setting of the cache would compile the step again.
        with torch.autocast(
            device.type, dtype, enabled=dtype != torch.float32, cache_enabled=False
        ):
            loss = module.training_forward(hardware.channels_last(images)).float().square().mean()
        torch.autograd.backward(loss)
        model.zero_grad()
    model.load_state_dict(state)


def _fit(
    module: Classifier,
    callbacks: list[Callback],
    logger: Logger | None,
    precision: Any,
    checkpoint: Path,
) -> None:
    """Train all epochs, or those after the checkpoint if there is one."""
    device = next(module.model.parameters()).device
    trainer = lightning.Trainer(
        accelerator="gpu" if device.type == "cuda" else device.type,
        devices=1,
        precision=precision,
        max_epochs=module.config.epochs,
        # One process, inside `srun` too, where Lightning would take SIGTERM for itself, or refuse
        # a number of tasks that is not its own.
        plugins=[AtomicCheckpointIO(), LightningEnvironment()],
        callbacks=callbacks,
        logger=logger or False,
        log_every_n_steps=1,  # only epochs are logged; this keeps Lightning from warning
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    # Lightning sets the level when it is imported.
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    resume = checkpoint if checkpoint.exists() else None
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*exists and is not empty.*")
            warnings.filterwarnings("ignore", ".*treespec.*", category=FutureWarning)
            trainer.fit(module, ckpt_path=resume, weights_only=True)
    except SystemExit:  # Lightning's on Ctrl-C
        if trainer.interrupted:
            raise KeyboardInterrupt from None
        raise
    except (torch.cuda.OutOfMemoryError, MemoryError):
        raise EnvironmentFault(
            f"not enough memory for a batch of {module.config.batch_size} images; lower "
            "--cnn.optim.batch-size, --vit.optim.batch-size or --optim.batch-size"
        ) from None


def _finish(folder: Path, module: Classifier, facts: dict[str, Any]) -> None:
    """Keep the weights of the best epoch and record the outcome of the training.

    Raises:
        CheckpointError: the checkpoint and the history disagree about the best epoch.
    """
    kept = read_checkpoint(folder / run_folder.BEST)
    rows = run_folder.read_history(folder)
    best = min(rows, key=lambda row: row["val_loss"])
    if kept["epoch"] + 1 != best["epoch"]:
        raise CheckpointError(
            f"{folder / run_folder.BEST} holds epoch {kept['epoch'] + 1}, but epoch "
            f"{best['epoch']} had the lowest validation loss; train into another folder"
        )
    model = module.model
    weights = kept["state_dict"]
    model.load_state_dict({key.removeprefix("model."): value for key, value in weights.items()})
    models.save(model, folder / run_folder.WEIGHTS)
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
            "train_seconds": seconds,
            "images": len(batches.labels),
            "images_per_second": module.steps * batches.batch_size / seconds,
            "weights_sha256": file_sha256(folder / run_folder.WEIGHTS),
            "modules": models.modules_of(model),
            "resumed": resumed,
        },
    )
    for leftover in (run_folder.RESUME, run_folder.BEST):
        (folder / leftover).unlink(missing_ok=True)


def _held(dataset: Dataset, indices: np.ndarray, device: torch.device) -> Split:
    labels = torch.from_numpy(dataset.train_labels[indices]).to(device)
    return hold(dataset.train_pixels, indices, device), labels
