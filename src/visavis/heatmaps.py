"""The heatmaps.npz of two models: which pictures they share, and which files they are."""

from pathlib import Path

import numpy as np
from jaxtyping import Int

from visavis import runs
from visavis.config import MODEL_NAMES

Arrays = dict[str, np.ndarray]
"""The content of heatmaps.npz."""

Rows = Int[np.ndarray, " n"]


def sampled_rows(cnn: Arrays, vit: Arrays) -> tuple[Rows, Rows]:
    """Where in each file the pictures stand that both models were scored on."""
    _, rows_cnn, rows_vit = np.intersect1d(cnn["indices"], vit["indices"], return_indices=True)
    sampled = cnn["in_sample"][rows_cnn] & vit["in_sample"][rows_vit]
    return rows_cnn[sampled], rows_vit[sampled]


def common_rows(cnn: Arrays, vit: Arrays) -> tuple[Rows, Rows]:
    """Where in each file the sampled pictures stand that both models put in the same class."""
    rows_cnn, rows_vit = sampled_rows(cnn, vit)
    same = cnn["predicted"][rows_cnn] == vit["predicted"][rows_vit]
    return rows_cnn[same], rows_vit[same]


def checksums(experiment: Path) -> dict[str, str]:
    """SHA-256 of both models' heatmaps.npz: what is derived from them tells by it that it is."""
    return {name: runs.file_sha256(experiment / name / runs.HEATMAPS) for name in MODEL_NAMES}
