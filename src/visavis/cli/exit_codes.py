"""Maps exceptions to a message and an exit code, and stops cleanly on Ctrl-C and SIGTERM."""

import contextlib
import errno
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from visavis import registry
from visavis.errors import EnvironmentFault, ModelError, VisavisError
from visavis.files import free_space
from visavis.training.memory import out_of_memory

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
NO_ACCESS = (errno.EACCES, errno.EPERM, errno.EROFS)
NO_PATH = (errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EIO, errno.ESTALE)


class Stopped(BaseException):
    """A signal asked to stop. Not an Exception, so that no `except Exception` swallows it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Stop cleanly on Ctrl-C or SIGTERM: a file being written is finished or removed.

    A second signal exits at once, and so does one that arrives where Python would only print the
    exception, in a destructor.
    """
    received: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if received:
            os._exit(128 + number)
        received.append(number)
        raise Stopped(number)

    def unraisable(found: Any) -> None:
        if isinstance(found.exc_value, Stopped):
            os._exit(found.exc_value.exit_code)
        sys.__unraisablehook__(found)

    hook, sys.unraisablehook = sys.unraisablehook, unraisable
    before: dict[int, Any] = {n: signal.signal(n, stop) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def message_and_exit_code(error: BaseException) -> tuple[str, int]:
    """One sentence about `error`, and the exit code of the process."""
    if isinstance(error, VisavisError):
        return str(error), error.exit_code
    if isinstance(error, KeyboardInterrupt):
        error = Stopped(signal.SIGINT)
    if isinstance(error, Stopped):
        return "stopped; repeat the command to resume from the last finished epoch", error.exit_code
    if lacking := _lacking(error):
        return lacking, EnvironmentFault.exit_code
    if failure := registry.failure(error):
        return failure, ModelError.exit_code
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return f"this is a bug in visavis ({what}); run again with --debug to see where", 1


def _lacking(error: BaseException) -> str | None:
    """What the machine lacks, if that is why a library raised `error`."""
    if out_of_memory(error):
        return (
            "not enough memory; close other programs and run the same command again; it resumes "
            "where it stopped"
        )
    if isinstance(error, OSError):
        place = error.filename or "a file"
        if error.errno in NO_ACCESS:
            return f"no permission for {place}; use another folder, or change its owner"
        if error.errno in NO_SPACE:
            free = free_space(Path(os.path.abspath(error.filename or "")).parent)
            return (
                f"the disk is full, so {place} could not be written{free}; make room and run the "
                "same command again"
            )
        if error.errno in NO_PATH:
            return f"{place} cannot be used ({error.strerror}); give another path"
    if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("visavis"):
        return (
            f"the package {error.name} is missing; run make setup, or pip install . in the project "
            "folder; `visavis doctor` lists all that is missing"
        )
    if "torchvision::nms" in str(error):
        return "torch and torchvision are of different releases; run `visavis doctor` for a fix"
    unloadable = isinstance(error, OSError) and error.errno is None and ".so" in str(error)
    if unloadable or isinstance(error, ImportError):  # of the system, or of another release
        what = " ".join(str(error).split())
        return f"a library cannot be loaded ({what}); run `visavis doctor` for a fix"
    return None
