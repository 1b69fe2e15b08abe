"""Stage: train one model, and keep the epoch with the lowest validation loss.

Reads the training pictures only. Writes config.json, data.json, split.npz, provenance.json,
history.jsonl and film.npz (while training), resume.ckpt and best.ckpt (until it is done),
weights.safetensors and, last of all, training.json.
"""

import datetime
import logging
import warnings
from pathlib import Path

import lightning
import numpy as np
import torch
from lightning.pytorch.loggers import Logger

from visavis import hardware, models, runs
from visavis.callbacks import AtomicCheckpointIO, History, checkpoints, read_checkpoint
from visavis.classifier import Classifier, Split
from visavis.config import Experiment, ModelConfig
from visavis.data import Dataset, split
from visavis.errors import CheckpointError, EnvironmentFault
from visavis.film import Film
from visavis.loader import to_tensor
from visavis.models import Model
from visavis.models.compiled import wide_vectors
from visavis.provenance import claim, provenance
from visavis.tracking import logger as tracker

log = logging.getLogger(__name__)


def train(
    folder: Path,
    experiment: Experiment,
    name: str,
    dataset: Dataset,
    *,
    tracked_in: Path | None = None,
) -> None:
    """Train the model called `name` in `folder`, or go on where an earlier call was interrupted.

    A finished training is left as it is.

    Args:
        tracked_in: the folder that takes W&B's files and names the group of the run, such as that
            of the experiment; `folder` unless given.

    Raises:
        CheckpointError: the folder holds a training with other settings or other data.
        EnvironmentFault: the device is missing, or another process is writing the folder.
        VisavisError: the loss became NaN or infinite.
    """
    with runs.lock(folder):
        train_indices, validation_indices = split(
            dataset.train_labels, experiment.data.validation_fraction, experiment.data.split_seed
        )
        finished = (folder / runs.TRAINING).exists()
        device = None if finished else hardware.select_device(experiment.train.device)
        claim(folder, experiment, name, dataset, train_indices, validation_indices)
        if device is None:
            log.info("%s: already trained", name)
            return
        _fit(
            folder,
            experiment,
            name,
            film=Film(
                folder, dataset, validation_indices, epochs=experiment.model(name).optim.epochs
            ),
            training=_resident(dataset, train_indices, device),
            validation=_resident(dataset, validation_indices, device),
            device=device,
            tracked_in=tracked_in or folder,
        )


def _fit(
    folder: Path,
    experiment: Experiment,
    name: str,
    *,
    film: Film,
    training: Split,
    validation: Split,
    device: torch.device,
    tracked_in: Path,
) -> None:
    config: ModelConfig = experiment.model(name)
    pictures = len(training[1])
    classes = len(runs.read_json(folder / runs.DATA)["class_names"])
    facts = provenance(experiment.train, device)
    resume = folder / runs.RESUME
    if resumed := resume.exists():
        for checkpoint in (resume, folder / runs.BEST):
            read_checkpoint(checkpoint)
        begun = runs.read_json(folder / runs.PROVENANCE)
        log.info("%s: going on from %s", name, resume)
        facts |= {key: begun[key] for key in ("precision", "started", "begun_on")}
        if facts["begun_on"] != facts["device_name"]:
            log.info("%s: it was begun on %s", name, facts["begun_on"])
    bf16 = facts["precision"] == "bf16"
    torch.manual_seed(experiment.seed)
    model = models.build(config, classes)
    models.fit_input(model, training[0][:5000].float().cpu() / 255)
    model = hardware.place(model, device)
    worth_it = hardware.use_compile(
        experiment.train, device, name, pictures=pictures * config.optim.epochs
    )
    fused = worth_it and device.type == "cpu" and _fused(model, name)
    compiled = worth_it and device.type != "cpu"
    facts["compiled"] = fused or compiled
    runs.write_json(folder / runs.PROVENANCE, facts)

    def classifier(*, compiled: bool) -> Classifier:
        return Classifier(
            model,
            config.optim,
            training=training,
            validation=validation,
            seed=experiment.seed,
            compiled=compiled,
            bf16=bf16,
        )

    module = classifier(compiled=compiled)
    if compiled:
        log.info("%s: compiling the training step", name)
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # "no CUDA runtime"
    try:
        _warm_up(module, bf16=bf16, device=device)
    except Exception as error:
        if not compiled:
            raise
        log.info("%s: torch.compile failed, going on without: %s", name, type(error).__name__)
        module, facts["compiled"] = classifier(compiled=False), False

    history = History(folder, name, config.optim, steps=module.steps)
    wandb_logger: Logger | None = tracker(
        experiment.tracking,
        folder=tracked_in,
        name=_tracked_as(folder, tracked_in, name),
        group=tracked_in.resolve().name,
    )
    trainer = lightning.Trainer(
        accelerator="gpu" if device.type == "cuda" else device.type,
        devices=1,
        precision="bf16-mixed" if bf16 else "32-true",
        max_epochs=config.optim.epochs,
        plugins=[AtomicCheckpointIO()],
        callbacks=[history, film, *checkpoints(folder)],
        logger=wandb_logger or False,
        log_every_n_steps=20,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    _run(trainer, module, resume if resumed else None)

    rows = runs.read_history(folder)
    best = min(rows, key=lambda row: row["val_loss"])
    kept = read_checkpoint(folder / runs.BEST)
    if kept["epoch"] + 1 != best["epoch"]:
        raise CheckpointError(
            f"{folder / runs.BEST} holds epoch {kept['epoch'] + 1}, but epoch "
            f"{best['epoch']} had the lowest validation loss; train into another folder"
        )
    weights = kept["state_dict"]
    model.load_state_dict({key.removeprefix("model."): value for key, value in weights.items()})
    models.save(model, folder / runs.WEIGHTS)
    seconds = rows[-1]["elapsed_train_seconds"]
    runs.write_json(
        folder / runs.PROVENANCE,
        {**facts, "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")},
    )
    runs.write_json(
        folder / runs.TRAINING,
        {
            "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
            "epochs": len(rows),
            "best_epoch": best["epoch"],
            "best_val_loss": best["val_loss"],
            "best_val_accuracy": best["val_accuracy"],
            "train_seconds": seconds,
            "pictures": pictures,
            "pictures_per_second": module.pictures_seen / seconds,
            "weights_sha256": runs.file_sha256(folder / runs.WEIGHTS),
            "resumed": resumed,
        },
    )
    for leftover in (runs.RESUME, runs.BEST):
        (folder / leftover).unlink(missing_ok=True)


def _fused(model: Model, name: str) -> bool:
    """Whether the model could be fused; the training goes on without, if not."""
    try:
        model.fuse(products_only=not wide_vectors())
    except EnvironmentFault as fault:
        log.info("%s: training steps are not compiled: %s", name, fault)
        return False
    return True


def _run(trainer: lightning.Trainer, module: Classifier, resume: Path | None) -> None:
    """Fit, with Lightning's habits undone: its exit on Ctrl-C, and tips that do not apply."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*exists and is not empty.*")
            warnings.filterwarnings("ignore", ".*treespec.*", category=FutureWarning)
            trainer.fit(module, ckpt_path=resume, weights_only=True)
    except SystemExit:
        if trainer.interrupted:
            raise KeyboardInterrupt from None
        raise
    except (torch.cuda.OutOfMemoryError, MemoryError):
        raise EnvironmentFault(
            f"not enough memory for a batch of {module.config.batch_size} pictures; lower "
            "--cnn.optim.batch-size or --vit.optim.batch-size"
        ) from None


def _tracked_as(folder: Path, tracked_in: Path, name: str) -> str:
    """Name of the tracker's run: "cnn", or "seed-1/cnn" for another training of an experiment."""
    if folder == tracked_in or not folder.is_relative_to(tracked_in):
        return name
    return folder.relative_to(tracked_in).as_posix()


def _resident(dataset: Dataset, indices: np.ndarray, device: torch.device) -> Split:
    pixels = to_tensor(dataset.train_pixels[indices]).to(device)
    return pixels, torch.from_numpy(dataset.train_labels[indices]).to(device)


def _warm_up(module: Classifier, *, bf16: bool, device: torch.device) -> None:
    """Steps whose effects are undone, so that compilation and first calls are not timed."""
    model = module.model.train()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    for images in module.first_batches():  # a compiled step is compiled for each size of picture
        # As Lightning calls it: it is also compiled anew for another setting of the cache.
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16, cache_enabled=False):
            loss = module.training_forward(images).float().square().mean()
        torch.autograd.backward(loss)
        model.zero_grad(set_to_none=True)
        del loss  # its graph would lie amid the memory of the next size, and keep it in pieces
    model.load_state_dict(state)
