"""Read CIFAR-10 from a folder, in each of the layouts that it is published in.

Nothing is extracted and nothing from a file is run: a packed archive must have the published
SHA-256 before it is opened, its members are read by exact name and bounded size, and the pickles of
the Python layout pass through an unpickler that knows NumPy arrays only.
"""

import io
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image

from visavis.config import IMAGE_SIDE
from visavis.data.archives import (
    IMAGE_BYTES,
    Labels,
    Pixels,
    binary_batch,
    checked_labels,
    python_batch,
)
from visavis.errors import DataError
from visavis.run_folder import file_sha256

CLASS_NAMES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)

TRAIN = 50_000
TEST = 10_000

BINARY_ARCHIVE = "cifar-10-binary.tar.gz"
PYTHON_ARCHIVE = "cifar-10-python.tar.gz"
SHA256 = {
    BINARY_ARCHIVE: "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    PYTHON_ARCHIVE: "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
}

BINARY_FOLDER = "cifar-10-batches-bin"
PYTHON_FOLDER = "cifar-10-batches-py"
PARQUET_FOLDER = "plain_text"
TRAIN_PARQUET = "train-00000-of-00001.parquet"
TEST_PARQUET = "test-00000-of-00001.parquet"
BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")


@dataclass(frozen=True)
class Images:
    """CIFAR-10 as it was read, training and test images in their published order."""

    layout: str
    train_pixels: UInt8[np.ndarray, "train 32 32 3"]
    train_labels: Int64[np.ndarray, " train"]
    test_pixels: UInt8[np.ndarray, "test 32 32 3"]
    test_labels: Int64[np.ndarray, " test"]
    is_jpeg: bool = False
    """The pixels come out of a lossy format, so they are not the published ones."""


def _most_bytes(count: int) -> int:
    """More than any batch of `count` images has in either layout; a larger file is not read."""
    return count * (IMAGE_BYTES + 64) + 10_000


def _files(paths: list[Path], count: int) -> dict[str, bytes]:
    for path in paths:
        if not path.is_file():
            raise DataError(f"{path} is missing")
        if path.stat().st_size > _most_bytes(count):
            raise DataError(f"{path} is not a CIFAR-10 batch: it has {path.stat().st_size} bytes")
    return {path.name: path.read_bytes() for path in paths}


def _members(archive: Path, paths: list[Path], count: int) -> dict[str, bytes]:
    folder = BINARY_FOLDER if archive.name == BINARY_ARCHIVE else PYTHON_FOLDER
    wanted = {f"{folder}/{path.name}": path.name for path in paths}
    contents: dict[str, bytes] = {}
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                name = wanted.get(member.name)
                if name and member.isreg() and member.size <= _most_bytes(count):
                    contents[name] = tar.extractfile(member).read()  # type: ignore[union-attr]
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{archive} is damaged: {error}") from error
    if missing := sorted(set(wanted.values()) - set(contents)):
        raise DataError(f"{archive} lacks {', '.join(missing)}")
    return contents


def _names(layout: str) -> list[str]:
    ending = ".bin" if layout in (BINARY_ARCHIVE, BINARY_FOLDER) else ""
    return [name + ending for name in BATCHES]


def _from_batches(
    layout: str,
    paths: list[Path],
    read_batch: Callable[[Path, bytes, int], tuple[Pixels, Labels]],
    archive: Path | None = None,
) -> Images:
    """Five training batches and a test batch, from files or from members of an archive."""
    counts = [TRAIN // 5] * 5 + [TEST]
    contents = _members(archive, paths, max(counts)) if archive else _files(paths, max(counts))
    batches = [read_batch(p, contents[p.name], n) for p, n in zip(paths, counts, strict=True)]
    pixels, labels = zip(*batches, strict=True)
    return Images(
        layout,
        train_pixels=np.concatenate(pixels[:5]),
        train_labels=np.concatenate(labels[:5]),
        test_pixels=pixels[5],
        test_labels=labels[5],
    )


def _archive(folder: Path) -> Images | None:
    for name, layout, read_batch in (
        (BINARY_ARCHIVE, "binary archive", binary_batch),
        (PYTHON_ARCHIVE, "Python archive", python_batch),
    ):
        path = folder / name
        if path.is_file():
            if (found := file_sha256(path)) != SHA256[name]:
                raise DataError(
                    f"{path} is damaged or not the published file: its SHA-256 is {found}, not "
                    f"{SHA256[name]}; download it again"
                )
            return _from_batches(layout, [path / n for n in _names(name)], read_batch, path)
    return None


def _unpacked(folder: Path) -> Images | None:
    for name, layout, read_batch in (
        (BINARY_FOLDER, "unpacked binary archive", binary_batch),
        (PYTHON_FOLDER, "unpacked Python archive", python_batch),
    ):
        for place in (folder / name, folder):
            names = _names(name)
            if (place / names[0]).is_file():
                return _from_batches(layout, [place / n for n in names], read_batch)
    return None


def _image_files(file: Any) -> Iterator[tuple[int, bytes]]:
    index = 0
    for batch in file.iter_batches(batch_size=5_000, columns=["img.bytes"]):
        for data in batch.column("img").field("bytes"):
            yield index, data.as_py()
            index += 1


def _decode(path: Path, index: int, data: bytes | None, into: UInt8[np.ndarray, "32 32 3"]) -> str:
    """Decode one image into its place; the name of its format."""
    try:
        with Image.open(io.BytesIO(data or b""), formats=("PNG", "JPEG")) as image:
            if image.size != (IMAGE_SIDE, IMAGE_SIDE):
                raise DataError(f"{path}: image {index} has {image.size} pixels, not 32 x 32")
            into[:] = image.convert("RGB")
            return str(image.format)
    except DataError:
        raise
    except Exception as error:  # each Pillow plugin has its own
        raise DataError(f"{path}: image {index} cannot be decoded: {error}") from error


def _parquet_file(path: Path, count: int) -> tuple[Pixels, Labels, bool]:
    """Columns `img` (struct with `bytes`: a PNG or JPEG file) and `label`."""
    import pyarrow  # here: it takes a third of a second, and the other layouts do without
    from pyarrow import parquet

    if not path.is_file():
        raise DataError(f"{path} is missing")
    try:
        with parquet.ParquetFile(path) as file:
            if (found := file.metadata.num_rows) != count:
                raise DataError(f"{path} has {found} images, not {count}")
            labels = file.read(columns=["label"])["label"].to_numpy()
            pixels = np.empty((count, IMAGE_SIDE, IMAGE_SIDE, 3), np.uint8)
            formats = {_decode(path, i, data, pixels[i]) for i, data in _image_files(file)}
    except (pyarrow.ArrowException, KeyError, OSError) as error:
        raise DataError(f"{path} is not a CIFAR-10 Parquet file, or is damaged: {error}") from error
    return pixels, checked_labels(path, labels, count), "JPEG" in formats


def _parquet(folder: Path) -> Images | None:
    for place in (folder / PARQUET_FOLDER, folder):
        if (place / TRAIN_PARQUET).is_file():
            train_pixels, train_labels, train_jpeg = _parquet_file(place / TRAIN_PARQUET, TRAIN)
            test_pixels, test_labels, test_jpeg = _parquet_file(place / TEST_PARQUET, TEST)
            return Images(
                layout="Parquet files",
                train_pixels=train_pixels,
                train_labels=train_labels,
                test_pixels=test_pixels,
                test_labels=test_labels,
                is_jpeg=train_jpeg or test_jpeg,
            )
    return None


def read(folder: Path) -> Images:
    """Read the first layout found in `folder`: archives, then unpacked batches, then Parquet.

    Raises:
        DataError: no layout is there, or the one found is damaged; names the file and, where one
            image is at fault, its index in that file.
    """
    try:
        if not folder.is_dir():
            what = "is a file" if folder.exists() else "does not exist"
            raise DataError(f"--data.dir {folder} {what}; give the folder that holds CIFAR-10")
        for find in (_archive, _unpacked, _parquet):
            if images := find(folder):
                return images
        held = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
    except OSError as error:
        raise DataError(f"cannot read {folder}: {error.strerror or error}") from error
    raise DataError(
        f"no CIFAR-10 in {folder}: looked for {BINARY_ARCHIVE}, {PYTHON_ARCHIVE}, "
        f"{BINARY_FOLDER}/data_batch_1.bin, {PYTHON_FOLDER}/data_batch_1 and "
        f"{PARQUET_FOLDER}/{TRAIN_PARQUET}, the last three also without their folder; "
        f"found {held}"
    )
