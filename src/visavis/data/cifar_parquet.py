"""CIFAR-10 as Parquet files, as public mirrors hold it.

Columns are `img` (a struct whose `bytes` are a PNG or JPEG file) and `label`.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from visavis.config import IMAGE_SIDE
from visavis.data.dataset import Pixels
from visavis.errors import DataError

MAX_STORED = 20_000
"""Bytes of an image in a Parquet file, on average; a PNG of 32 x 32 has up to 3,200."""

FOLDER = "plain_text"
TRAIN_FILE = "train-00000-of-00001.parquet"
TEST_FILE = "test-00000-of-00001.parquet"


def read_file(path: Path, count: int) -> tuple[Pixels, np.ndarray, bool]:
    """Pixels and labels, whose range is not checked, and whether any image was a JPEG.

    Raises:
        DataError: the file is missing or damaged, or does not hold `count` images.
    """
    import pyarrow  # here: it takes a third of a second, and the other layouts do without
    from pyarrow import parquet

    if not path.is_file():
        raise DataError(f"{path} is missing")
    pixels = np.empty((count, IMAGE_SIDE, IMAGE_SIDE, 3), np.uint8)
    try:
        with parquet.ParquetFile(path, read_dictionary=["img.bytes"]) as file:
            if (found := file.metadata.num_rows) != count:
                raise DataError(f"{path} has {found} images, not {count}")
            sizes = (file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups))
            if (size := sum(sizes)) > count * MAX_STORED:
                raise DataError(f"{path} holds {size / 1e6:,.0f} MB, too many for {count} images")
            if not pyarrow.types.is_integer(file.schema_arrow.field("label").type):
                raise DataError(f"{path} does not hold {count} integer labels")
            labels = file.read(columns=["label"])["label"].to_numpy()
            formats = {
                _decode(path, index, content, pixels[index])
                for index, content in enumerate(stored_images(file))
            }
    except (pyarrow.ArrowException, KeyError, OSError) as error:
        raise DataError(f"{path} is not a CIFAR-10 Parquet file, or is damaged: {error}") from error
    return pixels, labels, "JPEG" in formats


def stored_images(file: Any) -> Iterator[bytes | None]:
    """The files in the column `img`, of a Parquet file that was opened with a dictionary of them.

    Without it, one value that is stored once for all rows would be repeated in memory.
    """
    for group in range(file.num_row_groups):
        for chunk in file.read_row_group(group, ["img.bytes"])["img"].chunks:
            column = chunk.field("bytes")
            images = column.dictionary
            for index in column.indices.to_pylist():
                yield None if index is None else images[index].as_py()


def _decode(
    path: Path, index: int, content: bytes | None, into: UInt8[np.ndarray, "32 32 3"]
) -> str:
    """Decode an image into the array given, and return the name of its format."""
    try:
        with Image.open(io.BytesIO(content or b""), formats=("PNG", "JPEG")) as image:
            if image.size != (IMAGE_SIDE, IMAGE_SIDE):
                raise ValueError(f"it has {image.size} pixels, not 32 x 32")
            into[:] = image.convert("RGB")
            return str(image.format)
    except Exception as error:  # each Pillow plugin has its own
        raise DataError(f"{path}: image {index} cannot be decoded: {error}") from error
