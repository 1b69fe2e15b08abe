"""What a run folder says of its training: settings, data, machine, versions.

Writes config.json, data.json and split.npz, or checks that they say the same.
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
from visavis.training import hardware


def claim(
    folder: Path,
    experiment: Experiment,
    name: str,
    dataset: Dataset,
    train_indices: np.ndarray,
    validation_indices: np.ndarray,
) -> None:
    """Write what the training is, or check that the folder already says the same.

    Raises:
        CheckpointError: it says something else, with what differs.
    """
    config = {
        "model": models.config_to_json(experiment.model(name)),
        "seed": experiment.seed,
        "train": to_json(experiment.train),
        "data": to_json(experiment.data),
    }
    classes = len(dataset.class_names)
    data = {
        **describe(dataset),
        "counts": {
            "train": class_counts(dataset.train_labels[train_indices], classes),
            "validation": class_counts(dataset.train_labels[validation_indices], classes),
            "test": class_counts(dataset.test_labels, classes),
        },
        "split_seed": experiment.data.split_seed,
        "validation_fraction": experiment.data.validation_fraction,
        "split_fingerprint": bytes_sha256(validation_indices.tobytes()),
    }
    if (folder / run_folder.CONFIG).exists() and (folder / run_folder.DATA).exists():
        found = run_folder.read_json(folder / run_folder.CONFIG)
        differing = differences({k: found.get(k) for k in ("model", "seed")}, config)
        found_data = run_folder.read_json(folder / run_folder.DATA)
        keys = ("fingerprint", "split_fingerprint")
        differing += differences({k: found_data.get(k) for k in keys}, data)
        if differing:
            raise CheckpointError(
                f"{folder} holds a run with other settings: {'; '.join(differing)}. "
                "Use the same settings, or another --out"
            )
        return
    first = [int(np.flatnonzero(dataset.train_labels == c)[0]) for c in range(classes)]
    run_folder.write_arrays(
        folder / run_folder.SPLIT,
        train=train_indices,
        validation=validation_indices,
        examples=dataset.train_pixels[first],
    )
    run_folder.write_json(folder / run_folder.DATA, data)
    run_folder.write_json(folder / run_folder.CONFIG, config)


def provenance(config: TrainConfig, device: torch.device) -> dict[str, Any]:
    """Versions, machine and arithmetic, as they are now."""
    return {
        "version": importlib.metadata.version("visavis"),
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": lightning.__version__,
        "device": device.type,
        "device_name": hardware.device_name(device),
        "started_on": hardware.device_name(device),
        "threads": torch.get_num_threads(),
        "precision": hardware.precision(config, device),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _commit() -> str | None:
    """The commit of visavis's own repository; None where it was installed without one."""
    root = Path(__file__).resolve().parents[2]
    command = ["git", "-C", str(root), "rev-parse", "--show-toplevel", "HEAD"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:  # no git
        return None
    lines = answer.stdout.split("\n")
    return lines[1] if answer.returncode == 0 and Path(lines[0]) == root else None


def differences(found: dict[str, Any], wanted: dict[str, Any], prefix: str = "") -> list[str]:
    """What `wanted` asks for and `found` has otherwise, for the keys of `found`."""
    lines = []
    for key, value in found.items():
        other = wanted.get(key)
        if isinstance(value, dict) and isinstance(other, dict):
            lines += differences(value, other, f"{prefix}{key}.")
        elif value != other:
            lines.append(f"{prefix}{key} is {value} there and {other} here")
    return lines
