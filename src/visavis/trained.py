"""A trained model in its run folder: loaded, and checked against what the folder says of it."""

from pathlib import Path

from visavis import models, runs
from visavis.data import Dataset
from visavis.errors import CheckpointError
from visavis.models import Model


def load_trained(folder: Path) -> Model:
    """The model of the epoch with the lowest validation loss, on the CPU, in evaluation mode.

    Raises:
        CheckpointError: the training has not finished, or its files are damaged or altered.
    """
    if not folder.is_dir():
        raise CheckpointError(f"there is no run folder {folder}; train a model with --out first")
    config = runs.read_json(folder / runs.CONFIG)
    training = runs.read_json(folder / runs.TRAINING)
    weights = folder / runs.WEIGHTS
    model = models.load(models.config_from_json(config.get("model", {})), weights)
    if runs.file_sha256(weights) != training.get("weights_sha256"):
        raise CheckpointError(
            f"{weights} is not the file that the training wrote (its SHA-256 is not the one in "
            f"{runs.TRAINING}); restore it, or train again into another folder"
        )
    return model


def check_data(folder: Path, dataset: Dataset) -> None:
    """Refuse pictures other than those that the model in `folder` was trained on.

    Raises:
        CheckpointError: the fingerprints differ.
    """
    data = runs.read_json(folder / runs.DATA)
    if data.get("fingerprint") != dataset.fingerprint:
        raise CheckpointError(
            f"{folder} was trained on {data.get('description')}, and these pictures are "
            f"{dataset.description} with other pixels; pass the same --data.source and --data.dir"
        )
