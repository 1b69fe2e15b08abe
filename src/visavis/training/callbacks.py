"""Callbacks of a training: history, clock and progress, and the signal that ends it."""

import logging
import signal
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from tqdm import tqdm

from visavis import run_folder
from visavis.config import OptimConfig
from visavis.training import hardware

log = logging.getLogger(__name__)


class OwnSignals(Callback):
    """Keeps the handler of SIGTERM that is there before the training.

    In several processes, Lightning's waits for the others, which may wait for this one.
    """

    def __init__(self) -> None:
        self.handler = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: lightning.Trainer, module: Any) -> None:
        signal.signal(signal.SIGTERM, self.handler)


class History(Callback):
    """Writes history.jsonl, measures the training time, and reports each epoch and the progress.

    Training seconds run from an epoch's first batch to its last, the work of the optimiser and the
    loader included; validation, checkpoints, start-up and compilation are not in them.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.begun = False
        """Whether the training has begun, with all that a checkpoint restores."""
        self.rows: list[dict[str, Any]] = []

    def on_train_start(self, trainer: lightning.Trainer, module: Any) -> None:
        # An epoch that was recorded but not checkpointed is trained again.
        self.rows = run_folder.read_history(self.folder)[: trainer.current_epoch]
        self.bar = tqdm(
            total=module.steps,
            initial=trainer.global_step,
            desc=f"train {self.name}",
            unit="step",
            leave=False,
            disable=None,  # where stderr is not a terminal
        )
        self.begun = True

    def on_train_epoch_start(self, trainer: lightning.Trainer, module: Any) -> None:
        self.started = hardware.clock(module.device)

    def on_train_batch_end(self, *arguments: Any) -> None:
        self.bar.update()

    def on_validation_start(self, trainer: lightning.Trainer, module: Any) -> None:
        self.seconds = hardware.clock(module.device) - self.started

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: Any) -> None:
        metrics = trainer.callback_metrics.items()
        elapsed = self.seconds + (self.rows[-1]["elapsed_train_seconds"] if self.rows else 0.0)
        row = {
            "epoch": trainer.current_epoch + 1,
            **{key.replace("/", "_"): float(value) for key, value in metrics},
            "learning_rate": float(trainer.optimizers[0].param_groups[-1]["lr"]),
            "train_seconds": self.seconds,
            "elapsed_train_seconds": elapsed,
        }
        self.rows.append(row)
        run_folder.write_history(self.folder, self.rows)
        config: OptimConfig = module.config
        remaining = config.cost(module.image_side, len(self.rows))
        left = elapsed * remaining / (config.cost(module.image_side) - remaining)
        about = f"{left:.0f} s" if left < 90 else f"{left / 60:.0f} min"
        log.info(
            f"{self.name}: epoch {row['epoch']} of {config.epochs}, training loss "
            f"{row['train_loss']:.3f}, validation loss {row['val_loss']:.3f}, validation accuracy "
            f"{100 * row['val_accuracy']:.1f} %, {self.seconds:.0f} s"
            + (f", about {about} left" if left else "")
        )

    def teardown(self, trainer: lightning.Trainer, module: Any, stage: str) -> None:
        if hasattr(self, "bar"):
            self.bar.close()
