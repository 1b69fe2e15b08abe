"""What runs on the machine of a training, as a Ray task; nothing here imports Ray."""

import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from visavis.cli import local_engine
from visavis.files import lock

STOPPED = (-signal.SIGTERM, -signal.SIGINT, 128 + signal.SIGTERM, 128 + signal.SIGINT)
"""How a command ends that was told to stop, as when its machine is drained."""


class StoppedThere(Exception):  # noqa: N818 - no error: Ray runs the task again
    """A command was told to stop, but not by this study."""


class Task(NamedTuple):
    """What the machine of a training has to know."""

    out: Path
    folder: Path
    """The run folder, in `out`."""
    named: str
    """How the arguments name it."""
    arguments: Sequence[str]
    directory: Path
    threads: int
    marker: str
    files: bytes | None
    """study.json, and what there is of the run folder; None if all machines see them."""


class Outcome(NamedTuple):
    """How a command ended."""

    code: int
    machine: str
    files: bytes | None
    """The run folder, if the machine does not share it."""


def train(task: Task) -> Outcome:
    """Run the command of a training until it ends.

    Raises:
        StoppedThere: the command was told to stop.
    """
    here = task.files is None or (task.out / task.marker).exists()
    scratch = Path(tempfile.gettempdir(), f"{task.marker}-{'-'.join(task.folder.parts[-2:])}")
    if task.files is not None and not here and not scratch.exists():  # of an attempt before
        unpack(task.files, scratch)
    folder = task.folder if here else scratch / task.folder.relative_to(task.out)
    with lock(folder, wait=True):
        pass  # an attempt on a machine that was lost may still be ending
    words = [str(folder) if word == task.named else word for word in task.arguments]
    code = _run([sys.executable, *words], folder, task)
    machine = socket.gethostname()
    if code in STOPPED:
        raise StoppedThere(f"stopped on {machine}, not by this study")
    if here:
        return Outcome(code, machine, None)
    files = packed(folder, ["."])
    shutil.rmtree(scratch)
    return Outcome(code, machine, files)


def _run(command: Sequence[str], folder: Path, task: Task) -> int:
    """Run a command, and stop it if the task is cancelled; its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # where it is ignored, exit codes are lost
    process = local_engine.launch(
        folder,
        command,
        {"OMP_NUM_THREADS": str(task.threads), local_engine.PARENT: str(os.getpid())},
        own_session=False,  # in the process group of the worker, which Ray ends with it
        directory=task.directory if task.directory.is_dir() else None,
    )
    try:
        while process.poll() is None:  # wait() would not notice that the task is cancelled
            time.sleep(local_engine.POLL_SECONDS)
    finally:
        process.terminate()
        try:
            process.wait(local_engine.GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.returncode


def packed(root: Path, names: Sequence[str]) -> bytes:
    """Those of the files and folders that exist, as a tar file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in names:
            if (root / name).exists():
                tar.add(root / name, arcname=name)
    return buffer.getvalue()


def unpack(files: bytes, folder: Path) -> None:
    """Replace a folder by one with these files; nothing outside it is written."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as temporary:
        new, old = Path(temporary, "new"), Path(temporary, "old")
        new.mkdir()
        with tarfile.open(fileobj=io.BytesIO(files)) as tar:
            tar.extractall(new, filter="data")
        if folder.exists():
            folder.rename(old)
        new.rename(folder)


def look(marker: Path) -> tuple[bool, bool]:
    """Whether a machine sees the folder of the study, and lets only those in who have a token."""
    return marker.exists(), os.environ.get("RAY_AUTH_MODE") == "token"
