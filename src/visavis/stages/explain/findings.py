"""What is measured about the maps of the sample: the numbers of explanations.json."""

import functools
import logging
from collections import Counter
from typing import Any

from tqdm import tqdm

from visavis import attribution
from visavis.attribution import Subject
from visavis.config import EXPLANATION_SEED as SEED
from visavis.metrics import baselines, faithfulness, localization, robustness, sanity
from visavis.metrics.agreement import permutation_baseline, rank_agreement
from visavis.metrics.bootstrap import Interval
from visavis.metrics.faithfulness import Removal
from visavis.metrics.localization import Maps, without_degenerate
from visavis.metrics.per_image import METRICS, Metric, values
from visavis.stages.explain.in_domain import accuracies, idsds_scores
from visavis.stages.explain.maps import Explained
from visavis.stages.explain.selection import Sample

logger = logging.getLogger(__name__)

BASELINES = {
    "random": "Random map",
    "centre": "Centred Gaussian",
    "edges": "Edge strength",
    "mean": "Mean of the model's maps",
}
"""Maps that do not depend on the model, or not on the image."""

CASCADE_IMAGES = 25
"""Of the sample, for the cascading randomisation; the full randomisation uses all images."""

ROBUSTNESS_IMAGES = 100
"""Of the sample: each is explained three times more."""

Scores = dict[str, Interval | None]


def measure(
    sample: Sample,
    explained: dict[str, Explained],
    copied: Subject,
    *,
    random_orders: int,
    autocast: bool,
) -> tuple[dict[str, Any], Removal]:
    """All scores of explanations.json, and the deletion and insertion of each image.

    Args:
        copied: the model, trained further on masked images; IDSDS is measured on it.
    """
    maps = {name: found.maps[: len(sample.images)] for name, found in explained.items()}
    maps |= _baseline_maps(sample, maps[attribution.default_method(sample.subject)])
    removal_by = functools.partial(
        faithfulness.measure,
        sample.subject,
        sample.images,
        sample.targets,
        maps,
        random_orders=random_orders,
        clusters=sample.labels,
        seed=SEED,
        autocast=autocast,
    )
    removal, blurred = removal_by(fill="mean"), removal_by(fill="blur")
    idsds = idsds_scores(sample, maps, explained, copied)
    scores = {
        name: _scores(sample, of, removal.scores(name), blurred.scores(name), idsds[name])
        for name, of in tqdm(maps.items(), "keep-top-k accuracy", unit=" methods", disable=None)
    }
    methods = {}
    for name in tqdm(explained, "randomised parameters", unit=" methods", disable=None):
        others = [other for other in maps if other != name]
        methods[name] = {
            **_described(sample, name, explained[name], maps, scores[name]),
            **randomised(sample, name, maps[name]),
            "deletion_ahead_of": {other: removal.ahead(name, other) for other in others},
            "deletion_blur_ahead_of": {other: blurred.ahead(name, other) for other in others},
        }
    masks = sample.masks
    found = {
        "methods": methods,
        "baselines": {n: {"label": of, "scores": scores[n]} for n, of in BASELINES.items()},
        "mask_chance": None if masks is None else sample.interval(masks.mean(axis=(1, 2))),
        "centre_chance": 0.25,
        **accuracies(sample, copied),
    }
    return found, removal


def _baseline_maps(sample: Sample, default: Maps) -> dict[str, Maps]:
    n, grid = len(sample.images), sample.subject.grid
    return {
        "random": baselines.random_maps(n, grid, seed=SEED),
        "centre": baselines.centre_maps(n, grid),
        "edges": baselines.edge_maps(sample.images.cpu().numpy(), grid),
        "mean": baselines.mean_maps(default),
    }


def _scores(
    sample: Sample, maps: Maps, removal: Scores, blurred: Scores, idsds: Interval | None
) -> Scores:
    """The scores that methods and baselines share."""
    return {
        **removal,
        "deletion_blur": blurred["deletion"],
        "insertion_blur": blurred["insertion"],
        "idsds": idsds,
        **{name: _interval(metric, sample, maps) for name, metric in METRICS.items()},
    }


def _interval(metric: Metric, sample: Sample, maps: Maps) -> Interval | None:
    found = values(metric, sample, maps)
    return None if found is None else sample.interval(found)


def randomised(sample: Sample, method: str, maps: Maps) -> dict[str, Any]:
    """How much a method's maps agree with those of a randomised model (MPRT).

    Under "randomised", all parameters are: the `agreement`, its within-class
    `permutation_baseline`, and the paired difference `above_chance`, which is what is left of the
    image itself. Under "cascading", the agreement after each part, from the head down.
    """
    parts = sanity.parts(sample.subject.model)
    original = without_degenerate(maps)
    first = slice(CASCADE_IMAGES)

    def after(count: int, rows: slice) -> Maps:
        images, targets = sample.images[rows], sample.predicted[rows]
        return sanity.maps_of_randomised(
            sample.subject, images, targets, method, parts[:count], layer=sample.layer
        )

    full = after(len(parts), slice(None))
    agreement = rank_agreement(original, full)
    baseline = permutation_baseline(original, full, sample.labels)
    steps = [*(after(i + 1, first) for i in range(len(parts) - 1)), full[first]]
    return {
        "randomised": {
            "agreement": sample.interval(agreement),
            "permutation_baseline": sample.interval(baseline),
            "above_chance": sample.interval(agreement - baseline),
        },
        "cascading": [
            {"part": part, "agreement": sample.interval(rank_agreement(original[first], step))}
            for part, step in zip(parts, steps, strict=True)
        ],
    }


def _robustness(sample: Sample, method: str, maps: Maps) -> Scores:
    """How much a method's maps agree with those of the same images after small changes."""
    first = slice(ROBUSTNESS_IMAGES)
    images, targets = sample.images[first], sample.predicted[first]
    found = robustness.measure(
        sample.subject, images, targets, maps[first], method, layer=sample.layer, seed=SEED
    )
    return {change: sample.interval(agreement) for change, agreement in found.items()}


def _described(
    sample: Sample, name: str, explained: Explained, maps: dict[str, Maps], scores: Scores
) -> dict[str, Any]:
    """A method's properties, its degenerate maps, its scores and its robustness."""
    rows = slice(len(sample.images))
    reasons = Counter(reason for reason in explained.degenerate_reasons[rows] if reason)
    method = attribution.METHODS[name]
    for reason, count in reasons.items():
        noun = "map is" if count == 1 else "maps are"
        logger.info("%s: %d %s not scored: %s.", method.label, count, noun, reason)
    sensitivity = None
    if explained.others is not None:
        values = localization.class_sensitivity(explained.maps[rows], explained.others)
        sensitivity = sample.interval(values)
    known = without_degenerate(maps[name])
    return {
        "label": method.label,
        "class_specific": method.class_specific,
        "signed": method.signed,
        "invalid_because": explained.invalid_because,
        "degenerate": reasons.total(),
        "degenerate_because": dict(reasons),
        "scores": scores | {"class_sensitivity": sensitivity},
        "trivial_baselines": {
            other: sample.interval(rank_agreement(known, maps[other]))
            for other in ("centre", "edges", "mean")
        },
        "robustness": _robustness(sample, name, maps[name]),
    }
