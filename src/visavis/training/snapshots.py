"""A snapshots strip: how a model's explanations of a few images take shape while it learns."""

import contextlib
from pathlib import Path
from typing import cast

import lightning
import numpy as np
from jaxtyping import Float, Int
from lightning.pytorch.callbacks import Callback

from visavis import attribution, run_folder
from visavis.attribution.batched import grid_maps
from visavis.data import Dataset
from visavis.data.batches import to_images
from visavis.errors import CheckpointError
from visavis.models import Model


def shown_epochs(epochs: int) -> list[int]:
    """Before the first epoch, after it, then at twice as many each time, and after the last."""
    powers = [2**i for i in range(epochs.bit_length()) if 2**i < epochs]
    return [0, *powers, epochs]


class Snapshots(Callback):
    """Writes snapshots.npz: maps of the first validation image of each class, for its true class.

    Of the model's main method; Grad-CAM at its default layer, since the layer that is later chosen
    by its scores is not known yet.

    Nothing in the training depends on it: the model is left as it was found, no random number is
    drawn, and its time is outside the training seconds.
    """

    def __init__(
        self,
        folder: Path,
        dataset: Dataset,
        validation: Int[np.ndarray, " n"],
        *,
        epochs: int,
    ) -> None:
        self.path = folder / run_folder.SNAPSHOTS
        labels = dataset.train_labels[validation]
        rows = validation[np.unique(labels, return_index=True)[1]]
        self.pixels, self.labels = dataset.train_pixels[rows], dataset.train_labels[rows]
        self.epochs = shown_epochs(epochs)
        self.frames: dict[int, dict[str, Float[np.ndarray, "n 8 8"]]] = {}

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        if trainer.current_epoch == 0:
            self._take(0, module)
        else:  # an interrupted training goes on, if need be without the frames before
            stored: dict[str, np.ndarray] = {"epochs": np.empty(0, dtype=np.int32)}
            with contextlib.suppress(CheckpointError):
                stored = run_folder.read_arrays(self.path)
            for row, epoch in enumerate(stored["epochs"].tolist()):
                if epoch <= trainer.current_epoch:
                    self.frames[epoch] = {
                        name: maps[row] for name, maps in stored.items() if name.startswith("map_")
                    }

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule
    ) -> None:
        if (epoch := trainer.current_epoch + 1) in self.epochs:
            self._take(epoch, module)

    def _take(self, epoch: int, module: lightning.LightningModule) -> None:
        model = cast(Model, module.model)
        images = to_images(self.pixels).to(module.device)
        self.frames[epoch] = {
            f"map_{method}": grid_maps(model, images, [self.labels], method)[0]
            for method in [attribution.DEFAULT_METHOD[attribution.kind_of(model)]]
        }
        maps = {
            name: np.stack([frame[name] for frame in self.frames.values()])
            for name in self.frames[epoch]
        }
        run_folder.write_arrays(
            self.path,
            epochs=np.array(list(self.frames), dtype=np.int32),
            images=self.pixels,
            labels=self.labels,
            **maps,
        )
