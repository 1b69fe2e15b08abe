"""Checkpoints: how they are written, what a training can be resumed from, and what fits a model."""

import contextlib
import io
import logging
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from visavis import run_folder
from visavis.errors import CheckpointError, EnvironmentFault
from visavis.files import require_file, write_bytes

log = logging.getLogger(__name__)

FROM_THE_START = (
    f"delete {run_folder.RESUME} and {run_folder.BEST} in that folder to train from the start"
)
"""How to do without a checkpoint."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's own writer is not atomic where its temporary folder is another file system.

    The resume file of the epoch before is kept, for when the disk damages the newest.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        content = io.BytesIO()  # torch's own errors do not name a full disk
        torch.save(checkpoint, content)
        path = Path(path)
        if path.name == run_folder.RESUME and path.exists():
            previous = path.with_name(run_folder.PREVIOUS)
            previous.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # a file system without links keeps one
                os.link(path, previous)
        write_bytes(path, content.getvalue())


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read what `AtomicCheckpointIO` wrote, after checking its checksums, as torch does not.

    Raises:
        CheckpointError: missing, damaged, or no checkpoint of a model.
        EnvironmentFault: it may not be read.
    """
    try:
        require_file(path)
        with zipfile.ZipFile(path) as archive:
            if (name := archive.testzip()) is not None:
                raise zipfile.BadZipFile(f"wrong checksum of {name}")
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        kinds = {"epoch": int, "state_dict": dict}
        if not all(isinstance(checkpoint[key], kind) for key, kind in kinds.items()):
            raise TypeError
    except (KeyError, TypeError, IndexError):
        raise CheckpointError(f"{path} holds no model; {FROM_THE_START}") from None
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing; {FROM_THE_START}") from None
    except OSError as error:
        raise EnvironmentFault(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RuntimeError, zipfile.BadZipFile, pickle.UnpicklingError) as error:
        what = type(error).__name__
        raise CheckpointError(f"{path} is damaged ({what}); {FROM_THE_START}") from error
    return checkpoint


def check_resumable(folder: Path) -> None:
    """Check that the training in `folder` can go on as if it had not been interrupted.

    If the newest resume file is damaged, the one before takes its place.

    Raises:
        CheckpointError: a checkpoint is missing, damaged or incomplete, or the history lacks an
            epoch before it.
    """
    read_checkpoint(folder / run_folder.BEST)
    newest, previous = folder / run_folder.RESUME, folder / run_folder.PREVIOUS
    try:
        epoch = _resume_epoch(newest)
    except CheckpointError as error:
        if not previous.exists():
            raise
        epoch = _resume_epoch(previous)
        log.warning("%s; going on from %s, an epoch earlier", error, previous)
        previous.replace(newest)
    found = [row["epoch"] for row in run_folder.read_history(folder)]
    if not 0 <= epoch < len(found) or found[: epoch + 1] != list(range(1, epoch + 2)):
        raise CheckpointError(
            f"{folder / run_folder.HISTORY} does not hold the {epoch + 1} epochs that were "
            f"finished; restore it, or {FROM_THE_START}"
        )


def _resume_epoch(path: Path) -> int:
    """The epoch after which a resume file was written, counted from 0."""
    checkpoint = read_checkpoint(path)
    # Lightning restores what it finds and is silent about an empty state.
    try:
        complete = bool(
            any(optimizer["state"] for optimizer in checkpoint["optimizer_states"])
            and all(checkpoint["callbacks"].values())
            and checkpoint["callbacks"]
            and checkpoint["lr_schedulers"]
            and checkpoint["loops"]["fit_loop"]
        )
    except Exception:  # of what may be a tensor in place of a dictionary
        complete = False
    if not complete:
        raise CheckpointError(
            f"{path} lacks the state of the optimiser or of its schedule, so the training would "
            f"end with other weights; {FROM_THE_START}"
        )
    return int(checkpoint["epoch"])


def check_fits(module: Any, path: Path) -> None:
    """Check that a checkpoint holds the weights of `module`, whose code is the user's to change.

    Raises:
        CheckpointError: it holds others, or the state of an optimiser of others.
    """
    checkpoint = read_checkpoint(path)
    found = {name: _shape(of) for name, of in checkpoint["state_dict"].items()}
    wanted = {name: _shape(of) for name, of in module.state_dict().items()}
    if differing := sorted(
        (n for n in found.keys() | wanted.keys() if found.get(n) != wanted.get(n)), key=str
    ):
        raise CheckpointError(
            f"{path} holds other weights than the model has ({differing[0]} differs), whose code "
            f"was changed since the training began; restore the code, or {FROM_THE_START}"
        )
    if not all(torch.isfinite(of).all() for of in checkpoint["state_dict"].values()):
        raise CheckpointError(f"{path} holds NaN or infinity; {FROM_THE_START}")
    if "optimizer_states" not in checkpoint:
        return
    made = module.configure_optimizers()
    try:
        made["optimizer"].load_state_dict(checkpoint["optimizer_states"][0])
        made["lr_scheduler"]["scheduler"].load_state_dict(checkpoint["lr_schedulers"][0])
        fits = all(
            _shape(value) in (_shape(parameter), _shape(torch.tensor(0.0)))
            for parameter, state in made["optimizer"].state.items()
            for value in state.values()
        )
    except Exception:  # what is damaged can raise almost anything
        fits = False
    if not fits:
        raise CheckpointError(
            f"{path} holds the state of another optimiser or schedule; {FROM_THE_START}"
        )


def _shape(value: Any) -> Any:
    return (value.shape, value.dtype) if isinstance(value, torch.Tensor) else None


class Checkpoint(ModelCheckpoint):
    """Lightning's, which would forget the best epoch so far if the folder was moved."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        path = str(Path(str(self.dirpath)) / f"{self.filename}{self.FILE_EXTENSION}")
        here = {
            "dirpath": self.dirpath,
            "best_model_path": path,
            "kth_best_model_path": path,
            "best_k_models": dict.fromkeys([path], state_dict["best_model_score"]),
        }
        super().load_state_dict({**state_dict, **here})


def checkpoints(folder: Path) -> list[Checkpoint]:
    """Of the epoch with the lowest validation loss, and of the last one, to resume from."""
    common: dict[str, Any] = {"dirpath": folder, "enable_version_counter": False}
    best, last = Path(run_folder.BEST).stem, Path(run_folder.RESUME).stem
    lowest: dict[str, Any] = {"monitor": "val/loss", "mode": "min", "save_weights_only": True}
    return [
        Checkpoint(filename=best, **lowest, **common),
        Checkpoint(filename=last, save_on_train_epoch_end=True, **common),
    ]
