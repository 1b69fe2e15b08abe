"""The test images with what both models said of them, for looking through."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from scipy.special import softmax

from visavis import data, run_folder
from visavis.attribution import DEFAULT_METHOD
from visavis.compare import gallery
from visavis.config import MODEL_NAMES, DataConfig, from_json
from visavis.data import download
from visavis.errors import VisavisError
from visavis.serve.asked import Refusal
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
    """Why not all test images are here."""


def read(experiment: Path) -> TestImages:
    """The test images of an experiment whose two models were tested.

    Raises:
        Refusal: a model is not tested yet.
        CheckpointError: a file is damaged.
    """
    for name in MODEL_NAMES:
        if not (experiment / name / run_folder.EVALUATION).exists():
            raise Refusal(
                409,
                f"the {name.replace('vit', 'ViT').replace('cnn', 'CNN')} is not tested yet; the "
                "test images can be looked through when both models are",
            )
    prints = {
        run_folder.read_json(experiment / n / run_folder.DATA)["fingerprint"] for n in MODEL_NAMES
    }
    if len(prints) > 1:
        raise Refusal(409, "the two models were trained on different images")
    tested = {
        name: run_folder.read_arrays(experiment / name / run_folder.PREDICTIONS)
        for name in MODEL_NAMES
    }
    names = run_folder.read_json(experiment / "cnn" / run_folder.DATA)["class_names"]
    labels = tested["cnn"]["labels"]
    answers = {name: of["logits"].argmax(axis=1) for name, of in tested.items()}
    confidence = {name: softmax(of["logits"], axis=1).max(axis=1) for name, of in tested.items()}
    heatmaps = {}
    if all((experiment / name / run_folder.HEATMAPS).exists() for name in MODEL_NAMES):
        heatmaps = {
            n: run_folder.read_arrays(experiment / n / run_folder.HEATMAPS) for n in MODEL_NAMES
        }
    alike = gallery.similarity(heatmaps, DEFAULT_METHOD) if heatmaps else {}
    pixels, notice = _pixels(experiment, heatmaps)
    rows = gallery.rows(np.arange(len(labels)), labels, answers, confidence, names, alike)
    return TestImages(pixels, [row for row in rows if row["index"] in pixels], names, notice)


def _pixels(
    experiment: Path, heatmaps: dict[str, dict[str, np.ndarray]]
) -> tuple[dict[int, np.ndarray], str | None]:
    """All test images if they can be read here, else those that were kept with the heatmaps."""
    folder = experiment / "cnn"
    config = from_json(DataConfig, run_folder.read_json(folder / run_folder.CONFIG)["data"])
    source = run_folder.read_json(folder / run_folder.DATA)["source"]
    try:
        if source == "cifar10" and config.dir is None and download.cached() is None:
            raise Refusal(404, "CIFAR-10 is no longer in the cache")  # nothing is fetched for this
        dataset = data.resolve(dataclasses.replace(config, source=source))
        check_data(folder, dataset)
        return dict(enumerate(dataset.test_pixels)), None
    except (VisavisError, Refusal) as error:
        log.info("the test images cannot be read: %s", error)  # the page must name no path
        if not heatmaps:
            raise Refusal(409, "the test images cannot be read; the terminal says why") from None
        kept = {
            int(index): image
            for of in heatmaps.values()
            for index, image in zip(of["indices"], of["images"], strict=True)
        }
        return (
            kept,
            f"Only the {len(kept)} explained images are shown: the others are not here now.",
        )
