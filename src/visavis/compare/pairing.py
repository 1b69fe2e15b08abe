"""Which images the heatmaps.npz of several models share, and the checksums of these files."""

from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from visavis import run_folder
from visavis.config import MODEL_NAMES
from visavis.files import file_sha256

Arrays = dict[str, np.ndarray]
"""The content of heatmaps.npz."""

Rows = Int[np.ndarray, " n"]


def sampled_rows(cnn: Arrays, vit: Arrays) -> tuple[Rows, Rows]:
    """The rows, in each file, of the images on which both models were scored."""
    _, rows_cnn, rows_vit = np.intersect1d(cnn["indices"], vit["indices"], return_indices=True)
    sampled = cnn["in_sample"][rows_cnn] & vit["in_sample"][rows_vit]
    return rows_cnn[sampled], rows_vit[sampled]


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


def maps_at(heatmaps: Arrays, method: str, rows: Rows) -> Float[np.ndarray, "n 8 8"]:
    """A method's maps at these rows; NaN throughout degenerate ones."""
    degenerate = heatmaps[f"degenerate_{method}"][rows]
    return np.where(degenerate[:, None, None], np.nan, heatmaps[f"map_{method}"][rows])


def checksums(experiment: Path) -> dict[str, str]:
    """SHA-256 of both models' heatmaps.npz: files derived from them record it."""
    return {name: file_sha256(experiment / name / run_folder.HEATMAPS) for name in MODEL_NAMES}
