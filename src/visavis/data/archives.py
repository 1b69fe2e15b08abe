"""The batches of the official archives as arrays: the binary format, and pickles read safely."""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8

from visavis.config import IMAGE_SIDE, NUM_CLASSES
from visavis.errors import DataError

IMAGE_BYTES = 3 * IMAGE_SIDE**2

Pixels = UInt8[np.ndarray, "n 32 32 3"]
Labels = Int64[np.ndarray, " n"]


def _planes_last(rows: UInt8[np.ndarray, "n 3072"]) -> Pixels:
    planes = rows.reshape(-1, 3, IMAGE_SIDE, IMAGE_SIDE)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1))


def checked_labels(path: Path, values: Any, count: int) -> Labels:
    """Labels from whatever a file held in their place; DataError if they are not `count` labels."""
    try:
        labels = np.asarray(values)
        if labels.dtype.kind not in "iu":
            raise ValueError("not whole numbers")
        labels = labels.astype(np.int64)
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(f"{path}: the labels cannot be read: {error}") from error
    if labels.shape != (count,):
        raise DataError(f"{path}: expected {count} labels, found shape {labels.shape}")
    if len(wrong := np.flatnonzero((labels < 0) | (labels >= NUM_CLASSES))):
        raise DataError(
            f"{path}: image {wrong[0]} has label {labels[wrong[0]]}, allowed are 0 to "
            f"{NUM_CLASSES - 1}; {len(wrong)} of {count} labels are out of range"
        )
    return labels


def binary_batch(path: Path, content: bytes, count: int) -> tuple[Pixels, Labels]:
    """Records of a label byte and 3,072 pixel bytes: red, green, blue, each row by row."""
    size = count * (1 + IMAGE_BYTES)
    if len(content) != size:
        raise DataError(f"{path} has {len(content)} bytes, not {size}: {count} images")
    records = np.frombuffer(content, np.uint8).reshape(count, 1 + IMAGE_BYTES)
    return _planes_last(records[:, 1:]), checked_labels(path, records[:, 0], count)


class _ArraysOnly(pickle.Unpickler):
    """Admits what NumPy arrays are rebuilt from; any other name in the pickle ends the reading."""

    _reconstruct = np.empty(0).__reduce__()[0]  # its module's name differs between NumPy 1 and 2
    _admitted: dict[tuple[str, str], Any] = {  # noqa: RUF012
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        """Give what is admitted; called for every name in the pickle."""
        if (module, name) not in self._admitted:
            raise DataError(f"its pickle asks for {module}.{name}, which CIFAR-10 does not need")
        return self._admitted[module, name]


def python_batch(path: Path, content: bytes, count: int) -> tuple[Pixels, Labels]:
    """A pickled dict of pixel rows and labels."""
    try:
        batch = _ArraysOnly(io.BytesIO(content), encoding="bytes").load()
        pixels, labels = batch[b"data"], batch[b"labels"]
    except DataError as error:
        raise DataError(f"{path} is refused: {error}") from error
    except Exception as error:  # a damaged pickle can raise almost anything
        raise DataError(f"{path} is not a CIFAR-10 batch, or is damaged: {error!r}") from error
    if not (isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8):
        raise DataError(f"{path}: the pixels are not a uint8 array")
    if pixels.shape != (count, IMAGE_BYTES):
        raise DataError(f"{path}: the pixels have shape {pixels.shape}, not {count, IMAGE_BYTES}")
    return _planes_last(pixels), checked_labels(path, labels, count)
