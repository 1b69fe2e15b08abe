"""The test images with both models' predictions, for browsing."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from starlette.exceptions import HTTPException

from visavis import data
from visavis.attribution import DEFAULT_METHOD
from visavis.compare import gallery
from visavis.config import MODEL_NAMES, DataConfig, from_json
from visavis.data import download
from visavis.errors import DataError, VisavisError
from visavis.run_folder import ModelFolder
from visavis.stages.trained import check_data

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class TestImages:
    """Test images by their index in the test set."""

    pixels: dict[int, UInt8[np.ndarray, "32 32 3"]]
    rows: list[dict[str, Any]]
    """As `gallery.rows`."""
    classes: list[str]
    notice: str | None
    """Why some test images are missing."""


def read(experiment: Path) -> TestImages:
    """The test images of an experiment whose two models were tested.

    Raises:
        HTTPException: a model is not tested yet.
        CheckpointError: a file is damaged.
    """
    folders = {name: ModelFolder(experiment / name) for name in MODEL_NAMES}
    if not all(folder.tested for folder in folders.values()):
        raise HTTPException(409, "the test images can be browsed once both models are tested")
    cnn = folders["cnn"]
    if cnn.data["fingerprint"] != folders["vit"].data["fingerprint"]:
        raise HTTPException(409, "the two models were trained on different images")
    heatmaps = {}
    if all(folder.explained for folder in folders.values()):
        heatmaps = {name: folder.heatmaps for name, folder in folders.items()}
    pixels, notice = _pixels(cnn, heatmaps)
    rows = gallery.rows(
        np.arange(len(cnn.labels)),
        cnn.labels,
        {name: folder.predicted for name, folder in folders.items()},
        {name: folder.confidence for name, folder in folders.items()},
        cnn.data["class_names"],
        gallery.similarity(heatmaps, DEFAULT_METHOD) if heatmaps else {},
    )
    rows = [row for row in rows if row["index"] in pixels]
    return TestImages(pixels, rows, cnn.data["class_names"], notice)


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
