"""Maps exceptions to a message and an exit code, and stops cleanly on Ctrl-C and SIGTERM."""

import contextlib
import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from visavis.errors import EnvironmentFault, VisavisError
from visavis.files import free_space

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
NO_ACCESS = (errno.EACCES, errno.EPERM, errno.EROFS)


class Stopped(BaseException):
    """A signal asked to stop. Not an Exception, so that no `except Exception` swallows it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Stop cleanly on Ctrl-C or SIGTERM: a file being written is finished or removed.

    A second signal exits at once.
    """
    received: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if received:
            os._exit(128 + number)
        received.append(number)
        raise Stopped(number)

    before: dict[int, Any] = {n: signal.signal(n, stop) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
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
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return f"this is a bug in visavis ({what}); run again with --debug to see where", 1


def _lacking(error: BaseException) -> str | None:
    """What the machine lacks, if that is why a library raised `error`."""
    if _out_of_memory(error):
        return (
            "not enough memory; use smaller batches with --cnn.optim.batch-size and "
            "--vit.optim.batch-size, or close other programs"
        )
    if isinstance(error, OSError):
        place = error.filename or "a file"
        if error.errno in NO_ACCESS:
            return f"no permission for {place}; use another folder, or change its owner"
        if error.errno in NO_SPACE:
            free = free_space(Path(error.filename or "").absolute().parent)
            return (
                f"the disk is full, so {place} could not be written{free}; make room and run the "
                "same command again"
            )
    if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("visavis"):
        return (
            f"the package {error.name} is missing; run make setup, or pip install . in the project "
            "folder"
        )
    if "torchvision::nms" in str(error):
        return "torch and torchvision are of different releases; run `visavis doctor` for a fix"
    return None


def _out_of_memory(error: BaseException) -> bool:
    """Python, CUDA and torch's CPU allocator each raise an error of their own."""
    names = {cls.__name__ for cls in type(error).__mro__}
    return bool(names & {"MemoryError", "OutOfMemoryError"}) or (
        isinstance(error, RuntimeError) and "allocate memory" in str(error)
    )
