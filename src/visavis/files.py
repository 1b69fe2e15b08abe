"""Files: reading what may be anything, atomic writing, a lock on a folder, checksums."""

import contextlib
import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from visavis.errors import EnvironmentFault

log = logging.getLogger(__name__)

TEMPORARY = ".visavis.tmp"
"""How the names of unfinished files end: no other program's do, so that they can be deleted."""


def require_file(path: Path) -> None:
    """Raise FileNotFoundError if there is nothing, and ValueError if it is not a regular file.

    To read a device or a pipe could wait without end.
    """
    if not path.is_file():
        raise ValueError("it is not a file") if path.exists() else FileNotFoundError(path)


def read_bytes(path: Path, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes.

    Raises:
        FileNotFoundError: there is none.
        OSError: it cannot be read.
        ValueError: it is larger, or not a regular file.
    """
    require_file(path)
    if (size := path.stat().st_size) > limit:
        raise ValueError(f"it has {size:,} bytes, more than the {limit:,} that are read")
    return path.read_bytes()


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` atomically: `path` holds either its earlier content or all of the new."""
    with replacing(path, needed=len(content)) as temporary:
        temporary.write_bytes(content)


@contextlib.contextmanager
def replacing(path: Path, *, needed: int = 0) -> Iterator[Path]:
    """Yield a temporary path in `path`'s folder; on success, sync it and rename it to `path`.

    The folder is not created: if it was removed while a stage ran, half of it would come back.

    Args:
        needed: bytes, for the message if the disk is full; 0 if they are not known.

    Raises:
        EnvironmentFault: the folder is gone or cannot be written, or the disk is full.
    """
    temporary = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=TEMPORARY)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # mkstemp makes it private
        temporary.replace(path)
    except OSError as error:
        reason = f"{error.strerror or error}{free_space(path.parent, needed)}"
        if not path.parent.is_dir():
            reason = f"the folder {path.parent} was removed or renamed; run the command again"
        raise EnvironmentFault(f"cannot write {path}: {reason}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def free_space(folder: Path, needed: int = 0) -> str:
    """The free space of a folder's disk, for an error message; empty if it is unknown."""
    try:
        free = f"{shutil.disk_usage(folder).free / 1e6:,.1f} MB free there"
    except OSError:
        return ""
    return f" ({needed / 1e6:,.1f} MB needed, {free})" if needed else f" ({free})"


def bytes_sha256(content: bytes) -> str:
    """SHA-256, hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _lock_file(folder: Path) -> TextIO:
    path = folder / ".lock"
    # Whoever made the folder may have made the lock a link, to have its target overwritten, or a
    # FIFO, which would wait for a reader.
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise EnvironmentFault(f"cannot lock {folder}: {path} is not a file; delete it")
        return os.fdopen(os.open(path, flags, 0o666), "a+")
    except OSError as error:
        raise EnvironmentFault(f"cannot write to {folder}: {error.strerror}") from error


@contextlib.contextmanager
def lock(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Lock `folder` for this process. The system releases the lock when the process dies.

    Args:
        wait: for a process that holds the lock, instead of raising.

    Raises:
        EnvironmentFault: another process holds the lock, or the folder cannot be written.
    """
    import fcntl

    with _lock_file(folder) as file:
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
        # Of a process that was killed: a living writer would hold the lock.
        for leftover in folder.glob(f".*{TEMPORARY}"):
            leftover.unlink(missing_ok=True)
        yield
