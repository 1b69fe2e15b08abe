"""The test images with the predictions of two models, for browsing."""

import collections
import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import UInt8
from starlette.exceptions import HTTPException

from visavis import data
from visavis.compare import gallery
from visavis.config import DataConfig, from_json
from visavis.data import Pixels, download
from visavis.errors import DataError, VisavisError
from visavis.report import labels
from visavis.run_folder import ROLES, ModelFolder
from visavis.serve.pair import Shown, together
from visavis.serve.requests import Query, number, one_of
from visavis.stages.trained import check_data

log = logging.getLogger(__name__)


Row = dict[str, Any]
"""As `gallery.rows`."""

CONFIDENCES = ("first_confidence", "second_confidence")

ORDERS: dict[str, Callable[[Row], float]] = {
    "index": lambda row: row["index"],
    "first_confidence": lambda row: -row["first_confidence"],
    "second_confidence": lambda row: -row["second_confidence"],
    "difference": lambda row: -abs(row["first_confidence"] - row["second_confidence"]),
    "agreement": lambda row: -_known(row, -2.0),
    "disagreement": lambda row: _known(row, 2.0),
}
"""Values of `sort`; images whose agreement is not known come last."""


def _known(row: Row, otherwise: float) -> float:
    """The agreement of both maps, if it was measured."""
    similarity: float | None = row["similarity"]
    return otherwise if similarity is None else similarity


@dataclasses.dataclass(frozen=True)
class Browsed:
    """Test images by their index in the test set."""

    pixels: dict[int, UInt8[np.ndarray, "side side 3"]]
    rows: list[Row]
    buckets: dict[str, str]
    """What the values of `bucket` are called."""
    classes: list[str]
    notice: str | None
    """Why some test images are missing."""

    def matching(self, query: Query) -> list[Row]:
        """The rows that a request asks for, in its order.

        Raises:
            HTTPException: a parameter has no such value.
        """
        equal = {key: query[key] for key in ("bucket", "true", *ROLES) if key in query}
        for key, value in equal.items():
            one_of(value, self.buckets if key == "bucket" else self.classes, key)
        either = one_of(query["either"], self.classes, "either") if "either" in query else None
        least = {key: number(query, key, 0.0, low=0, high=1) for key in CONFIDENCES}
        agreement = (
            number(query, "similarity", -1.0, low=-1, high=1) if "similarity" in query else None
        )
        order = ORDERS[one_of(query.get("sort", "index"), ORDERS, "sort")]
        found = (
            row
            for row in self.rows
            if all(row[key] == value for key, value in equal.items())
            and (either is None or either in (row["first"], row["second"]))
            and all(row[key] >= low for key, low in least.items())
            and (agreement is None or _known(row, -2.0) >= agreement)
        )
        return sorted(found, key=order)  # a stable sort: the rest as in the test set

    @functools.cached_property
    def counts(self) -> dict[str, dict[str, int]]:
        """How many images have each bucket, true class and prediction."""
        return {
            key: dict(collections.Counter(row[key] for row in self.rows))
            for key in ("bucket", "true", *ROLES)
        }

    @functools.cached_property
    def confusion(self) -> dict[str, list[list[int]]]:
        """Of each model: true class by rows, prediction by columns."""
        return {
            role: [
                [counted[true, predicted] for predicted in self.classes] for true in self.classes
            ]
            for role in ROLES
            for counted in [collections.Counter((row["true"], row[role]) for row in self.rows)]
        }


def read(pair: Mapping[str, Shown], known: dict[str, Pixels]) -> Browsed:
    """The test images of two models that were tested.

    Args:
        known: test images by the fingerprint of their data, which all trainings of a study share;
            those that had to be read are added.

    Raises:
        HTTPException: a model is not tested yet, or they were trained on different images.
        CheckpointError: a file is damaged.
    """
    folders = {role: of.folder for role, of in pair.items()}
    if len(pair) < len(ROLES):
        raise HTTPException(409, "the test images can be explored once two models are tested")
    if missing := {role: of for role, of in pair.items() if not folders[role].tested}:
        are = "is" if len(missing) == 1 else "are"
        sentence = f"the test images can be explored once {together(missing)} {are} tested"
        raise HTTPException(409, sentence)
    first, second = folders.values()
    if first.data["fingerprint"] != second.data["fingerprint"]:
        raise HTTPException(409, f"{together(pair)} were trained on different images")
    heatmaps, similarity = {}, {}
    if all(folder.explained for folder in folders.values()):
        heatmaps = {role: folder.heatmaps for role, folder in folders.items()}
        methods = {role: of.explanations["default_method"] for role, of in folders.items()}
        similarity = gallery.similarity(heatmaps, methods)
    pixels, notice = _pixels(first, heatmaps, known)
    rows = gallery.rows(
        np.arange(len(first.labels)),
        first.labels,
        {role: folder.predicted for role, folder in folders.items()},
        {role: folder.confidence for role, folder in folders.items()},
        first.data["class_names"],
        similarity,
    )
    rows = [row for row in rows if row["index"] in pixels]
    buckets = labels.bucket_names({role: of.label for role, of in pair.items()})
    return Browsed(pixels, rows, buckets, first.data["class_names"], notice)


def _pixels(
    folder: ModelFolder, heatmaps: dict[str, dict[str, np.ndarray]], known: dict[str, Pixels]
) -> tuple[dict[int, np.ndarray], str | None]:
    """All test images if the data set can be read, else those stored with the heatmaps."""
    config = from_json(DataConfig, folder.config["data"])
    source, fingerprint = folder.data["source"], folder.data["fingerprint"]
    try:
        if fingerprint not in known:
            if source in download.SOURCES and config.dir is None and not download.cached(source):
                raise DataError("CIFAR is no longer in the cache")  # the server downloads nothing
            dataset = data.resolve(dataclasses.replace(config, source=source))
            check_data(folder.path, dataset)
            known[fingerprint] = dataset.test_pixels
        return dict(enumerate(known[fingerprint])), None
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
