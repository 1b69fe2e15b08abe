"""What is measured about the maps of the sample: the numbers of explanations.json."""

import logging
from collections import Counter
from typing import Any

import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from visavis import attribution
from visavis.attribution import Subject
from visavis.attribution.batched import grid_maps
from visavis.attribution.degenerate import Maps, degenerate_reasons, valid, without_degenerate
from visavis.config import EXPLANATION_SEED as SEED
from visavis.data.batches import Images
from visavis.metrics import (
    baselines,
    complexity,
    faithfulness,
    localization,
    robustness,
    sanity,
)
from visavis.metrics.agreement import permutation_baseline, rank_agreement
from visavis.metrics.bootstrap import Interval, interval
from visavis.metrics.faithfulness import Removal
from visavis.metrics.keep_top import keep_top
from visavis.metrics.masking import FILLS
from visavis.stages.explain.in_domain import accuracies, idsds_scores
from visavis.stages.explain.maps import Explained
from visavis.stages.explain.selection import FEW, PAIRED, Sample

logger = logging.getLogger(__name__)

BASELINES = {
    "random": "Random map",
    "blob": "Blob at a random place",
    "centre": "Centred Gaussian",
    "edges": "Edge strength",
    "mean": "Mean of the model's maps",
}
"""Maps that do not depend on the model, or not on the image."""

RANDOMISED_IMAGES = 100
"""Of the sample, for the randomisation of all parameters: each needs another of its class."""

Scores = dict[str, Interval | None]


def measure(
    sample: Sample,
    explained: dict[str, Explained],
    default: str,
    copied: Subject,
) -> tuple[dict[str, Any], Removal]:
    """All scores of explanations.json, and the deletion and insertion of each image.

    Args:
        default: the method whose mean map is a baseline.
        copied: the model, trained further on masked images; IDSDS is measured on it.
    """
    rows = slice(len(sample.images))
    maps = {name: found.maps[rows] for name, found in explained.items()}
    mean = baselines.mean_maps(maps[default])
    maps |= baselines.without_model(sample.images.cpu().numpy(), sample.subject.grid, seed=SEED)
    maps["mean"] = mean
    signed = {name: of.signed[rows] for name, of in explained.items() if of.signed is not None}
    removal = sample.removal(maps, signed, bar="SRG")
    runner_up = _of_runner_up(sample, explained)
    idsds = idsds_scores(sample, maps, explained, copied)
    kept = _kept(sample, maps, signed)
    scores = {
        name: {
            **removal.scores(name),
            **_contrast(sample, removal, runner_up, name),
            "idsds": idsds[name],
            "keep_top_20": sample.share(kept[name]),
            **_each_by_itself(sample, of),
        }
        for name, of in maps.items()
    }
    methods = {
        name: {
            **_described(sample, name, explained[name], maps, scores[name]),
            **randomised(sample, name, maps[name]),
            **_ahead_of(sample, removal, maps, name),
            "keep_top_ahead_of": {"blob": sample.interval(kept[name] - kept["blob"])},
        }
        for name in tqdm(explained, "randomised parameters", unit=" methods", disable=None)
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


def _kept(
    sample: Sample, maps: dict[str, Maps], signed: dict[str, Maps]
) -> dict[str, Float[np.ndarray, " n"]]:
    """Whether each image is predicted correctly with the highest fifth of each map's cells."""
    return {
        name: keep_top(sample.subject, sample.images, of, sample.labels, signed=signed.get(name))
        for name, of in tqdm(maps.items(), "keep-top-k accuracy", unit=" methods", disable=None)
    }


def _of_runner_up(sample: Sample, explained: dict[str, Explained]) -> Removal:
    """Deletion and insertion of the predicted class, by the maps for the runner-up."""
    maps = {name: of.runner_up for name, of in explained.items() if of.runner_up is not None}
    signed = {
        name: of.signed_runner_up
        for name, of in explained.items()
        if of.signed_runner_up is not None
    }
    return sample.removal(maps, signed, bar="SRG, runner-up")


def _contrast(sample: Sample, removal: Removal, runner_up: Removal, name: str) -> Scores:
    """Contrast of a map, and the SRG of the runner-up's; 0 and None where it knows no class."""
    if name not in runner_up.deletion:
        return {"contrast": {"value": 0.0, "low": 0.0, "high": 0.0}, "srg_runner_up": None}
    contrast = faithfulness.contrast(removal, runner_up, name)
    of = sample.interval(runner_up.srg(name))
    return {"contrast": sample.interval(contrast), "srg_runner_up": of}


def _each_by_itself(sample: Sample, maps: Maps) -> Scores:
    """The metrics that score each map by itself; None for those on a mask where there is none."""
    centre = localization.centre(*maps.shape[:2])
    found = {
        "central_mass": localization.relevance_mass(maps, centre),
        "gini": complexity.gini(maps),
        "largest_part": complexity.largest_part(maps),
    }
    if sample.masks is not None:
        found |= {
            "relevance_mass": localization.relevance_mass(maps, sample.masks),
            "pointing_hit": localization.pointing_hit(maps, sample.masks),
            "mask_auc": localization.mask_auc(maps, sample.masks),
        }
    known = {key: np.where(valid(maps), values, np.nan) for key, values in found.items()}
    on_masks: Scores = dict.fromkeys(("relevance_mass", "pointing_hit", "mask_auc"))
    return on_masks | {key: sample.interval(values) for key, values in known.items()}


def _ahead_of(
    sample: Sample, removal: Removal, maps: dict[str, Maps], name: str
) -> dict[str, Scores | None]:
    """What a map has more than each other map: SRG, also with each fill, and mass on the mask."""
    others = [other for other in maps if other != name]
    return {
        "mask_ahead_of": _mask_ahead_of(sample, maps, name),
        "srg_ahead_of": {other: removal.ahead(name, other) for other in others},
        **{
            f"srg_{fill}_fill_ahead_of": {o: removal.ahead(name, o, fill) for o in others}
            for fill in FILLS
        },
    }


def _mask_ahead_of(sample: Sample, maps: dict[str, Maps], name: str) -> Scores | None:
    """How much more of a map is on the mask than of an even one and of two baselines."""
    if sample.masks is None:
        return None
    own = localization.relevance_mass(maps[name], sample.masks)
    others = {"chance": sample.masks.mean(axis=(1, 2))}
    for other in ("centre", "edges"):
        others[other] = localization.relevance_mass(maps[other], sample.masks)
    known = valid(maps[name])
    return {o: sample.interval(np.where(known, own - of, np.nan)) for o, of in others.items()}


def randomised(sample: Sample, method: str, maps: Maps) -> dict[str, Any]:
    """How much a method's maps agree with those of a randomised model (MPRT).

    Under "randomised", all parameters are: the `agreement`, its within-class
    `permutation_baseline`, and the paired difference `above_chance`, which is what is left of the
    image itself. Under "cascading", the agreement after each part, from the head down.
    """
    parts = sanity.parts(sample.subject.model)
    original = without_degenerate(maps[:RANDOMISED_IMAGES])
    first = slice(FEW)

    def after(count: int, rows: slice) -> Maps:
        images, targets = sample.images[rows], sample.predicted[rows]
        return sanity.maps_of_randomised(
            sample.subject, images, targets, method, parts[:count], layer=sample.layer
        )

    full = after(len(parts), slice(RANDOMISED_IMAGES))
    agreement = rank_agreement(original, full)
    baseline = permutation_baseline(original, full, sample.predicted[:RANDOMISED_IMAGES])
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


def on_other_background(
    sample: Sample, explained: dict[str, Explained], images: Images
) -> dict[str, Any]:
    """How often the prediction stays, and how much of each method's maps, on another background.

    On the built-in shapes nothing but the shape determines the class (`shapes.draw_test`), so what
    moves with the background alone cannot be about the class. Beside the `map`'s rank agreement
    stands its `map_baseline`: the same with the map of another image that is predicted as the same
    class, which is what the shapes' common layout alone would give.

    Args:
        images: those of the sample with their backgrounds exchanged.
    """
    predictions = sample.subject.predict(images).argmax(dim=1).cpu().numpy()
    methods = {}
    for name, of in explained.items():
        (others,) = grid_maps(sample.subject, images, [sample.predicted], name, layer=sample.layer)
        pair = without_degenerate(of.maps[: len(images)]), without_degenerate(others)
        methods[name] = {
            "map": sample.interval(rank_agreement(*pair)),
            "map_baseline": sample.interval(permutation_baseline(*pair, sample.predicted)),
        }
    return {
        "n": len(images),
        "prediction": interval(predictions == sample.predicted),
        "methods": methods,
    }


def _robustness(sample: Sample, method: str, maps: Maps) -> Scores:
    """How much a method's maps agree with those of the same images after small changes."""
    first = slice(PAIRED)
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
    reasons = Counter(filter(None, degenerate_reasons(explained.maps[rows])))
    method = attribution.METHODS[name]
    for reason, count in reasons.items():
        noun = "map is" if count == 1 else "maps are"
        logger.info("%s: %d %s not scored: %s.", method.label, count, noun, reason)
    sensitivity = None
    if explained.runner_up is not None:
        values = localization.class_sensitivity(explained.maps[rows], explained.runner_up)
        sensitivity = sample.interval(values)
    known = without_degenerate(maps[name])
    return {
        "label": method.label,
        "class_specific": method.class_specific,
        "signed": method.signed,
        "degenerate": reasons.total(),
        "degenerate_because": dict(reasons),
        "scores": scores | {"class_sensitivity": sensitivity},
        "trivial_baselines": {
            other: sample.interval(rank_agreement(known, maps[other]))
            for other in ("centre", "edges", "mean")
        },
        "robustness": _robustness(sample, name, maps[name]),
    }
