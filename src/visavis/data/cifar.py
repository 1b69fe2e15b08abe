"""Read CIFAR-10 or CIFAR-100 from a folder, in each layout in which it is published.

Nothing is extracted, and no code in a file is run: a packed archive must have the published SHA-256
before it is opened, and the pickles of the Python version pass through an unpickler that admits
only NumPy arrays.
"""

import io
import pickle
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8

from visavis.config import IMAGE_SIDE
from visavis.data import cifar_parquet
from visavis.data.dataset import Dataset, Labels, Pixels
from visavis.errors import DataError
from visavis.files import file_sha256

Source = Literal["cifar10", "cifar100"]

TITLES: dict[Source, str] = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}
CLASSES: dict[Source, int] = {"cifar10": 10, "cifar100": 100}
CIFAR10_NAMES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
"""Those of CIFAR-100 are read from its archive."""
TRAIN = 50_000
TEST = 10_000
BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
"""Of CIFAR-10; CIFAR-100 has one file of training and one of test images."""
IMAGE_BYTES = 3 * IMAGE_SIDE**2

_JPEG_NOTICE = (
    "These images were stored as JPEG, which changes pixels: accuracies are lower than on the "
    "original CIFAR-10 and cannot be compared with published ones."
)


def _planes_last(rows: UInt8[np.ndarray, "n 3072"]) -> Pixels:
    """Rows of a red, a green and a blue plane as images with the channels last."""
    planes = rows.reshape(-1, 3, IMAGE_SIDE, IMAGE_SIDE)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1))


def _checked_labels(path: Path, labels: np.ndarray, count: int, classes: int) -> Labels:
    if labels.dtype.kind not in "iu" or labels.shape != (count,):
        raise DataError(f"{path} does not hold {count} integer labels")
    if len(wrong := np.flatnonzero((labels < 0) | (labels >= classes))):
        raise DataError(
            f"{path}: image {wrong[0]} has label {labels[wrong[0]]}, allowed are 0 to "
            f"{classes - 1}; {len(wrong)} of {count} labels are out of range"
        )
    return labels.astype(np.int64)


def _binary_batch(path: Path, content: bytes, count: int, classes: int) -> tuple[Pixels, Labels]:
    """Records of a label byte and 3,072 pixel bytes: red, green, blue, each row by row.

    In CIFAR-100 the coarse label comes before the fine one.
    """
    first = 2 if classes == CLASSES["cifar100"] else 1
    size = count * (first + IMAGE_BYTES)
    if len(content) != size:
        raise DataError(f"{path} has {len(content)} bytes, not {size}: {count} images")
    records = np.frombuffer(content, np.uint8).reshape(count, first + IMAGE_BYTES)
    labels = _checked_labels(path, records[:, first - 1], count, classes)
    return _planes_last(records[:, first:]), labels


def _binary_names(_: Path, content: bytes) -> list[str]:
    """A name in each line."""
    return content.decode(errors="replace").split()


class _ArraysOnly(pickle.Unpickler):
    """Admits what NumPy arrays are rebuilt from; any other name in the pickle is an error."""

    _reconstruct = np.empty(0).__reduce__()[0]  # its module's name differs between NumPy 1 and 2
    _admitted: dict[tuple[str, str], Any] = {  # noqa: RUF012
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        """Called for every name in the pickle."""
        if (module, name) not in self._admitted:
            raise DataError(f"its pickle asks for {module}.{name}, which CIFAR does not need")
        return self._admitted[module, name]


def _unpickled(path: Path, content: bytes, *keys: bytes) -> list[np.ndarray]:
    """The values of a pickled dict."""
    try:
        values = _ArraysOnly(io.BytesIO(content), encoding="bytes").load()
        return [np.asarray(values[key]) for key in keys]
    except DataError as error:
        raise DataError(f"{path} is refused: {error}") from error
    except Exception as error:  # a damaged pickle can raise almost anything
        raise DataError(f"{path} is not a file of CIFAR, or is damaged: {error!r}") from error


def _python_batch(path: Path, content: bytes, count: int, classes: int) -> tuple[Pixels, Labels]:
    """A pickled dict of pixel rows and labels."""
    key = b"fine_labels" if classes == CLASSES["cifar100"] else b"labels"
    pixels, labels = _unpickled(path, content, b"data", key)
    if pixels.dtype != np.uint8 or pixels.shape != (count, IMAGE_BYTES):
        raise DataError(f"{path} does not hold {count} images of {IMAGE_BYTES} bytes")
    return _planes_last(pixels), _checked_labels(path, labels, count, classes)


def _python_names(path: Path, content: bytes) -> list[str]:
    """A pickled dict with a list of names."""
    (names,) = _unpickled(path, content, b"fine_label_names")
    known = names.dtype.kind == "S"
    return [name.decode(errors="replace") for name in names.ravel()] if known else []


@dataclass(frozen=True)
class Version:
    """One of the official versions: its archive, and what is in it."""

    source: Source
    name: str
    archive: str
    sha256: str
    folder: str
    batches: tuple[str, ...]
    """The last one holds the test images."""
    parse: Callable[[Path, bytes, int, int], tuple[Pixels, Labels]]
    """Path for messages, content, and number of images and of classes of a batch to its pixels and
    labels."""
    names: str = ""
    """The file of the class names."""
    parse_names: Callable[[Path, bytes], list[str]] = _binary_names


BINARY = Version(
    source="cifar10",
    name="binary archive",
    archive="cifar-10-binary.tar.gz",
    sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    folder="cifar-10-batches-bin",
    batches=tuple(f"{name}.bin" for name in BATCHES),
    parse=_binary_batch,
)
PYTHON = Version(
    source="cifar10",
    name="Python archive",
    archive="cifar-10-python.tar.gz",
    sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    folder="cifar-10-batches-py",
    batches=BATCHES,
    parse=_python_batch,
)
BINARY_100 = Version(
    source="cifar100",
    name="binary archive",
    archive="cifar-100-binary.tar.gz",
    sha256="58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    folder="cifar-100-binary",
    batches=("train.bin", "test.bin"),
    parse=_binary_batch,
    names="fine_label_names.txt",
)
PYTHON_100 = Version(
    source="cifar100",
    name="Python archive",
    archive="cifar-100-python.tar.gz",
    sha256="85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
    folder="cifar-100-python",
    batches=("train", "test"),
    parse=_python_batch,
    names="meta",
    parse_names=_python_names,
)
VERSIONS = (BINARY, PYTHON, BINARY_100, PYTHON_100)


def _from_archive(archive: Path, version: Version) -> Dataset:
    if (found := file_sha256(archive)) != version.sha256:
        raise DataError(
            f"{archive} is damaged or not the published file: its SHA-256 is {found}, not "
            f"{version.sha256}; download it again"
        )
    wanted = [f"{version.folder}/{name}" for name in _files(version)]
    with tarfile.open(archive, "r:gz") as tar:
        files = ((of.name, tar.extractfile(of)) for of in tar if of.name in wanted)
        contents = {name: file.read() for name, file in files if file}
    return _decoded(version, {archive / name: contents[name] for name in wanted}, version.name)


def _from_files(folder: Path, version: Version) -> Dataset:
    paths = [folder / name for name in _files(version)]
    if missing := [str(path) for path in paths if not path.is_file()]:
        raise DataError(f"{', '.join(missing)} is missing")
    contents = {path: path.read_bytes() for path in paths}
    return _decoded(version, contents, f"unpacked {version.name}")


def _files(version: Version) -> tuple[str, ...]:
    return (*version.batches, version.names) if version.names else version.batches


def _decoded(version: Version, contents: dict[Path, bytes], layout: str) -> Dataset:
    classes, names = CLASSES[version.source], tuple(CIFAR10_NAMES)
    if version.names:
        path, content = contents.popitem()
        names = tuple(version.parse_names(path, content))
        if len(set(names)) != classes:
            raise DataError(f"{path} does not hold the names of {classes} classes")
    parts = len(contents) - 1
    counts = [TRAIN // parts] * parts + [TEST]
    *train, test = (
        version.parse(path, content, count, classes)
        for (path, content), count in zip(contents.items(), counts, strict=True)
    )
    pixels, labels = zip(*train, strict=True)
    return Dataset(
        source=version.source,
        description=f"{TITLES[version.source]} ({layout})",
        class_names=names,
        train_pixels=np.concatenate(pixels),
        train_labels=np.concatenate(labels),
        test_pixels=test[0],
        test_labels=test[1],
    )


def _from_parquet(folder: Path) -> Dataset:
    train_path, test_path = folder / cifar_parquet.TRAIN_FILE, folder / cifar_parquet.TEST_FILE
    train_pixels, train_labels, train_is_jpeg = cifar_parquet.read_file(train_path, TRAIN)
    test_pixels, test_labels, test_is_jpeg = cifar_parquet.read_file(test_path, TEST)
    is_jpeg = train_is_jpeg or test_is_jpeg
    return Dataset(
        source="cifar10",
        description=f"CIFAR-10{', JPEG copy' if is_jpeg else ''} (Parquet files)",
        class_names=CIFAR10_NAMES,
        train_pixels=train_pixels,
        train_labels=_checked_labels(train_path, train_labels, TRAIN, 10),
        test_pixels=test_pixels,
        test_labels=_checked_labels(test_path, test_labels, TEST, 10),
        notice=_JPEG_NOTICE if is_jpeg else None,
    )


def read(folder: Path, source: Source = "cifar10") -> Dataset:
    """Read the first layout found in `folder`: archives, then unpacked batches, then Parquet.

    Raises:
        DataError: no layout is there, or the one found is damaged; names the file and, for a
            single damaged image, its index in that file.
    """
    title, versions = TITLES[source], [each for each in VERSIONS if each.source == source]
    try:
        if not folder.is_dir():
            what = "is a file" if folder.exists() else "does not exist"
            raise DataError(f"--data.dir {folder} {what}; give the folder that holds {title}")
        for version in versions:
            if (archive := folder / version.archive).is_file():
                return _from_archive(archive, version)
        for version in versions:
            for place in (folder / version.folder, folder):
                if (place / version.batches[0]).is_file():
                    return _from_files(place, version)
        for place in (folder / cifar_parquet.FOLDER, folder):
            if source == "cifar10" and (place / cifar_parquet.TRAIN_FILE).is_file():
                return _from_parquet(place)
        held = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
    except OSError as error:
        raise DataError(f"cannot read {folder}: {error.strerror or error}") from error
    unpacked = [f"{version.folder}/{version.batches[0]}" for version in versions]
    unpacked += (
        [f"{cifar_parquet.FOLDER}/{cifar_parquet.TRAIN_FILE}"] if source == "cifar10" else []
    )
    archives = ", ".join(version.archive for version in versions)
    own = "; for images of your own, in a folder for each class, add --data.source folder"
    classes = [path for path in folder.iterdir() if path.is_dir() and path.name[0] != "."]
    raise DataError(
        f"no {title} in {folder}: looked for {archives}, and {', '.join(unpacked)} with or without "
        f"their folder; found {held}" + (own if len(classes) >= 2 else "")
    )
