"""The test pictures with what both models said of them, for looking through."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from scipy.special import softmax

from visavis import data, download, runs
from visavis.config import MODEL_NAMES, DataConfig, from_json
from visavis.errors import VisavisError
from visavis.heatmaps import common_rows
from visavis.likeness import rank_agreement
from visavis.metrics import buckets
from visavis.saliency import DEFAULT_METHOD
from visavis.serve.refusal import Refusal
from visavis.trained import check_data

BUCKETS = {
    "both_right": "both right",
    "only_cnn": "only the CNN right",
    "only_vit": "only the ViT right",
    "both_wrong_same": "both wrong, the same way",
    "both_wrong_apart": "both wrong, differently",
}
"""Every test picture is in one of them."""


@dataclasses.dataclass(frozen=True)
class Gallery:
    """Test pictures by their index in the test set."""

    pixels: dict[int, UInt8[np.ndarray, "32 32 3"]]
    rows: list[dict[str, Any]]
    """Of each picture: index, true, and for each model its answer and confidence, bucket, and the
    rank agreement of the two main maps where it was measured."""
    notice: str | None
    """Why not all test pictures are here."""


def read(experiment: Path) -> Gallery:
    """The test pictures of an experiment whose two models were tested.

    Raises:
        Refusal: a model is not tested yet.
        CheckpointError: a file is damaged.
    """
    missing = [n for n in MODEL_NAMES if not (experiment / n / runs.EVALUATION).exists()]
    if missing:
        raise Refusal(409, f"to look through the test pictures, test both models: {missing} lack")
    tested = {name: runs.read_arrays(experiment / name / runs.PREDICTIONS) for name in MODEL_NAMES}
    names = runs.read_json(experiment / "cnn" / runs.DATA)["class_names"]
    labels = tested["cnn"]["labels"]
    answers = {name: of["logits"].argmax(axis=1) for name, of in tested.items()}
    confidence = {name: softmax(of["logits"], axis=1).max(axis=1) for name, of in tested.items()}
    heatmaps = {}
    if all((experiment / name / runs.HEATMAPS).exists() for name in MODEL_NAMES):
        heatmaps = {n: runs.read_arrays(experiment / n / runs.HEATMAPS) for n in MODEL_NAMES}
    alike = _similarity(heatmaps) if heatmaps else {}
    pixels, notice = _pixels(experiment, heatmaps)
    bucket_of = np.empty(len(labels), dtype=object)
    for key, inside in buckets(labels, answers["cnn"], answers["vit"]).items():
        bucket_of[inside] = key
    rows = [
        {
            "index": i,
            "true": names[labels[i]],
            **{name: names[answers[name][i]] for name in MODEL_NAMES},
            **{f"{n}_confidence": round(float(confidence[n][i]), 4) for n in MODEL_NAMES},
            "bucket": bucket_of[i],
            "similarity": alike.get(i),
        }
        for i in range(len(labels))
        if i in pixels
    ]
    return Gallery(pixels, rows, notice)


def _similarity(heatmaps: dict[str, dict[str, np.ndarray]]) -> dict[int, float]:
    """Rank agreement of both main maps, of sampled pictures that both put in the same class."""
    rows = dict(zip(MODEL_NAMES, common_rows(*(heatmaps[n] for n in MODEL_NAMES)), strict=True))
    main = {n: heatmaps[n][f"map_{DEFAULT_METHOD[n]}"][rows[n]] for n in MODEL_NAMES}
    found = rank_agreement(main["cnn"], main["vit"])  # NaN for a map that was refused: it is even
    indices = heatmaps["cnn"]["indices"][rows["cnn"]]
    return {
        int(index): round(float(value), 3)
        for index, value in zip(indices, found, strict=True)
        if np.isfinite(value)
    }


def _pixels(
    experiment: Path, heatmaps: dict[str, dict[str, np.ndarray]]
) -> tuple[dict[int, np.ndarray], str | None]:
    """All test pictures if they can be read here, else those that were kept with the heatmaps."""
    folder = experiment / "cnn"
    config = from_json(DataConfig, runs.read_json(folder / runs.CONFIG)["data"])
    source = runs.read_json(folder / runs.DATA)["source"]
    try:
        if source == "cifar10" and config.dir is None and download.cached() is None:
            raise Refusal(404, "CIFAR-10 is no longer in the cache")  # nothing is fetched for this
        dataset = data.resolve(dataclasses.replace(config, source=source))
        check_data(folder, dataset)
        return dict(enumerate(dataset.test_pixels)), None
    except (VisavisError, Refusal) as error:
        if not heatmaps:
            raise Refusal(409, f"the test pictures cannot be read: {error}") from None
        kept = {
            int(index): picture
            for of in heatmaps.values()
            for index, picture in zip(of["indices"], of["images"], strict=True)
        }
        return kept, f"Only the {len(kept)} explained pictures are shown: {error}."
