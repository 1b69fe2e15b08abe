"""What is measured about the maps of the sample: the numbers of explanations.json."""

import logging
from collections import Counter
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from visavis import attribution
from visavis.config import EXPLANATION_SEED as SEED
from visavis.data.progress import progress_bar
from visavis.metrics import baselines, localization, minimal_subset, sanity
from visavis.metrics.agreement import permutation_baseline, rank_agreement
from visavis.metrics.bootstrap import Interval, interval
from visavis.metrics.faithfulness import FEW_STEPS, STEPS, Removal, measure
from visavis.metrics.localization import Maps
from visavis.metrics.masking import Fill
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

Scores = dict[str, Interval | None]


def with_baselines(
    maps: dict[str, Maps], images: Float[Tensor, "n 3 32 32"], default: str
) -> dict[str, Maps]:
    """The methods' maps followed by the baselines'; the mean map is of the `default` method."""
    n = len(images)
    return {
        **maps,
        "random": baselines.random_maps(n, seed=SEED),
        "centre": baselines.centre_maps(n),
        "edges": baselines.edge_maps(images.cpu().numpy()),
        "mean": baselines.mean_maps(maps[default]),
    }


def removals(
    sample: Sample, maps: dict[str, Maps], *, random_orders: int, autocast: bool
) -> tuple[Removal, Removal]:
    """Deletion and insertion with cells masked by the mean colour, and by the blurred image."""

    def removal(fill: Fill, steps: int, what: str) -> Removal:
        with progress_bar(len(sample.images), what) as progress:
            return measure(
                sample.model,
                sample.images,
                sample.targets,
                maps,
                random_orders=random_orders,
                fill=fill,
                steps=steps,
                clusters=sample.labels,
                seed=SEED,
                autocast=autocast,
                progress=progress.update,
            )

    return (
        removal("mean", STEPS, "deletion and insertion"),
        removal("blur", FEW_STEPS, "deletion and insertion, blurred"),
    )


def keep_top_k(sample: Sample, maps: dict[str, Maps]) -> dict[str, Scores]:
    """For each method, the minimal sufficient subset and the keep-top-k accuracies."""
    found = {}
    with progress_bar(len(maps) * len(sample.images), "keep-top-k accuracy") as progress:
        for name, of in maps.items():
            predicted = minimal_subset.predictions(sample.model, sample.images, of, seed=SEED)
            values = {
                "minimal_subset": minimal_subset.minimal_subset(predicted, sample.predicted),
                **minimal_subset.keep_top_k(predicted, sample.labels),
            }
            found[name] = {k: interval(v, clusters=sample.labels) for k, v in values.items()}
            progress.update(len(sample.images))
    return found


def randomised(sample: Sample, maps: dict[str, Maps], layer: str) -> dict[str, dict[str, Any]]:
    """For each method, how much its maps agree with those of a randomised model (MPRT).

    `agreement` with all parameters randomised, its within-class `permutation_baseline`, and the
    paired difference `above_chance`: what is left of the image itself. And the agreement after each
    step of the `cascading` randomisation.
    """
    parts = sanity.parts(sample.model)
    first = slice(CASCADE_IMAGES)
    found = {}
    total = len(sample.images) + (len(parts) - 1) * len(sample.images[first])
    with progress_bar(len(maps) * total, "randomised parameters") as progress:
        for method, of in maps.items():
            original = localization.without_degenerate(of)

            def after(count: int, rows: slice, method: str = method) -> Maps:
                images, targets = sample.images[rows], sample.predicted[rows]
                progress.update(len(images))
                return sanity.maps_of_randomised(
                    sample.model, images, targets, method, parts[:count], layer=layer
                )

            full = after(len(parts), slice(None))
            steps = [*(after(i + 1, first) for i in range(len(parts) - 1)), full[first]]
            agreement = rank_agreement(original, full)
            baseline = permutation_baseline(original, full, sample.labels, seed=SEED)
            found[method] = {
                "agreement": interval(agreement, clusters=sample.labels),
                "permutation_baseline": interval(baseline, clusters=sample.labels),
                "above_chance": interval(agreement - baseline, clusters=sample.labels),
                "cascading": [
                    {
                        "part": part,
                        "agreement": interval(
                            rank_agreement(original[first], step), clusters=sample.labels[first]
                        ),
                    }
                    for part, step in zip(parts, steps, strict=True)
                ],
            }
    return found


def localized(sample: Sample, maps: Maps) -> Scores:
    """Where the relevance of the valid maps lies: in the centre, and in the ground-truth masks."""
    values: dict[str, Float[np.ndarray, " n"] | None] = {
        "central_mass": localization.relevance_mass(maps, localization.centre(len(maps))),
        **dict.fromkeys(("relevance_mass", "pointing_hit", "mask_auc")),
    }
    if sample.masks is not None:
        values["relevance_mass"] = localization.relevance_mass(maps, sample.masks)
        values["pointing_hit"] = localization.pointing_hit(maps, sample.masks)
        values["mask_auc"] = localization.mask_auc(maps, sample.masks)
    good = localization.valid(maps)
    return {
        key: None if of is None else interval(np.where(good, of, np.nan), clusters=sample.labels)
        for key, of in values.items()
    }


def findings(
    sample: Sample,
    maps: dict[str, Maps],
    explained: dict[str, Explained],
    removal: tuple[Removal, Removal],
    top_k: dict[str, Scores],
    randomised: dict[str, dict[str, Any]],
    idsds: Scores,
) -> dict[str, Any]:
    """The part of explanations.json with the scores, all measured on the sample."""
    mean_colour, blurred = removal
    scores: dict[str, Scores] = {}
    for name, of in maps.items():
        with_blur = blurred.scores(name)
        scores[name] = {
            **mean_colour.scores(name),
            "deletion_blur": with_blur["deletion"],
            "insertion_blur": with_blur["insertion"],
            **top_k[name],
            "idsds": idsds[name],
            **localized(sample, of),
        }
    methods = {}
    for name, found in explained.items():
        checks = dict(randomised[name])
        cascading = checks.pop("cascading")
        described = _method(sample, name, found, maps)
        methods[name] = described | {
            "scores": scores[name] | described["scores"],
            "randomised": checks,
            "cascading": cascading,
            "deletion_ahead_of": {o: mean_colour.ahead(name, o) for o in maps if o != name},
            "deletion_blur_ahead_of": {o: blurred.ahead(name, o) for o in maps if o != name},
        }
    masks = sample.masks
    return {
        "methods": methods,
        "baselines": {n: {"label": of, "scores": scores[n]} for n, of in BASELINES.items()},
        "mask_chance": None
        if masks is None
        else interval(masks.mean(axis=(1, 2)), clusters=sample.labels),
        "centre_chance": 0.25,
    }


def _method(
    sample: Sample, name: str, explained: Explained, maps: dict[str, Maps]
) -> dict[str, Any]:
    """A method's properties, its degenerate maps, and what its maps alone show."""
    rows = slice(len(sample.images))
    reasons = Counter(reason for reason in explained.degenerate_reasons[rows] if reason)
    method = attribution.METHODS[name]
    for reason, count in reasons.items():
        noun = "map is" if count == 1 else "maps are"
        logger.info("%s: %d %s not scored: %s.", method.label, count, noun, reason)
    sensitivity = None
    if explained.others is not None:
        values = localization.class_sensitivity(explained.maps[rows], explained.others)
        sensitivity = interval(values, clusters=sample.labels)
    known = localization.without_degenerate(maps[name])
    return {
        "label": method.label,
        "class_specific": method.class_specific,
        "signed": method.signed,
        "invalid_because": explained.invalid_because,
        "degenerate": reasons.total(),
        "degenerate_because": dict(reasons),
        "scores": {"class_sensitivity": sensitivity},
        "trivial_baselines": {
            other: interval(rank_agreement(known, maps[other]), clusters=sample.labels)
            for other in ("centre", "edges", "mean")
        },
    }
