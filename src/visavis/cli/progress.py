"""What the engines of a study say of a training, which they read in its run folder."""

import contextlib
import logging
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from visavis import run_folder
from visavis.errors import CheckpointError

log = logging.getLogger(__name__)


def _starts(folder: Path) -> int:
    """How often an engine has started the command, which job.log shows."""
    with contextlib.suppress(OSError), (folder / run_folder.JOB_LOG).open("rb") as lines:
        return sum(line.startswith(b"$ ") for line in lines)
    return 0


def _history(folder: Path) -> list[dict[str, Any]]:
    """The finished epochs; none if they cannot be read, which is the training's to report."""
    with contextlib.suppress(CheckpointError, OSError):
        return run_folder.read_history(folder)
    return []


@dataclass
class Progress:
    """A training that is watched from here on: what earlier commands did is not reported."""

    folder: Path
    before: int = field(init=False)
    starts: int = field(init=False)
    epochs: int = field(init=False)

    def __post_init__(self) -> None:
        self.before = self.starts = _starts(self.folder)
        self.epochs = len(_history(self.folder))

    @property
    def label(self) -> str:
        return f"{self.folder.parent.name}/{self.folder.name}"

    def report(self) -> None:
        """One line for each start, and for each epoch, since the last time."""
        starts = _starts(self.folder)
        for number in range(self.starts, starts):
            again = " again: its worker or machine was lost" if number > self.before else ""
            log.info(f"{self.label}: started{again}")
        self.starts = max(self.starts, starts)
        rows = _history(self.folder)
        for row in rows[self.epochs :]:
            accuracy = 100 * row["val_accuracy"]
            log.info(f"{self.label}: epoch {row['epoch']}, validation accuracy {accuracy:.1f} %")
        self.epochs = max(self.epochs, len(rows))


def failure(folder: Path, code: int) -> str | None:
    """Why the command of a training ended without success, in a sentence; None after success.

    Args:
        code: its exit code, negative for a signal as in `subprocess`.
    """
    if code < 0:
        memory = "; memory may have run out" if code == -signal.SIGKILL else ""
        known = {number.value: number.name for number in signal.Signals}
        return f"ended by {known.get(-code, f'signal {-code}')}{memory}"
    if not code:
        return None
    try:
        lines = (folder / run_folder.JOB_LOG).read_text(errors="replace").splitlines()
    except OSError:
        lines = ["its log is gone"]
    last = lines[-1] if lines else "its log is empty"
    return f"{last.removeprefix('visavis: ')} (exit code {code})"
