"""The test images with both models' predictions, for browsing."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from starlette.exceptions import HTTPException

from visavis import data
from visavis.compare import gallery
from visavis.config import DataConfig, from_json
from visavis.data import download
from visavis.errors import DataError, VisavisError
from visavis.report import labels
from visavis.run_folder import ROLES, ModelFolder, trained_models
from visavis.stages.trained import check_data

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class TestImages:
    """Test images by their index in the test set."""

    pixels: dict[int, UInt8[np.ndarray, "side side 3"]]
    rows: list[dict[str, Any]]
    """As `gallery.rows`."""
    buckets: dict[str, str]
    """What the values of `bucket` are called."""
    classes: list[str]
    notice: str | None
    """Why some test images are missing."""


def read(experiment: Path) -> TestImages:
    """The test images of an experiment whose two models were tested.

    Raises:
        HTTPException: a model is not tested yet.
        CheckpointError: a file is damaged.
    """
    folders = trained_models(experiment)
    if len(folders) < len(ROLES) or not all(folder.tested for folder in folders.values()):
        raise HTTPException(409, "the test images can be browsed once both models are tested")
    first, second = folders.values()
    if first.data["fingerprint"] != second.data["fingerprint"]:
        raise HTTPException(409, "the two models were trained on different images")
    heatmaps, similarity = {}, {}
    if all(folder.explained for folder in folders.values()):
        heatmaps = {role: folder.heatmaps for role, folder in folders.items()}
        methods = {role: of.explanations["default_method"] for role, of in folders.items()}
        similarity = gallery.similarity(heatmaps, methods)
    pixels, notice = _pixels(first, heatmaps)
    rows = gallery.rows(
        np.arange(len(first.labels)),
        first.labels,
        {role: folder.predicted for role, folder in folders.items()},
        {role: folder.confidence for role, folder in folders.items()},
        first.data["class_names"],
        similarity,
    )
    rows = [row for row in rows if row["index"] in pixels]
    buckets = labels.bucket_names({role: folder.label for role, folder in folders.items()})
    return TestImages(pixels, rows, buckets, first.data["class_names"], notice)


def _pixels(
    folder: ModelFolder, heatmaps: dict[str, dict[str, np.ndarray]]
) -> tuple[dict[int, np.ndarray], str | None]:
    """All test images if the data set can be read, else those stored with the heatmaps."""
    config = from_json(DataConfig, folder.config["data"])
    source = folder.data["source"]
    try:
        if source in download.SOURCES and config.dir is None and download.cached(source) is None:
            raise DataError("CIFAR is no longer in the cache")  # the server downloads nothing
        dataset = data.resolve(dataclasses.replace(config, source=source))
        check_data(folder.path, dataset)
        return dict(enumerate(dataset.test_pixels)), None
    except VisavisError as error:
        log.info("cannot read the test images: %s", error)  # the page must not show any path
        if not heatmaps:
            raise HTTPException(409, "cannot read the test images; see the terminal") from None
    stored = {
        int(index): image
        for arrays in heatmaps.values()
        for index, image in zip(arrays["indices"], arrays["images"], strict=True)
    }
    return stored, f"Only the {len(stored)} explained images are shown; the rest are not available."
