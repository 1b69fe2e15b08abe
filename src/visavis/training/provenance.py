"""The record of a training in its run folder: settings, data, machine and versions.

Writes config.json, data.json and split.npz, or checks that they hold the same.
"""

import datetime
import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch

from visavis import models, run_folder
from visavis.config import Experiment, TrainConfig, to_json
from visavis.data import Dataset, class_counts, describe
from visavis.errors import CheckpointError
from visavis.files import bytes_sha256
from visavis.run_folder import ModelFolder
from visavis.training import hardware


def claim(
    folder: Path,
    experiment: Experiment,
    name: str,
    dataset: Dataset,
    train_indices: np.ndarray,
    validation_indices: np.ndarray,
) -> None:
    """Write the settings and the data of the training, or check that the folder holds the same.

    Until an epoch is finished, others take their place.

    Raises:
        CheckpointError: it holds others, and the message names what differs; or one of the two
            files is missing beside a training.
    """
    config = {
        "model": models.config_to_json(experiment.model(name)),
        "seed": experiment.seed,
        "train": to_json(experiment.train),
        "data": to_json(experiment.data),
    }
    data = _data(experiment, dataset, train_indices, validation_indices)
    stored = ModelFolder(folder)
    if stored.begun:
        differing = differences({k: stored.config.get(k) for k in ("model", "seed")}, config)
        keys = ("fingerprint", "split_fingerprint")
        if differing := differing + differences({k: stored.data.get(k) for k in keys}, data):
            raise CheckpointError(
                f"{folder} holds a run with other settings: {'; '.join(differing)}. "
                "Use the same settings, or another --out"
            )
        return
    classes = range(len(dataset.class_names))
    first = [int(np.flatnonzero(dataset.train_labels == c)[0]) for c in classes]
    run_folder.write_arrays(
        folder / run_folder.SPLIT,
        train=train_indices,
        validation=validation_indices,
        examples=dataset.train_pixels[first],
    )
    run_folder.write_json(folder / run_folder.DATA, data)
    run_folder.write_json(folder / run_folder.CONFIG, config)


def _data(
    experiment: Experiment, dataset: Dataset, train: np.ndarray, validation: np.ndarray
) -> dict[str, Any]:
    """What data.json says."""
    classes = len(dataset.class_names)
    return {
        **describe(dataset),
        "counts": {
            "train": class_counts(dataset.train_labels[train], classes),
            "validation": class_counts(dataset.train_labels[validation], classes),
            "test": class_counts(dataset.test_labels, classes),
        },
        "split_seed": experiment.data.split_seed,
        "validation_fraction": experiment.data.validation_fraction,
        "split_fingerprint": bytes_sha256(validation.tobytes()),
    }


def provenance(config: TrainConfig, device: torch.device) -> dict[str, Any]:
    """Present versions, machine and precision."""
    return {
        "version": importlib.metadata.version("visavis"),
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": lightning.__version__,
        "device": device.type,
        "device_name": hardware.device_name(device),
        "started_on": hardware.device_name(device),
        "devices": config.devices,
        "threads": torch.get_num_threads(),
        "precision": hardware.precision(config, device),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _commit() -> str | None:
    """The commit of visavis's repository; None if visavis was installed without it."""
    root = Path(__file__).resolve().parents[2]
    command = ["git", "-C", str(root), "rev-parse", "--show-toplevel", "HEAD"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:  # no git
        return None
    lines = result.stdout.split("\n")
    return lines[1] if result.returncode == 0 and Path(lines[0]) == root else None


def differences(found: dict[str, Any], wanted: dict[str, Any], prefix: str = "") -> list[str]:
    """One line for each key of `found` whose value differs from that in `wanted`."""
    lines = []
    for key, value in found.items():
        other = wanted.get(key)
        if isinstance(value, dict) and isinstance(other, dict):
            lines += differences(value, other, f"{prefix}{key}.")
        elif value != other:
            lines.append(f"{prefix}{key} is {value} there and {other} here")
    return lines
