"""Snapshots: attribution maps of a few images over the epochs of a training."""

import contextlib
from pathlib import Path
from typing import Any

import lightning
import numpy as np
from jaxtyping import Int
from lightning.pytorch.callbacks import Callback

from visavis import attribution, run_folder
from visavis.attribution import Subject
from visavis.attribution.batched import grid_maps
from visavis.attribution.degenerate import Maps
from visavis.data import Dataset
from visavis.data.batches import to_images
from visavis.errors import CheckpointError


def shown_epochs(epochs: int) -> list[int]:
    """Before the first epoch, after 1, 2, 4, 8 and so on, and after the last."""
    powers = [2**i for i in range(epochs.bit_length()) if 2**i < epochs]
    return [0, *powers, epochs]


class Snapshots(Callback):
    """Writes snapshots.npz: maps of the first validation image of each class, for its true class.

    Of the model's default method; Grad-CAM at its default layer, since the explain stage selects
    one only after the training.

    The training does not depend on it: the model is left as it was, no random number is drawn, and
    its time does not count as training time.
    """

    def __init__(
        self,
        folder: Path,
        dataset: Dataset,
        validation: Int[np.ndarray, " n"],
        subject: Subject,
    ) -> None:
        self.subject = subject
        self.path = folder / run_folder.SNAPSHOTS
        labels = dataset.train_labels[validation]
        rows = validation[np.unique(labels, return_index=True)[1]]
        self.pixels, self.labels = dataset.train_pixels[rows], dataset.train_labels[rows]
        self.maps: dict[int, Maps] = {}

    def on_train_start(self, trainer: lightning.Trainer, module: Any) -> None:
        self.method = attribution.default_method(self.subject)
        if trainer.current_epoch == 0:
            self._take(0, module)
            return
        with contextlib.suppress(CheckpointError):  # resumes without earlier ones if need be
            stored = run_folder.read_arrays(self.path)
            maps = zip(stored["epochs"].tolist(), stored[f"map_{self.method}"], strict=True)
            self.maps = {epoch: of for epoch, of in maps if epoch <= trainer.current_epoch}

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: Any) -> None:
        if (epoch := trainer.current_epoch + 1) in shown_epochs(module.config.epochs):
            self._take(epoch, module)

    def _take(self, epoch: int, module: Any) -> None:
        images = to_images(self.pixels).to(module.device)
        (self.maps[epoch],) = grid_maps(self.subject, images, [self.labels], self.method)
        run_folder.write_arrays(
            self.path,
            epochs=np.array(list(self.maps), dtype=np.int32),
            images=self.pixels,
            labels=self.labels,
            **{f"map_{self.method}": np.stack(list(self.maps.values()))},
        )
