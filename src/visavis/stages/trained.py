"""A trained model from its run folder: checked, loaded, and ready to predict and to explain."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8

from visavis import attribution, models, run_folder
from visavis.data import Dataset
from visavis.data.batches import to_images
from visavis.errors import CheckpointError
from visavis.models import Model
from visavis.training import hardware

BATCH = 100
"""Images at a time: memory stays small however many are asked about."""


@dataclass(frozen=True)
class Trained:
    """A trained model with what its run folder says of it."""

    name: str
    """ "cnn" or "vit"."""
    model: Model = field(repr=False)
    class_names: tuple[str, ...]
    layer: str | None
    """Grad-CAM's layer: the one that the explain stage chose, or None before it has run."""

    def predict(self, pixels: UInt8[np.ndarray, "n 32 32 3"]) -> Float[np.ndarray, "n classes"]:
        """Probability of each class for each image."""
        with torch.inference_mode():
            parts = [self.model(part).softmax(dim=1) for part in to_images(pixels).split(BATCH)]
        return torch.cat(parts).numpy()

    def explain(
        self,
        pixels: UInt8[np.ndarray, "n 32 32 3"],
        classes: Int[np.ndarray, " n"] | None = None,
        *,
        method: str | None = None,
    ) -> Float[np.ndarray, "n g g"]:
        """Raw heatmaps: higher means more evidence; the scale differs between methods.

        Args:
            classes: the class asked about for each image; the predicted one if None.
            method: a key of `saliency.METHODS`; the model's class-specific default if None.

        Raises:
            ValueError: a method that does not fit the model, or a class out of range.
        """
        method = method or attribution.DEFAULT_METHOD[self.name]
        classes = self.predict(pixels).argmax(axis=1) if classes is None else classes
        layer = self.layer if method == "grad_cam" else None
        parts = zip(
            to_images(pixels).split(BATCH), torch.as_tensor(classes).split(BATCH), strict=True
        )
        heatmaps = [attribution.explain(self.model, *part, method, layer=layer) for part in parts]
        return torch.cat(heatmaps).numpy()


def load(folder: Path | str) -> Trained:
    """Load a trained model from its run folder, such as runs/first/cnn.

    Raises:
        CheckpointError: the training has not finished, or its files are damaged or altered.
    """
    folder = Path(folder)
    model = load_trained(folder)
    explained = (folder / run_folder.EXPLANATIONS).exists()
    return Trained(
        name=attribution.kind_of(model),
        model=model,
        class_names=tuple(run_folder.read_json(folder / run_folder.DATA)["class_names"]),
        layer=run_folder.read_json(folder / run_folder.EXPLANATIONS)["layer"]
        if explained
        else None,
    )


def load_trained(folder: Path) -> Model:
    """The model of the epoch with the lowest validation loss, on the CPU, in evaluation mode.

    Raises:
        CheckpointError: the training has not finished, or its files are damaged or altered.
    """
    if not folder.is_dir():
        raise CheckpointError(f"there is no run folder {folder}; train a model with --out first")
    config = run_folder.read_json(folder / run_folder.CONFIG)
    training = run_folder.read_json(folder / run_folder.TRAINING)
    weights = folder / run_folder.WEIGHTS
    classes = run_folder.read_json(folder / run_folder.DATA).get("class_names")
    if not isinstance(classes, list):
        raise CheckpointError(
            f"{folder / run_folder.DATA} names no classes; restore it, or train again"
        )
    model = models.load(models.config_from_json(config.get("model", {})), weights, len(classes))
    if run_folder.file_sha256(weights) != training.get("weights_sha256"):
        raise CheckpointError(
            f"{weights} is not the file that the training wrote (its SHA-256 is not the one in "
            f"{run_folder.TRAINING}); restore it, or train again into another folder"
        )
    return hardware.place(model, torch.device("cpu"))


def check_data(folder: Path, dataset: Dataset) -> None:
    """Refuse images other than those that the model in `folder` was trained on.

    Raises:
        CheckpointError: the fingerprints differ.
    """
    data = run_folder.read_json(folder / run_folder.DATA)
    if data.get("fingerprint") != dataset.fingerprint:
        raise CheckpointError(
            f"{folder} was trained on {data.get('description')}, and these images are "
            f"{dataset.description} with other pixels; pass the same --data.source and --data.dir"
        )


def validation_rows(folder: Path, dataset: Dataset) -> Int[np.ndarray, " m"]:
    """Which training images of `dataset` the model in `folder` was validated on.

    Raises:
        CheckpointError: the folder names none, or others than there are.
    """
    return _rows(folder, dataset, "validation")


def training_rows(folder: Path, dataset: Dataset) -> Int[np.ndarray, " m"]:
    """Which training images of `dataset` the model in `folder` learnt from.

    Raises:
        CheckpointError: the folder names none, or others than there are.
    """
    return _rows(folder, dataset, "train")


def _rows(folder: Path, dataset: Dataset, part: str) -> Int[np.ndarray, " m"]:
    path = folder / run_folder.SPLIT
    rows = run_folder.read_arrays(path).get(part, np.empty(0, dtype=np.int32))
    if not (len(rows) and 0 <= rows.min() <= rows.max() < len(dataset.train_pixels)):
        name = {"train": "training"}.get(part, part)
        raise CheckpointError(
            f"{path} names no {name} images of {dataset.source}; use the data that this "
            "model was trained on"
        )
    return rows
