"""The registry of the metrics that score each map by itself."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from visavis.attribution.subject import Subject
from visavis.data.batches import Images
from visavis.metrics import complexity, localization
from visavis.metrics.keep_top import keep_top
from visavis.metrics.localization import Maps


@runtime_checkable
class Explained(Protocol):
    """What a metric may use besides the maps."""

    @property
    def subject(self) -> Subject:
        """The model."""

    @property
    def images(self) -> Images:
        """The images that the maps explain."""

    @property
    def labels(self) -> Int[np.ndarray, " n"]:
        """Their true classes."""

    @property
    def masks(self) -> Maps | None:
        """The fraction of each cell inside the ground-truth mask, if the data has masks."""


@dataclass(frozen=True)
class Metric:
    """A metric: a value for each map."""

    compute: Callable[[Explained, Maps], Float[np.ndarray, " n"]]
    """NaN where a map has no value; degenerate maps are excluded in any case."""
    needs_masks: bool = False


def _masks(of: Explained) -> Maps:
    assert of.masks is not None  # see `values`
    return of.masks


METRICS = {
    "keep_top_20": Metric(lambda of, maps: keep_top(of.subject, of.images, maps, of.labels)),
    "central_mass": Metric(
        lambda of, maps: localization.relevance_mass(maps, localization.centre(*maps.shape[:2]))
    ),
    "gini": Metric(lambda of, maps: complexity.gini(maps)),
    "largest_part": Metric(lambda of, maps: complexity.largest_part(maps)),
    "relevance_mass": Metric(
        lambda of, maps: localization.relevance_mass(maps, _masks(of)), needs_masks=True
    ),
    "pointing_hit": Metric(
        lambda of, maps: localization.pointing_hit(maps, _masks(of)), needs_masks=True
    ),
    "mask_auc": Metric(lambda of, maps: localization.mask_auc(maps, _masks(of)), needs_masks=True),
}
"""A new metric is one function and one entry."""


def values(metric: Metric, of: Explained, maps: Maps) -> Float[np.ndarray, " n"] | None:
    """Of each map, NaN for a degenerate one; None if the metric needs masks and there are none."""
    if metric.needs_masks and of.masks is None:
        return None
    return np.where(localization.valid(maps), metric.compute(of, maps), np.nan)
