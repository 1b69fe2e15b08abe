"""Can the scores themselves be trusted? On the built-in shapes the truth is known.

A score is useful if it ranks maps as the truth does, gives nothing to a map that knows nothing, and
falls as a good map is spoilt. Each score is therefore computed for all maps of a model: every
method, Grad-CAM at every layer, and the trivial baselines. Two truths need no masked images that
look strange: SRG where masked cells are taken from the same image drawn without its shape (a clean
plate), and Shapley values of the cells with that fill. The ground-truth mask is the third.
"""

import logging
from collections.abc import Mapping
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

from visavis.attribution.batched import grid_maps
from visavis.attribution.degenerate import Maps, valid
from visavis.attribution.subject import Subject
from visavis.config import EXPLANATION_SEED as SEED
from visavis.data.batches import Images
from visavis.metrics import baselines, faithfulness, idsds, localization, shapley
from visavis.metrics.agreement import rank_agreement
from visavis.metrics.bootstrap import MINIMUM
from visavis.metrics.keep_top import keep_top
from visavis.stages.explain.selection import Sample

logger = logging.getLogger(__name__)

LEAST_CORRELATION = 0.9
"""Of the headline with the truths that ask the model, over maps."""
BLOB_TOLERANCE = 0.1
"""Of the best map's SRG: what the blob may have, if its interval excludes 0."""
BASELINES = ("random", "blob", "centre", "edges")
NOISY = ("25 % noise", "50 % noise", "75 % noise", "noise")
SHIFTED = ("1 cell away", "2 cells away", "3 cells away")

Values = dict[str, Float[np.ndarray, " n"]]
"""Of each image, by map."""


def validate(
    sample: Sample,
    maps: dict[str, Maps],
    copied: Subject,
    known: faithfulness.Removal,
    *,
    plates: Images,
    masks: Bool[np.ndarray, "n side side"],
) -> dict[str, Any] | None:
    """Hold each score against the truths; say whether the headline, SRG, passes.

    Args:
        maps: of the sample, by method; the one with the highest SRG is spoilt.
        known: deletion and insertion by those of the maps that were measured already.
        plates: the images of the sample without their object; `masks`, where it is.
        copied: the model, trained further on masked images; IDSDS is measured on it.

    Returns:
        "n", "maps", "scores" by name (each with its rank correlation with each truth over the maps,
        its value for the blob and the images that it needs; SRG also its "course" as a map is
        spoilt), "passed", and "failed_because". None if too few maps of the model are valid.
    """
    n = len(sample.images)
    logger.info("Testing the scores themselves on %d images, against the known truth.", n)
    shown, signed = _all_maps(sample, maps)
    # A method or a layer of which too few maps are valid has no score.
    shown = {name: of for name, of in shown.items() if valid(of).sum() >= MINIMUM}
    of_model = [name for name in shown if name not in BASELINES]
    if not of_model:
        return None
    truths = _truths(sample, shown, signed, plates, masks)
    removal = _removal(sample, shown, signed, known)
    scores = _scores(sample, shown, signed, removal, copied)
    good = max(of_model, key=lambda name: np.nanmean(scores["srg"][name]))
    spoilt = _spoilt(signed.get(good, shown[good]))
    course = sample.removal(spoilt, {}, bar="SRG, spoilt")
    found = {
        score: {
            "correlation": {truth: correlation(of, truths[truth]) for truth in truths},
            "blob": sample.interval(of["blob"]),
            "images_needed": _images_needed(of[good], of["centre"]),
        }
        for score, of in scores.items()
    }
    found["srg"]["course"] = {name: float(np.nanmean(course.srg(name))) for name in spoilt}
    reasons = _failures(found["srg"], course, float(np.nanmean(scores["srg"][good])))
    return {
        "n": n,
        "maps": list(shown),
        "spoilt_map": good,
        "scores": found,
        "passed": not reasons,
        "failed_because": reasons,
    }


def _all_maps(sample: Sample, maps: dict[str, Maps]) -> tuple[dict[str, Maps], dict[str, Maps]]:
    """All maps of the model and the baselines, and the signed maps behind a ReLU."""
    subject = sample.subject
    shown = {name: of for name, of in maps.items() if name != "grad_cam"}
    signed = {}
    grid_cam = partial(grid_maps, subject, sample.images, [sample.predicted], "grad_cam")
    for layer in subject.layers if "grad_cam" in maps else ():
        (shown[f"grad_cam {layer}"],) = grid_cam(layer=layer)
        (signed[f"grad_cam {layer}"],) = grid_cam(layer=layer, before_relu=True)
    shown |= baselines.without_model(sample.images.cpu().numpy(), subject.grid, seed=SEED)
    return shown, signed


def _truths(
    sample: Sample,
    maps: dict[str, Maps],
    signed: dict[str, Maps],
    plates: Images,
    masks: Bool[np.ndarray, "n side side"],
) -> dict[str, Values]:
    """What each map is worth, of each image, by three truths."""
    differ = (sample.images != plates).any(dim=1).cpu().numpy()
    of_cells = shapley.of_cells(
        sample.subject, sample.images, sample.targets, differ, fills=plates, seed=SEED
    )
    inside = localization.cell_means(masks, sample.subject.grid)
    bar = "SRG, clean plates"
    by_plates = sample.removal(maps, signed, masked_with=plates, bar=bar)
    return {
        "clean_plate": {name: by_plates.srg(name) for name in maps},
        "shapley": {name: rank_agreement(of, of_cells) for name, of in maps.items()},
        "mask": {
            name: np.where(valid(of), localization.mask_auc(of, inside), np.nan)
            for name, of in maps.items()
        },
    }


def _removal(
    sample: Sample,
    maps: dict[str, Maps],
    signed: dict[str, Maps],
    known: faithfulness.Removal,
) -> faithfulness.Removal:
    """Deletion and insertion by all of `maps`, without measuring again what is known."""
    n = len(sample.images)
    names = [name for name in maps if name in known.deletion]
    deletion = {name: known.deletion[name][:n] for name in names}
    insertion = {name: known.insertion[name][:n] for name in names}
    if others := {name: of for name, of in maps.items() if name not in names}:
        measured = sample.removal(others, signed, bar="SRG, all maps")
        deletion |= measured.deletion
        insertion |= measured.insertion
    return faithfulness.Removal(deletion, insertion, sample.labels)


def _scores(
    sample: Sample,
    maps: dict[str, Maps],
    signed: dict[str, Maps],
    removal: faithfulness.Removal,
    copied: Subject,
) -> dict[str, Values]:
    """Each score of each map, so that higher is better."""
    drops = idsds.logit_drops(copied, sample.images, sample.targets)
    return {
        "srg": {name: removal.srg(name) for name in maps},
        "deletion": {name: -removal.deletion[name].mean(axis=1) for name in maps},
        "insertion": {name: removal.insertion[name].mean(axis=1) for name in maps},
        "idsds": {name: idsds.score(of, drops) for name, of in maps.items()},
        "keep_top_20": {
            name: keep_top(
                sample.subject, sample.images, of, sample.labels, signed=signed.get(name)
            )
            for name, of in maps.items()
        },
    }


def _spoilt(maps: Maps) -> dict[str, Maps]:
    """A map as it is, its ranks mixed with more and more noise, and shifted further and further."""
    generator = np.random.default_rng(SEED)
    flat = np.nan_to_num(maps).reshape(len(maps), -1)
    ranks = stats.rankdata(flat, axis=1) / flat.shape[1]
    noise = generator.random(flat.shape)
    mixed = {
        name: ((1 - part) * ranks + part * noise).reshape(maps.shape)
        for name, part in zip(NOISY, (0.25, 0.5, 0.75, 1.0), strict=True)
    }
    turns = generator.integers(0, 4, len(maps))
    shifted = {}
    for cells, name in enumerate(SHIFTED, start=1):
        moves = np.array([(cells, 0), (-cells, 0), (0, cells), (0, -cells)])[turns]
        pairs = zip(ranks.reshape(maps.shape), moves, strict=True)
        shifted[name] = np.stack([np.roll(of, move, axis=(0, 1)) for of, move in pairs])
    spoilt = {"as it is": ranks.reshape(maps.shape), **mixed, **shifted}
    lost = ~valid(maps)
    for of in spoilt.values():
        of[lost] = np.nan
    return spoilt


def correlation(score: Values, truth: Values) -> float:
    """Spearman's rank correlation of two values over the maps, each the mean over images.

    0 if one of them is the same for every map, as accuracies are of a model at chance.
    """
    values = np.array([(np.nanmean(score[name]), np.nanmean(truth[name])) for name in score])
    if (values == values[0]).all(axis=0).any():
        return 0.0
    return float(stats.spearmanr(*values.T).statistic)


def _images_needed(best: Float[np.ndarray, " n"], centre: Float[np.ndarray, " n"]) -> int | None:
    """Images that show a lead of this size over the centre, with a power of 80 %; None for none."""
    lead = best - centre
    mean, deviation = np.nanmean(lead), np.nanstd(lead, ddof=1)
    if mean <= 0:
        return None
    return int(np.ceil(((stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * deviation / mean) ** 2))


def _failures(srg: Mapping[str, Any], course: faithfulness.Removal, best: float) -> list[str]:
    """Why the headline is no score to trust; empty if it is one.

    Args:
        course: of the map that is spoilt; a step fails if SRG rises there beyond its interval.
    """
    reasons = [
        f"its rank correlation with {words} is {srg['correlation'][truth]:.2f}, below "
        f"{LEAST_CORRELATION}"
        for truth, words in (("clean_plate", "the clean plates"), ("shapley", "Shapley values"))
        if not srg["correlation"][truth] >= LEAST_CORRELATION
    ]
    blob = srg["blob"]
    excluded = blob and (blob["low"] > 0 or blob["high"] < 0)
    if excluded and abs(blob["value"]) > BLOB_TOLERANCE * best:
        reasons.append(f"a blob that knows nothing has {blob['value']:.2f}")
    for steps in (("as it is", *NOISY), ("as it is", *SHIFTED)):
        rises = [course.ahead(later, earlier) for earlier, later in pairwise(steps)]
        whole = course.ahead(steps[0], steps[-1])
        if any(rise and rise["low"] > 0 for rise in rises) or not (whole and whole["low"] > 0):
            values = ", ".join(f"{srg['course'][name]:.2f}" for name in steps)
            reasons.append(f"it does not fall as a map is spoilt ({values})")
    return reasons
