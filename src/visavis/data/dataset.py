"""The data set as arrays, its split into training and validation images, and its statistics."""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Int32, Int64, UInt8

from visavis.errors import DataError

Pixels = UInt8[np.ndarray, "n 32 32 3"]
Labels = Int64[np.ndarray, " n"]


@dataclass(frozen=True)
class Dataset:
    """Training and test images with their labels."""

    source: Literal["cifar10", "shapes", "folder"]
    description: str
    """What the images are, for people; contains no path."""
    class_names: tuple[str, ...]
    train_pixels: UInt8[np.ndarray, "train 32 32 3"] = field(repr=False)
    train_labels: Int64[np.ndarray, " train"] = field(repr=False)
    test_pixels: UInt8[np.ndarray, "test 32 32 3"] = field(repr=False)
    test_labels: Int64[np.ndarray, " test"] = field(repr=False)
    test_masks: Bool[np.ndarray, "test 32 32"] | None = field(default=None, repr=False)
    """Ground-truth masks: the pixels that determine the class, where they are known."""
    notice: str | None = None
    """What a reader of any result must know about these images."""

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all pixels and labels: the same for every layout and host."""
        digest = hashlib.sha256()
        for array in (self.train_pixels, self.train_labels, self.test_pixels, self.test_labels):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def split(
    labels: Labels, fraction: float, seed: int
) -> tuple[Int32[np.ndarray, " train"], Int32[np.ndarray, " validation"]]:
    """Divide the training images, holding out the same fraction of every class for validation.

    Returns:
        Indices of the training and of the validation images, each in ascending order.

    Raises:
        DataError: a class has too few images to be divided.
    """
    generator = np.random.default_rng(seed)
    chosen = np.zeros(len(labels), bool)
    for label, count in enumerate(class_counts(labels, int(labels.max()) + 1)):
        held_out = round(count * fraction)
        if not 0 < held_out < count:
            raise DataError(
                f"class {label} has {count} training images, too few to hold out {fraction:g} "
                "of them for validation"
            )
        members = np.flatnonzero(labels == label)
        chosen[generator.permutation(members)[:held_out]] = True
    return np.flatnonzero(~chosen).astype(np.int32), np.flatnonzero(chosen).astype(np.int32)


def class_counts(labels: Labels, classes: int) -> list[int]:
    """Number of images of each class."""
    return [int(count) for count in np.bincount(labels, minlength=classes)]


def describe(dataset: Dataset) -> dict[str, Any]:
    """Which images these are, as JSON types."""
    return {
        "source": dataset.source,
        "description": dataset.description,
        "notice": dataset.notice,
        "fingerprint": dataset.fingerprint,
        "class_names": list(dataset.class_names),
    }


def info(dataset: Dataset) -> dict[str, Any]:
    """`describe`, class counts, and the mean and standard deviation of each channel in [0, 1]."""
    mean = dataset.train_pixels.mean(axis=(0, 1, 2))
    mean_square = np.square(dataset.train_pixels, dtype=np.uint16).mean(axis=(0, 1, 2))
    std = np.sqrt(mean_square - mean**2)
    return {
        **describe(dataset),
        "counts": {
            "train": class_counts(dataset.train_labels, len(dataset.class_names)),
            "test": class_counts(dataset.test_labels, len(dataset.class_names)),
        },
        "channel_mean": [round(float(value) / 255, 4) for value in mean],
        "channel_std": [round(float(value) / 255, 4) for value in std],
        "evidence_masks": dataset.test_masks is not None,
    }
