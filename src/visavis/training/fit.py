"""Lightning's Trainer around a model: warm-up, then all epochs, on one device or on several."""

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import lightning
import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DDPStrategy
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from visavis.errors import CheckpointError, ConfigError, VisavisError
from visavis.models import Model
from visavis.training import hardware
from visavis.training.callbacks import History, OwnSignals
from visavis.training.checkpoints import FROM_THE_START, AtomicCheckpointIO
from visavis.training.memory import out_of_memory
from visavis.training.module import Classifier
from visavis.training.ranks import lost_another

LIGHTNING_PRECISION: dict[hardware.Precision, Any] = {
    "bf16": "bf16-mixed",
    "fp16": "16-mixed",
    "float32": "32-true",
}


def synchronised(model: Model, name: str) -> Model:
    """The model with batch norms that normalise over the images of all processes, on GPUs.

    Raises:
        ConfigError: it has batch norms that do more than PyTorch's, which would be lost.
    """
    norms = {type(part) for part in model.modules() if isinstance(part, _BatchNorm)}
    convert: Callable[[nn.Module], nn.Module] = nn.SyncBatchNorm.convert_sync_batchnorm
    if name.startswith("timm/"):
        from timm.layers.norm_act import convert_sync_batchnorm as convert
    elif others := norms - {nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d}:
        raise ConfigError(
            f"--train.devices: the batch norms of {name} ({others.pop().__name__}) cannot be "
            "synchronised, since they are not PyTorch's; use --train.devices 1"
        )
    return cast(Model, convert(model))


def _trainer(
    module: Classifier,
    callbacks: list[Callback],
    loggers: list[Logger],
    precision: hardware.Precision,
) -> lightning.Trainer:
    """Lightning's trainer, with one process or with one for each of `module.ranks`."""
    device = next(module.model.parameters()).device
    complete = warm_up(module, device)
    # One process, inside `srun` too, where Lightning would take SIGTERM for itself, or refuse a
    # number of tasks that is not its own.
    environment: ClusterEnvironment = LightningEnvironment()
    strategy: str | DDPStrategy = "auto"
    if module.ranks.world_size > 1:
        environment = TorchElasticEnvironment()
        # Buffers are sent once an epoch, by the module.
        strategy = DDPStrategy(broadcast_buffers=False, find_unused_parameters=not complete)
        callbacks = [*callbacks, OwnSignals()]
    return lightning.Trainer(
        accelerator="gpu" if device.type == "cuda" else device.type,
        devices=module.ranks.world_size,
        strategy=strategy,
        precision=LIGHTNING_PRECISION[precision],
        max_epochs=module.config.epochs,
        plugins=[AtomicCheckpointIO(), environment],
        callbacks=callbacks,
        logger=loggers or False,
        log_every_n_steps=1,  # only epochs are logged; this keeps Lightning from warning
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def fit(
    module: Classifier,
    callbacks: list[Callback],
    loggers: list[Logger],
    precision: hardware.Precision,
    checkpoint: Path,
) -> None:
    """Train all epochs, or those after the checkpoint if there is one."""
    trainer = _trainer(module, callbacks, loggers, precision)
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
    except VisavisError:
        raise
    except Exception as error:
        waiting = any(isinstance(of, History) and not of.begun for of in callbacks)
        if resume is None or not waiting or out_of_memory(error) or lost_another(error):
            raise
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise CheckpointError(f"{resume} cannot be resumed ({what}); {FROM_THE_START}") from error


def warm_up(module: Classifier, device: torch.device) -> bool:
    """Take steps and undo them, so that compilation and first calls are not timed.

    Returns:
        Whether every parameter took part.
    """
    model, dtype = module.model.train(), module.dtype_of_products
    state = {key: value.clone() for key, value in model.state_dict().items()}
    n = module.train_dataloader().batch_size // module.ranks.world_size
    complete = True
    for side in {module.config.side(0, module.image_side), module.image_side}:
        images = torch.rand(n, 3, side, side, device=device)
        # As Lightning calls it: another setting of the cache would compile the step again.
        with torch.autocast(
            device.type, dtype, enabled=dtype != torch.float32, cache_enabled=False
        ):
            loss = module.training_forward(hardware.channels_last(images)).float().square().mean()
        torch.autograd.backward(loss)
        complete &= all(of.grad is not None for of in model.parameters() if of.requires_grad)
        model.zero_grad()
    model.load_state_dict(state)
    return complete
