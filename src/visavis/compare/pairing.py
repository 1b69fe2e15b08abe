"""The heatmaps.npz of two models: which images they share, and which files they are."""

from pathlib import Path

import numpy as np
from jaxtyping import Int

from visavis import run_folder
from visavis.config import MODEL_NAMES
from visavis.files import file_sha256

Arrays = dict[str, np.ndarray]
"""The content of heatmaps.npz."""

Rows = Int[np.ndarray, " n"]


def sampled_rows(cnn: Arrays, vit: Arrays) -> tuple[Rows, Rows]:
    """Where in each file the images stand that both models were scored on."""
    _, rows_cnn, rows_vit = np.intersect1d(cnn["indices"], vit["indices"], return_indices=True)
    sampled = cnn["in_sample"][rows_cnn] & vit["in_sample"][rows_vit]
    return rows_cnn[sampled], rows_vit[sampled]


def common_rows(*heatmaps: Arrays) -> tuple[Rows, ...]:
    """Where in each file the sampled images stand that all models put in the same class."""
    answers: list[dict[int, tuple[int, int]]] = []
    for of in heatmaps:  # index of a sampled image: the answer and the row
        columns = np.arange(len(of["indices"]))[of["in_sample"]]
        answers.append({int(of["indices"][r]): (int(of["predicted"][r]), int(r)) for r in columns})
    shared = sorted(
        index
        for index, (said, _) in answers[0].items()
        if all(index in of and of[index][0] == said for of in answers)
    )
    return tuple(np.array([of[index][1] for index in shared], dtype=np.int64) for of in answers)


def checksums(experiment: Path) -> dict[str, str]:
    """SHA-256 of both models' heatmaps.npz: what is derived from them tells by it that it is."""
    return {name: file_sha256(experiment / name / run_folder.HEATMAPS) for name in MODEL_NAMES}
