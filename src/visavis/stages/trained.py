"""A trained model from its run folder: checked, loaded, ready to predict and to explain."""

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8

from visavis import attribution, models, run_folder
from visavis.attribution import Subject
from visavis.attribution.observation import logits_of
from visavis.config import ModelConfig
from visavis.data import Dataset
from visavis.data.batches import in_batches, to_images
from visavis.data.dataset import parts
from visavis.errors import CheckpointError, DataError, ModelError
from visavis.files import file_sha256
from visavis.models import Model
from visavis.run_folder import ModelFolder
from visavis.training import hardware

MAX_CLASSES, MAX_SIDE = 10_000, 2048
"""More than any data set here has; a damaged file may ask for a model that fills the memory."""


@dataclass(frozen=True)
class Trained:
    """A trained model and what its run folder records about it."""

    name: str
    """ "cnn", "vit", or that of a registered or a library's model."""
    model: Model = field(repr=False)
    subject: Subject = field(repr=False)
    """What explanations see of the model."""
    class_names: tuple[str, ...]
    layer: str | None
    """Grad-CAM's layer as the explain stage selected it; None before that stage has run."""
    default_method: str
    """The class-specific method that represents the model: a key of `attribution.METHODS`."""

    def predict(self, pixels: UInt8[np.ndarray, "n side side 3"]) -> Float[np.ndarray, "n classes"]:
        """Probability of each class for each image."""
        return self.subject.predict(to_images(pixels)).softmax(dim=1).numpy()

    def explain(
        self,
        pixels: UInt8[np.ndarray, "n side side 3"],
        classes: Int[np.ndarray, " n"] | None = None,
        *,
        method: str | None = None,
    ) -> Float[np.ndarray, "n g g"]:
        """Raw heatmaps: higher means more evidence; the scale differs between methods.

        Args:
            classes: the target class of each image; the predicted one if None.
            method: a key of `attribution.METHODS`; the model's class-specific default if None.

        Raises:
            ValueError: the method does not fit the model, or a class is out of range.
        """
        method = method or self.default_method
        classes = self.predict(pixels).argmax(axis=1) if classes is None else classes
        layer = self.layer if attribution.METHODS[method].needs == "layers" else None
        return in_batches(
            lambda images, targets: attribution.explain(
                self.subject, images, targets, method, layer=layer
            ),
            to_images(pixels),
            torch.as_tensor(classes),
        ).numpy()


def load(folder: Path | str) -> Trained:
    """Load a trained model from its run folder, such as runs/first/cnn.

    Raises:
        CheckpointError: the training has not finished, or its files are damaged or altered.
    """
    stored = ModelFolder(Path(folder))
    model = load_trained(stored.path)
    explained: dict[str, Any] = {"layer": None, "grid": [0], "default_method": None}
    explained = stored.explanations if stored.explained else explained
    subject = observed(model, stored.split["examples"], grid=explained["grid"][0])
    return Trained(
        name=stored.config["model"]["name"],
        model=model,
        subject=subject,
        class_names=tuple(stored.data["class_names"]),
        layer=explained["layer"],
        default_method=explained["default_method"] or attribution.default_method(subject),
    )


def observed(
    model: Model,
    pixels: UInt8[np.ndarray, "n side side 3"],
    *,
    grid: int = 0,
    autocast: bool = False,
) -> Subject:
    """What explanations see of a model of ours.

    Args:
        pixels: a few images of its data.
        grid: cells along a side of the scoring grid; 0: the model's own.
        autocast: as `Subject` has it.

    Raises:
        ModelError: it is no classifier of such images.
    """
    subject = Subject(images=to_images(pixels[:2]), grid=grid or None, **models.known_of(model))
    subject.autocast = autocast
    return subject


def build(config: ModelConfig, dataset: Dataset) -> Model:
    """An untrained model, checked before anything is written or trained.

    Raises:
        DataError: the training images are all of one colour.
        ModelError: as `check_classifier`, or there is no such model.
    """
    colour = dataset.train_pixels[0, 0, 0]
    if all((part == colour).all() for part in parts(dataset.train_pixels)):
        raise DataError(
            f"the training images of {dataset.description} are all of one colour, so there is "
            "nothing to learn from them; use others"
        )
    model = models.build(config, len(dataset.class_names), dataset.side)
    check_classifier(model, dataset)
    return model


def check_classifier(model: Model, dataset: Dataset) -> None:
    """Check that a model classifies images of `dataset`, before anything is written for it.

    Raises:
        ModelError: it fails, also when it is trained, its logits are not finite, it has another
            number of classes, or layers that were registered with it do not fit.
    """
    classes = observed(model, dataset.train_pixels[:2]).classes
    other = copy.deepcopy(model).train()  # dropout and batch norms may change it, or fail
    try:
        logits = logits_of(other(to_images(dataset.train_pixels[:4])))
    except Exception as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise ModelError(f"the model fails in training mode: {what}") from error
    if not torch.isfinite(logits).all():
        raise ModelError("the model's logits are NaN or infinite in training mode")
    if classes != len(dataset.class_names):
        raise ModelError(
            f"the model returns {classes} logits for each image, but the data have "
            f"{len(dataset.class_names)} classes; its factory is called with that number"
        )


def load_trained(folder: Path) -> Model:
    """The model of the epoch with the lowest validation loss, on the CPU, in evaluation mode.

    Raises:
        CheckpointError: the training has not finished, or its files are damaged or altered.
    """
    if not folder.is_dir():
        raise CheckpointError(f"there is no run folder {folder}; train a model with --out first")
    stored = ModelFolder(folder)
    config, training = stored.config, stored.training
    weights = folder / run_folder.WEIGHTS
    classes, side = stored.data["class_names"], stored.data["side"]
    known = len(classes) <= MAX_CLASSES and all(isinstance(name, str) for name in classes)
    if not (known and len(classes) >= 2 and 8 <= side <= MAX_SIDE):
        raise CheckpointError(
            f"{folder / run_folder.DATA} names no usable classes, or no usable image side; "
            f"{run_folder.remedy(folder / run_folder.DATA)}"
        )
    settings = models.config_from_json(config["model"])
    model = models.load(settings, weights, len(classes), side)
    if file_sha256(weights) != training["weights_sha256"]:
        raise CheckpointError(
            f"{weights} is not the file that the training wrote (its SHA-256 is not the one in "
            f"{run_folder.TRAINING}); restore it, or train again into another folder"
        )
    return hardware.place(model, torch.device("cpu"))


def check_data(folder: Path, dataset: Dataset) -> None:
    """Check that the model in `folder` was trained on the images of `dataset`.

    Raises:
        CheckpointError: the fingerprints differ.
    """
    data = ModelFolder(folder).data
    if data.get("fingerprint") != dataset.fingerprint:
        raise CheckpointError(
            f"{folder} was trained on {data.get('description')}, but the pixels of these "
            f"images ({dataset.description}) differ; pass the same --data.source and --data.dir"
        )


def split_rows(
    folder: Path, dataset: Dataset, part: Literal["train", "validation"]
) -> Int[np.ndarray, " m"]:
    """Which training images of `dataset` the model in `folder` was trained or validated on.

    Raises:
        CheckpointError: the folder names none, or some that do not exist.
    """
    rows = ModelFolder(folder).split.get(part, np.empty(0, dtype=np.int32))
    if not (len(rows) and 0 <= rows.min() <= rows.max() < len(dataset.train_pixels)):
        name = {"train": "training"}.get(part, part)
        raise CheckpointError(
            f"{folder / run_folder.SPLIT} names no {name} images of {dataset.source}; use the data "
            "that this model was trained on"
        )
    return rows
