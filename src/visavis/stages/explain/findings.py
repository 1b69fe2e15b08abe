"""What is measured about the maps of the sample: the numbers of explanations.json."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from visavis import attribution
from visavis.config import EXPLANATION_SEED as SEED
from visavis.metrics import baselines, localization, minimal_subset, sanity
from visavis.metrics.agreement import permutation_baseline, rank_agreement
from visavis.metrics.bootstrap import Interval, interval
from visavis.metrics.faithfulness import FEW_STEPS, STEPS, Fill, Removal, measure
from visavis.metrics.localization import Maps
from visavis.models import Model
from visavis.stages.explain.maps import Explained

BASELINES = {
    "random": "Random map",
    "centre": "Centred Gaussian",
    "edges": "Edge strength",
    "mean": "Mean of the model's maps",
}
"""Maps that know nothing of the image, or nothing of the model."""

CASCADE_IMAGES = 25
"""Of the sample, for the shuffling of weights part by part; all are used for the whole."""

Scores = dict[str, Interval | None]


def with_baselines(
    maps: dict[str, Maps], images: Float[Tensor, "n 3 32 32"], main: str
) -> dict[str, Maps]:
    """The methods' maps and, after them, the baselines'; `main` gives the mean map."""
    n = len(images)
    return {
        **maps,
        "random": baselines.random_maps(n, seed=SEED),
        "centre": baselines.centre_maps(n),
        "edges": baselines.edge_maps(images.cpu().numpy()),
        "mean": baselines.mean_maps(maps[main]),
    }


def removals(
    model: Model,
    images: Float[Tensor, "n 3 32 32"],
    predicted: Int[np.ndarray, " n"],
    labels: Int[np.ndarray, " n"],
    maps: dict[str, Maps],
    *,
    random_orders: int,
    autocast: bool,
) -> tuple[Removal, Removal]:
    """Deletion and insertion with holes of the mean colour, and with blurred ones."""
    asked = torch.from_numpy(predicted).to(images.device)

    def with_holes(fill: Fill, steps: int, what: str) -> Removal:
        with tqdm(total=len(images), desc=what, unit=" images", disable=None) as progress:
            return measure(
                model,
                images,
                asked,
                maps,
                random_orders=random_orders,
                fill=fill,
                steps=steps,
                clusters=labels,
                seed=SEED,
                autocast=autocast,
                progress=progress.update,
            )

    return (
        with_holes("mean", STEPS, "deletion and insertion"),
        with_holes("blur", FEW_STEPS, "the same with blurred holes"),
    )


def keep_top_k(
    model: Model,
    images: Float[Tensor, "n 3 32 32"],
    predicted: Int[np.ndarray, " n"],
    labels: Int[np.ndarray, " n"],
    maps: dict[str, Maps],
) -> dict[str, Scores]:
    """For each kind of map, how few of its highest cells are enough, and how often few are."""
    found = {}
    with tqdm(
        total=len(maps) * len(images), desc="few cells", unit=" images", disable=None
    ) as progress:
        for name, of in maps.items():
            named = minimal_subset.answers(model, images, of, seed=SEED)
            area = minimal_subset.minimal_subset(named, predicted)
            found[name] = {
                "minimal_subset": interval(area, clusters=labels),
                **{
                    key: interval(right, clusters=labels)
                    for key, right in minimal_subset.accuracies(named, labels).items()
                },
            }
            progress.update(len(images))
    return found


def randomised(
    model: Model,
    images: Float[Tensor, "n 3 32 32"],
    predicted: Int[np.ndarray, " n"],
    labels: Int[np.ndarray, " n"],
    maps: dict[str, Maps],
    layer: str,
) -> dict[str, dict[str, Any]]:
    """For each method, what is left of its maps when the model's weights are shuffled.

    `agreement` with the true maps when all weights are, its `floor` with the shuffled model's map
    of another image of the class, and the paired `excess`: what is left of the image itself.
    And the agreement after each step of the `cascade`.
    """
    parts = sanity.parts(model)
    few = slice(CASCADE_IMAGES)
    found = {}
    total = len(maps) * ((len(parts) - 1) * len(images[few]) + len(images))
    with tqdm(total=total, desc="shuffled weights", unit=" images", disable=None) as progress:
        for method, of in maps.items():
            true = localization.without_degenerate(of)

            def left(count: int, rows: slice, method: str = method) -> Maps:
                without = sanity.maps_of_randomised(
                    model, images[rows], predicted[rows], method, parts[:count], layer=layer
                )
                progress.update(len(without))
                return without

            whole = left(len(parts), slice(None))
            steps = [*(left(i + 1, few) for i in range(len(parts) - 1)), whole[few]]
            agreement = rank_agreement(true, whole)
            floor = permutation_baseline(true, whole, labels, seed=SEED)
            found[method] = {
                "agreement": interval(agreement, clusters=labels),
                "permutation_baseline": interval(floor, clusters=labels),
                "above_chance": interval(agreement - floor, clusters=labels),
                "cascading": [
                    {
                        "part": part,
                        "agreement": interval(
                            rank_agreement(true[few], without), clusters=labels[few]
                        ),
                    }
                    for part, without in zip(parts, steps, strict=True)
                ],
            }
    return found


def findings(
    maps: dict[str, Maps],
    explained: dict[str, Explained],
    removal: tuple[Removal, Removal],
    cells: dict[str, Scores],
    shuffled: dict[str, dict[str, Any]],
    single: Scores,
    masks: Float[np.ndarray, "n 8 8"] | None,
    labels: Int[np.ndarray, " n"],
    tell: Callable[..., None],
) -> dict[str, Any]:
    """The part of explanations.json with the scores, all measured on the sample."""
    mean_colour, blurred = removal

    def told(values: Float[np.ndarray, " n"]) -> Interval | None:
        return interval(values, clusters=labels)

    def scores(name: str) -> Scores:
        good = np.isfinite(mean_colour.deletion[name])  # a refused map is not scored
        middle = localization.share_inside(maps[name], localization.centre(len(good)))
        also = blurred.scores(name)
        found = {
            **mean_colour.scores(name),
            "deletion_blur": also["deletion"],
            "insertion_blur": also["insertion"],
            **cells[name],
            "idsds": single[name],
            "central_mass": told(np.where(good, middle, np.nan)),
        }
        of_masks = ("relevance_mass", "pointing_hit", "mask_auc")
        if masks is None:
            return found | dict.fromkeys(of_masks)
        values = (
            localization.share_inside(maps[name], masks),
            localization.pointing_hit(maps[name], masks),
            localization.area_under_curve(maps[name], masks),
        )
        return found | {
            key: told(np.where(good, value, np.nan))
            for key, value in zip(of_masks, values, strict=True)
        }

    methods = {}
    for name, of in explained.items():
        sample = slice(len(maps[name]))
        reasons = Counter(reason for reason in of.degenerate_reasons[sample] if reason is not None)
        sensitivity = None
        if of.others is not None:
            sensitivity = told(localization.class_sensitivity(of.maps[sample], of.others))
        method = attribution.METHODS[name]
        for reason, count in reasons.items():
            noun = "map is" if count == 1 else "maps are"
            tell("%s: %d %s not scored: %s.", method.label, count, noun, reason)
        known = localization.without_degenerate(maps[name])
        methods[name] = {
            "label": method.label,
            "class_specific": method.class_specific,
            "signed": method.signed,
            "invalid_because": of.fault,
            "degenerate": reasons.total(),
            "degenerate_because": dict(reasons),
            "scores": scores(name) | {"class_sensitivity": sensitivity},
            "randomised": {
                key: shuffled[name][key]
                for key in ("agreement", "permutation_baseline", "above_chance")
            },
            "trivial_baselines": {
                other: told(rank_agreement(known, maps[other]))
                for other in ("centre", "edges", "mean")
            },
            "cascading": shuffled[name]["cascading"],
            "deletion_ahead_of": {o: mean_colour.ahead(name, o) for o in maps if o != name},
            "deletion_blur_ahead_of": {o: blurred.ahead(name, o) for o in maps if o != name},
        }
    return {
        "methods": methods,
        "baselines": {n: {"label": label, "scores": scores(n)} for n, label in BASELINES.items()},
        "mask_chance": None if masks is None else told(masks.mean(axis=(1, 2))),
        "centre_chance": 0.25,
    }
