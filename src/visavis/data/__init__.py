"""The images of an experiment: CIFAR-10 from wherever it can be had, or the built-in shapes."""

import hashlib
import logging
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Int32, Int64, UInt8

from visavis.config import DataConfig
from visavis.data import cifar10, download, image_folder, shapes
from visavis.errors import DataError, EnvironmentFault

log = logging.getLogger(__name__)

Labels = Int64[np.ndarray, " n"]


@dataclass(frozen=True)
class Dataset:
    """Training and test images with their labels."""

    source: Literal["cifar10", "shapes", "folder"]
    description: str
    """What the images are, for people; names no folder."""
    class_names: tuple[str, ...]
    train_pixels: UInt8[np.ndarray, "train 32 32 3"] = field(repr=False)
    train_labels: Int64[np.ndarray, " train"] = field(repr=False)
    test_pixels: UInt8[np.ndarray, "test 32 32 3"] = field(repr=False)
    test_labels: Int64[np.ndarray, " test"] = field(repr=False)
    test_masks: Bool[np.ndarray, "test 32 32"] | None = field(default=None, repr=False)
    """The pixels that decide each test image's class, where that is known."""
    notice: str | None = None
    """What a reader of any number must know about these images."""

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all pixels and labels: the same wherever and however they were read."""
        digest = hashlib.sha256()
        for array in (self.train_pixels, self.train_labels, self.test_pixels, self.test_labels):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def split(
    labels: Labels, fraction: float, seed: int
) -> tuple[Int32[np.ndarray, " train"], Int32[np.ndarray, " validation"]]:
    """Divide the training images, drawing the same share of every class for validation.

    Returns:
        Indices of training and of validation images, each in rising order.

    Raises:
        DataError: a class has too few images to stand on both sides.
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
    """Images of each class."""
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
    """What `visavis data info` tells, as JSON types."""
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


FEW = 5
"""Examples given of each finding."""


def _digests(pixels: UInt8[np.ndarray, "n 32 32 3"]) -> list[bytes]:
    """Equal for equal images, and shorter."""
    return [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in pixels]


def _uneven(name: str, labels: Labels, class_names: tuple[str, ...]) -> list[str]:
    counts = class_counts(labels, len(class_names))
    if len(set(counts)) == 1:
        return []
    listed = ", ".join(f"{c} {n}" for c, n in zip(class_names, counts, strict=True))
    return [f"The {name} classes are not equally large: {listed}."]


def _plain(name: str, pixels: UInt8[np.ndarray, "n 32 32 3"]) -> list[str]:
    found = np.flatnonzero((pixels == pixels[:, :1, :1]).all(axis=(1, 2, 3)))
    if not len(found):
        return []
    listed = ", ".join(str(index) for index in found[:FEW])
    return [f"{len(found)} {name} images have one colour only: {listed}."]


def _repeats(name: str, digests: list[bytes], labels: Labels) -> list[str]:
    first: dict[bytes, int] = {}
    repeats = [
        (index, first[digest])
        for index, digest in enumerate(digests)
        if first.setdefault(digest, index) != index
    ]
    if not repeats:
        return []
    listed = ", ".join(f"{a} = {b}" for a, b in repeats[:FEW])
    at_odds = sum(int(labels[a] != labels[b]) for a, b in repeats)
    return [
        f"{len(repeats)} {name} images repeat an earlier one, {at_odds} of them under another "
        f"label: {listed}."
    ]


def _shared(train: list[bytes], test: list[bytes]) -> list[str]:
    places = {digest: index for index, digest in enumerate(train)}
    shared = [(index, places[digest]) for index, digest in enumerate(test) if digest in places]
    if not shared:
        return []
    listed = ", ".join(f"test {a} = training {b}" for a, b in shared[:FEW])
    return [f"{len(shared)} test images are also training images: {listed}."]


def verify(dataset: Dataset) -> list[str]:
    """Look for what makes results misleading; one sentence for each finding, none if all is well.

    Uneven classes, images of one colour, images that occur more than once, and images that
    are in both the training and the test set. Indices count from 0 in the order of the files.
    """
    findings, digests = [], {}
    for name, pixels, labels in (
        ("training", dataset.train_pixels, dataset.train_labels),
        ("test", dataset.test_pixels, dataset.test_labels),
    ):
        digests[name] = _digests(pixels)
        findings += _uneven(name, labels, dataset.class_names)
        findings += _plain(name, pixels)
        findings += _repeats(name, digests[name], labels)
    return findings + _shared(digests["training"], digests["test"])


_FALLBACK = (
    "CIFAR-10 could not be had, so these are the built-in shapes instead: no number here says "
    "anything about CIFAR-10. The reason: {}"
)

_JPEG = (
    "These images were stored as JPEG, which changes pixels: accuracies are lower than on the "
    "original CIFAR-10 and cannot be compared with published ones."
)


def _cifar10(images: cifar10.Images) -> Dataset:
    name = "CIFAR-10, JPEG copy" if images.is_jpeg else "CIFAR-10"
    return Dataset(
        source="cifar10",
        description=f"{name} ({images.layout})",
        class_names=cifar10.CLASS_NAMES,
        train_pixels=images.train_pixels,
        train_labels=images.train_labels,
        test_pixels=images.test_pixels,
        test_labels=images.test_labels,
        notice=_JPEG if images.is_jpeg else None,
    )


def _shapes(notice: str | None = None) -> Dataset:
    train_pixels, train_labels, _ = shapes.draw(shapes.TRAIN, seed=0)
    test_pixels, test_labels, test_masks = shapes.draw(shapes.TEST, seed=1)
    return Dataset(
        source="shapes",
        description="built-in shapes, drawn by visavis",
        class_names=shapes.CLASS_NAMES,
        train_pixels=train_pixels,
        train_labels=train_labels,
        test_pixels=test_pixels,
        test_labels=test_labels,
        test_masks=test_masks,
        notice=notice,
    )


def _folder(images: image_folder.Images) -> Dataset:
    return Dataset(
        source="folder",
        description=f"images of {len(images.class_names)} classes from a folder, "
        + ("with test images of its own" if images.own_test else "a fifth of them for testing"),
        class_names=images.class_names,
        train_pixels=images.train_pixels,
        train_labels=images.train_labels,
        test_pixels=images.test_pixels,
        test_labels=images.test_labels,
        notice=images.notice,
    )


def resolve(config: DataConfig) -> Dataset:
    """The images that `config` asks for.

    Raises:
        DataError: CIFAR-10 was asked for, by name or by folder, and is missing or damaged; or a
            folder of images is not one.
        EnvironmentFault: CIFAR-10 was asked for by name and the cache cannot be written.
    """
    if config.source == "shapes":
        return _shapes()
    if config.source == "folder":
        assert config.dir is not None  # DataConfig sees to it
        return _folder(image_folder.read(config.dir))
    if config.dir is not None:
        log.info("reading CIFAR-10 from %s", config.dir)
        return _cifar10(cifar10.read(config.dir))
    try:
        return _cifar10(cifar10.read(download.fetch()))
    except (DataError, EnvironmentFault) as error:
        if config.source == "cifar10":
            raise
        return _shapes(notice=_FALLBACK.format(error))
