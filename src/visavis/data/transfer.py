"""Bring one file from one address, over connections that may break, and check that it is whole.

Until its SHA-256 is found right, a file is called `.part`; a later attempt goes on with it, from
whichever host has the same file.
"""

import contextlib
import http.client
import logging
import shutil
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from tqdm import tqdm

from visavis.errors import EnvironmentFault
from visavis.run_folder import file_sha256

log = logging.getLogger(__name__)

STALL_SECONDS = 20.0
"""How long a transfer may stand still."""

WATCH_SECONDS = 20.0
"""How long a host may stay below LEAST_SPEED before the next one is tried."""

LEAST_SPEED = 200_000
"""Bytes per second."""

CONNECTIONS = 5
"""To one host for one file, each going on where the last one broke."""

BLOCK = 1 << 16


@dataclass(frozen=True)
class File:
    """A published file: its name in the cache, and what makes it that file."""

    name: str
    size: int
    sha256: str


class AttemptError(Exception):
    """One attempt at one host that did not work, in words."""


class TooSlowError(AttemptError):
    """A host that is left for a faster one."""

    def __init__(self, speed: float) -> None:
        super().__init__(f"slower than {LEAST_SPEED / 1e3:.0f} kB/s ({speed / 1e3:.0f} kB/s)")
        self.speed = speed


def open_url(
    url: str, *, timeout: float, method: str = "GET", start: int = 0
) -> http.client.HTTPResponse:
    """Ask for what `url` holds from byte `start` on; a host may ignore `start`."""
    headers = {"User-Agent": "visavis", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    request = urllib.request.Request(url, headers=headers, method=method)
    return urllib.request.urlopen(request, timeout=timeout)


def _check_answer(response: http.client.HTTPResponse, expected: int) -> None:
    """Refuse an answer that shows before its body that it is not the file."""
    if response.headers.get_content_type() == "text/html":
        raise AttemptError("it sent a web page instead of the file")
    length = response.headers.get("Content-Length", str(expected))
    if length != str(expected):
        raise AttemptError(f"it announced {length} bytes instead of {expected}")


@contextlib.contextmanager
def _blaming_disk(path: Path) -> Iterator[None]:
    """Tell a fault of the disk from one of the network: both are OSErrors."""
    try:
        yield
    except OSError as error:
        raise EnvironmentFault(f"cannot write {path}: {error.strerror or error}") from error


def _need_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise EnvironmentFault(
            f"{folder} has {free / 1e6:.0f} MB free, the download needs {needed / 1e6:.0f} MB; "
            "make room, or set XDG_CACHE_HOME to a folder on another disk"
        )


def is_whole(path: Path, file: File) -> bool:
    """Whether `path` is `file`, unchanged."""
    return size_of(path) == file.size and file_sha256(path) == file.sha256


def size_of(path: Path) -> int:
    """Bytes in a file; 0 if there is none."""
    return path.stat().st_size if path.exists() else 0


def reason(error: Exception) -> str:
    """What went wrong with a connection, in a few words."""
    cause = getattr(error, "reason", error)  # a URLError wraps the fault itself
    if isinstance(cause, TimeoutError):
        return "it does not answer"
    if isinstance(cause, socket.gaierror):
        return "its name cannot be resolved"
    return str(getattr(cause, "strerror", None) or cause or type(cause).__name__)


def _copy(
    response: http.client.HTTPResponse, output: BinaryIO, file: File, start: int, *, watch: bool
) -> None:
    received, mark, marked_at = start, start, time.monotonic()
    with tqdm(
        desc=file.name, total=file.size, initial=start, unit="B", unit_scale=True, disable=None
    ) as bar:
        while received < file.size and (block := response.read1(min(BLOCK, file.size - received))):
            with _blaming_disk(Path(output.name)):
                output.write(block)
                output.flush()
            received += len(block)
            bar.update(len(block))
            waited = time.monotonic() - marked_at
            if waited >= WATCH_SECONDS:
                if bar.disable:  # no terminal, so no bar
                    log.info("%.0f of %.0f MB", received / 1e6, file.size / 1e6)
                if watch and (received - mark) / waited < LEAST_SPEED:
                    raise TooSlowError((received - mark) / waited)
                mark, marked_at = received, time.monotonic()


def _receive(url: str, file: File, part: Path, *, watch: bool) -> None:
    """One connection: add to `part` what it brings, up to the file's size."""
    before = size_of(part)
    try:
        with open_url(url, start=before, timeout=STALL_SECONDS) as response:
            start = before if response.status == 206 else 0  # 200: the file from its beginning
            _check_answer(response, file.size - start)
            with _blaming_disk(part):
                _need_space(part.parent, file.size - start)
                output = part.open("r+b" if start else "wb")
            with output:
                output.seek(start)
                output.truncate()
                _copy(response, output, file, start, watch=watch)
    except urllib.error.HTTPError as error:
        raise AttemptError(f"it answers {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        if size_of(part) <= before:
            raise AttemptError(reason(error)) from error
        log.info("the connection to %s broke (%s)", urlsplit(url).netloc, reason(error))
    if size_of(part) <= before:
        raise AttemptError(f"the connection ended at {size_of(part)} of {file.size} bytes")


def fetch_file(url: str, file: File, folder: Path, *, watch: bool) -> None:
    """Bring `file` into `folder`, going on with the part that is already there.

    With `watch`, a slow host is given up.

    Raises:
        AttemptError: the host did not give the file; what it gave stays as the part.
        EnvironmentFault: the disk is full or cannot be written.
    """
    part = folder / f"{file.name}.part"
    began_with = size_of(part)
    for _ in range(CONNECTIONS):
        if size_of(part) < file.size:
            _receive(url, file, part, watch=watch)
    if size_of(part) < file.size:
        raise AttemptError(f"its connections broke {CONNECTIONS} times")
    if file_sha256(part) == file.sha256:
        part.replace(folder / file.name)
        return
    part.unlink()
    if not began_with:
        raise AttemptError("what it sent is not the published file (its SHA-256 differs)")
    log.info("what an earlier attempt left of %s was damaged; starting again", file.name)
    fetch_file(url, file, folder, watch=watch)
