"""The run folder: what its files are called, and reading and writing them whole or not at all."""

import contextlib
import hashlib
import io
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from visavis.errors import CheckpointError, EnvironmentFault

log = logging.getLogger(__name__)

SCHEMA = 10

# In an experiment folder.
EXPERIMENT = "experiment.json"
CROSS_MODEL = "cross_model.json"
COMPARISON = "comparison.json"
REPORT = "report.html"

SEED = "seed-{}"
"""Folder of another training of both models, in an experiment folder."""

# In a model's run folder, in the order in which they come to be.
CONFIG = "config.json"
PROVENANCE = "provenance.json"
DATA = "data.json"
SPLIT = "split.npz"
HISTORY = "history.jsonl"
SNAPSHOTS = "snapshots.npz"
RESUME = "resume.ckpt"
BEST = "best.ckpt"
WEIGHTS = "weights.safetensors"
TRAINING = "training.json"
PREDICTIONS = "predictions.npz"
EVALUATION = "evaluation.json"
HEATMAPS = "heatmaps.npz"
REMOVAL = "removal.npz"
EXPLANATIONS = "explanations.json"


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` so that `path` holds either what it held before or all of `content`."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path in `path`'s folder; on success, sync it and rename it to `path`.

    Raises:
        EnvironmentFault: the folder cannot be written, or the disk is full.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # mkstemp makes it private
        temporary.replace(path)
    except OSError as error:
        raise EnvironmentFault(
            f"cannot write {path}: {error.strerror or error}{_free(path.parent)}"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _free(folder: Path) -> str:
    try:
        return f" ({shutil.disk_usage(folder).free / 1e6:,.0f} MB free)"
    except OSError:
        return ""


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write `values` with the schema version in front. NaN and infinity are refused."""
    text = json.dumps({"schema": SCHEMA, **values}, indent=2, allow_nan=False, ensure_ascii=False)
    write_bytes(path, (text + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read what `write_json` wrote, without the schema version.

    Raises:
        CheckpointError: missing, not JSON, or of another schema version.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        schema = values.pop("schema")
    except FileNotFoundError:
        raise CheckpointError(
            f"{path} is missing: the stage that writes it has not finished"
        ) from None
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is not a file that visavis wrote: {error}") from error
    if schema != SCHEMA:
        raise CheckpointError(
            f"{path} has schema {schema!r}; this version of visavis reads {SCHEMA}: read it with "
            "the version that wrote it, or make it anew in another folder"
        )
    return values


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Write a compressed .npz."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type] # its allow_pickle is a bool
    write_bytes(path, buffer.getvalue())


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read an .npz without admitting pickled objects.

    Raises:
        CheckpointError: missing or damaged.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return dict(archive)
    except FileNotFoundError:
        raise CheckpointError(
            f"{path} is missing: the stage that writes it has not finished"
        ) from None
    except Exception as error:  # zipfile, zlib and numpy each have their own
        raise CheckpointError(f"{path} is damaged: {error}") from error


def read_history(folder: Path) -> list[dict[str, Any]]:
    """The epochs of a training, first to last; empty if it has not begun."""
    path = folder / HISTORY
    if not path.exists():
        return []
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error


def write_history(folder: Path, epochs: list[dict[str, Any]]) -> None:
    """Write all epochs, one JSON object per line."""
    lines = [json.dumps(epoch, allow_nan=False) + "\n" for epoch in epochs]
    write_bytes(folder / HISTORY, "".join(lines).encode())


def bytes_sha256(content: bytes) -> str:
    """SHA-256, hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def lock(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold `folder` for this process. The system lets go of it when the process dies.

    Args:
        wait: until a process that holds it lets go, instead of raising.

    Raises:
        EnvironmentFault: another process holds it, or the folder cannot be written.
    """
    import fcntl

    path = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except OSError as error:
        raise EnvironmentFault(f"cannot write to {folder}: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            holder = f"{folder} is being written by another process (pid {file.read().strip()})"
            if not wait:
                raise EnvironmentFault(f"{holder}; wait for it to end") from None
            log.info("%s; waiting for it to end", holder)
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        for leftover in folder.glob(".*.tmp"):  # of a writer that was killed
            leftover.unlink(missing_ok=True)
        yield
