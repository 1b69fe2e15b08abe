"""Which images the heatmaps.npz of several models share, and the checksums of these files."""

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


def sampled_rows(first: Arrays, second: Arrays) -> tuple[Rows, Rows]:
    """The rows, in each file, of the images on which both models were scored."""
    _, rows_a, rows_b = np.intersect1d(first["indices"], second["indices"], return_indices=True)
    sampled = first["in_sample"][rows_a] & second["in_sample"][rows_b]
    return rows_a[sampled], rows_b[sampled]


def common_rows(*heatmaps: Arrays) -> tuple[Rows, ...]:
    """The rows, in each file, of the sampled images for which all models predict the same class."""
    found: list[dict[int, tuple[int, int]]] = []  # of each model: index to prediction and row
    for arrays in heatmaps:
        indices, predicted = arrays["indices"].tolist(), arrays["predicted"].tolist()
        rows = np.flatnonzero(arrays["in_sample"]).tolist()
        found.append({indices[row]: (predicted[row], row) for row in rows})
    shared = sorted(
        index
        for index, (label, _) in found[0].items()
        if all(index in of and of[index][0] == label for of in found)
    )
    return tuple(np.array([of[index][1] for index in shared], dtype=np.int64) for of in found)


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
