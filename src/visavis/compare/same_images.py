"""Which images the heatmaps.npz of several models share, and the checksums of these files."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from visavis import run_folder
from visavis.errors import CheckpointError
from visavis.files import file_sha256
from visavis.run_folder import ModelFolder, model_folders

Arrays = dict[str, np.ndarray]
"""The content of heatmaps.npz."""

Rows = Int[np.ndarray, " n"]


def require_same_grid(models: dict[str, ModelFolder]) -> None:
    """Raise a CheckpointError unless the maps of both models have the same cells."""
    first, second = (model.explanations["grid"] for model in models.values())
    if first != second:
        raise CheckpointError(
            f"the maps of {models['first'].path} have {first[0]} x {first[1]} cells and those of "
            f"{models['second'].path} {second[0]} x {second[1]}; explain both with the same "
            "--explain.grid"
        )


def require_same(
    first: ModelFolder, other: ModelFolder, keys: Mapping[str, Sequence[str]], advice: str
) -> None:
    """Raise a CheckpointError unless two models were tested and explained on the same images.

    Args:
        keys: what must be equal, by the name of the file.
        advice: the end of the message.
    """
    for file, names in keys.items():
        a, b = (getattr(model, Path(file).stem) for model in (first, other))
        for key in names:
            if not np.array_equal(a[key], b[key]):
                raise CheckpointError(
                    f"{first.path} and {other.path} were not tested and explained alike ({key} in "
                    f"{file} differs); {advice}"
                )


def shared_rows(*heatmaps: Arrays, same_prediction: bool = False) -> tuple[Rows, ...]:
    """The rows, in each file, of the images on which all models were scored, by index.

    Args:
        same_prediction: of these, only images for which all models predict the same class.
    """
    sampled = [arrays["indices"][arrays["in_sample"]] for arrays in heatmaps]
    shared = functools.reduce(np.intersect1d, sampled)
    orders = [np.argsort(arrays["indices"]) for arrays in heatmaps]
    rows = [
        order[np.searchsorted(arrays["indices"], shared, sorter=order)]
        for arrays, order in zip(heatmaps, orders, strict=True)
    ]
    if same_prediction:
        predicted = [arrays["predicted"][at] for arrays, at in zip(heatmaps, rows, strict=True)]
        same = np.all([of == predicted[0] for of in predicted], axis=0)
        rows = [at[same] for at in rows]
    return tuple(rows)


def maps_at(heatmaps: Arrays, method: str, rows: Rows) -> Float[np.ndarray, "n h w"]:
    """A method's maps at these rows; NaN throughout degenerate ones."""
    degenerate = heatmaps[f"degenerate_{method}"][rows]
    return np.where(degenerate[:, None, None], np.nan, heatmaps[f"map_{method}"][rows])


def checksums(experiment: Path) -> dict[str, str]:
    """SHA-256 of both models' heatmaps.npz: files derived from them record it."""
    return {
        role: file_sha256(model.path / run_folder.HEATMAPS)
        for role, model in model_folders(experiment).items()
    }
