"""The data set as arrays, its split into training and validation images, and its statistics."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Int32, Int64, UInt8

from visavis.errors import DataError

Pixels = UInt8[np.ndarray, "n side side 3"]
Labels = Int64[np.ndarray, " n"]

LEAKED_FRACTION = 0.01
"""Share of the test images from which on copies of training images are worth a notice. Fewer move
an accuracy by less than a point, about as much as the choice of some thousand test images does; the
published data sets have a few."""

Change = Literal["clean_plate", "other_shape", "other_colour", "other_background"]
"""What is changed in an image while all else stays.

clean_plate: the shape is left out (in film, a clean plate is the scene without its actors).
other_shape: one of another class, at the same place, with the same size, tilt and colour.
other_colour: of the shape. other_background: other ground and clutter behind the same shape, with
about the same contrast to it.
"""


@dataclass(frozen=True)
class Dataset:
    """Training and test images with their labels; `image_folder` may leave pixels in a file."""

    source: Literal["cifar10", "cifar100", "shapes", "folder"]
    description: str
    """What the images are, for people; contains no path."""
    class_names: tuple[str, ...]
    train_pixels: UInt8[np.ndarray, "train side side 3"] = field(repr=False)
    train_labels: Int64[np.ndarray, " train"] = field(repr=False)
    test_pixels: UInt8[np.ndarray, "test side side 3"] = field(repr=False)
    test_labels: Int64[np.ndarray, " test"] = field(repr=False)
    test_masks: Bool[np.ndarray, "test side side"] | None = field(default=None, repr=False)
    """Ground-truth masks: the pixels that determine the class, where they are known."""
    redraw: Callable[[Change], Pixels] | None = field(default=None, repr=False)
    """The test images with one thing changed, where they can be drawn again."""
    notice: str | None = None
    """What a reader of any result must know about where these images come from."""

    @property
    def side(self) -> int:
        """Height and width of the images, pixels."""
        return self.train_pixels.shape[1]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all pixels and labels: the same for every layout and host."""
        digest = hashlib.sha256()
        for array in (self.train_pixels, self.train_labels, self.test_pixels, self.test_labels):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            for part in parts(array):
                digest.update(np.ascontiguousarray(part).data)
        return digest.hexdigest()

    @cached_property
    def leaked(self) -> dict[int, list[int]]:
        """Test images that are also training images, byte for byte: test index to training indices.

        They are read one by one, since there may be more than fit into memory.
        """
        copies: dict[bytes, list[int]] = defaultdict(list)
        for index, image in enumerate(self.train_pixels):
            copies[_digest(image)].append(index)
        found = {index: copies.get(_digest(image)) for index, image in enumerate(self.test_pixels)}
        return {index: same for index, same in found.items() if same}

    @property
    def leaked_with_other_label(self) -> int:
        """How many of the leaked test images have another label among the training images."""
        return sum(
            bool((self.train_labels[same] != self.test_labels[index]).any())
            for index, same in self.leaked.items()
        )

    @property
    def notices(self) -> list[str]:
        """What a reader of any result must know: `notice`, and whether test images leaked."""
        notices = [self.notice] if self.notice else []
        if (n := len(self.leaked)) >= LEAKED_FRACTION * len(self.test_labels):
            notices.append(
                f"{n:,} of the {len(self.test_labels):,} test images are also training images, "
                f"byte for byte, {self.leaked_with_other_label:,} of them under another label, "
                "so the accuracies are not those on new images. Remove the copies; visavis data "
                "verify lists the first."
            )
        return notices


def _digest(image: np.ndarray) -> bytes:
    return hashlib.sha256(image.tobytes()).digest()


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


def parts(array: np.ndarray, rows: int = 500) -> Iterator[np.ndarray]:
    """An array a few rows at a time: one that is in a file is never loaded whole."""
    return (array[start : start + rows] for start in range(0, len(array), rows))


def class_counts(labels: Labels, classes: int) -> list[int]:
    """Number of images of each class."""
    return [int(count) for count in np.bincount(labels, minlength=classes)]


def describe(dataset: Dataset) -> dict[str, Any]:
    """Which images these are, as JSON types."""
    return {
        "source": dataset.source,
        "description": dataset.description,
        "notice": " ".join(dataset.notices) or None,
        "fingerprint": dataset.fingerprint,
        "class_names": list(dataset.class_names),
        "side": dataset.side,
        "leaked": {"images": len(dataset.leaked), "other_label": dataset.leaked_with_other_label},
    }


def info(dataset: Dataset) -> dict[str, Any]:
    """`describe`, class counts, and the mean and standard deviation of each channel in [0, 1]."""
    sums, squares = np.zeros((2, 3))  # exact: whole numbers below 2**53
    for part in parts(dataset.train_pixels):
        sums += part.sum(axis=(0, 1, 2))
        squares += np.square(part, dtype=np.uint16).sum(axis=(0, 1, 2))
    n = dataset.train_pixels[..., 0].size
    mean = sums / n
    std = np.sqrt(squares / n - mean**2)
    return {
        **describe(dataset),
        "counts": {
            "train": class_counts(dataset.train_labels, len(dataset.class_names)),
            "test": class_counts(dataset.test_labels, len(dataset.class_names)),
        },
        "channel_mean": [round(float(value) / 255, 4) for value in mean],
        "channel_std": [round(float(value) / 255, 4) for value in std],
        "ground_truth_masks": dataset.test_masks is not None,
    }
