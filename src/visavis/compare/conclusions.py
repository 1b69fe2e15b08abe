"""Attribution methods across the trainings of a variant: which conclusions hold for all?"""

import statistics
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from visavis.compare.trainings import Training, shared_methods
from visavis.metrics import over_trainings
from visavis.metrics.significance import side

SCORES = ("contrast", "idsds", "keep_top_20", "central_mass", "relevance_mass", "mask_auc")
"""Beside SRG; the last two need ground-truth masks."""

BASELINES = ("blob", "centre", "edges")
"""What a method should be ahead of: maps that know nothing of the model."""


def of_variant(trainings: Sequence[Training]) -> dict[str, Any]:
    """What the trainings of one variant show about its attribution methods.

    Returns:
        `methods`: SRG of each (metrics.over_trainings.spread), of its other `scores` the `values`
        in the trainings in which they are available, their mean (`value`), `lowest` and `highest`
        (None without any), and in how many trainings it has the highest SRG.
        `conclusions`: what `conclusion` returns, for each that a single training would let one
        draw.
    """
    srg = {name: _srg(trainings, name) for name in shared_methods(trainings)}
    classes = _classes(trainings[0])
    best = _best_in_each(srg)
    found = [each.model.explanations["methods"] for each in trainings]
    return {
        "methods": {
            name: {
                "label": found[0][name]["label"],
                "srg": over_trainings.spread(values, classes=classes),
                "scores": {
                    key: _range([of[name]["scores"].get(key) for of in found]) for key in SCORES
                },
                "best_in": best.count(name),
            }
            for name, values in srg.items()
        },
        "conclusions": list(_conclusions(found, list(srg))),
    }


def _srg(trainings: Sequence[Training], method: str) -> np.ndarray:
    """SRG on each image of the sample, in the order of its indices; NaN for a degenerate map."""
    rows = []
    for each in trainings:
        rows.append(each.model.srg(method)[np.argsort(each.model.removal["indices"])])
    return np.stack(rows)


def _classes(training: Training) -> np.ndarray:
    return training.model.labels[np.sort(training.model.removal["indices"])]


def _best_in_each(srg: dict[str, np.ndarray]) -> list[str | None]:
    """For each training, the method with the highest mean SRG; None without a valid map."""
    found = []
    for rows in zip(*srg.values(), strict=True):
        known = {
            name: row[np.isfinite(row)].mean()
            for name, row in zip(srg, rows, strict=True)
            if np.isfinite(row).any()
        }
        found.append(max(known, key=known.__getitem__) if known else None)
    return found


def _range(of_trainings: Sequence[dict[str, float] | None]) -> dict[str, Any] | None:
    """A score over the trainings in which it is available."""
    values = [of["value"] for of in of_trainings if of is not None]
    if not values:
        return None
    mean = statistics.fmean(values)
    return {"values": values, "value": mean, "lowest": min(values), "highest": max(values)}


def _conclusions(found: Sequence[Any], methods: Sequence[str]) -> Iterator[dict[str, Any]]:
    for name in methods:
        srg = [of[name]["scores"]["srg"] for of in found]
        yield conclusion("above_zero", name, None, [side(each) for each in srg])
        for other in BASELINES:
            yield conclusion("ahead_of", name, other, _ahead(found, name, other))
        if found[0][name]["class_specific"]:
            contrast = [of[name]["scores"]["contrast"] for of in found]
            yield conclusion("contrast", name, None, [side(each) for each in contrast])
    for name, other in combinations(methods, 2):
        yield conclusion("ahead_of", name, other, _ahead(found, name, other))


def _ahead(found: Sequence[Any], name: str, other: str) -> list[int]:
    return [side(of[name]["srg_ahead_of"][other]) for of in found]


def conclusion(kind: str, method: str, other: str | None, sides: list[int]) -> dict[str, Any]:
    """What each training shows of a claim, and whether it holds for all of them.

    Args:
        kind: above_zero (its SRG is), ahead_of (its SRG is higher than the other map's) or contrast
            (its map is about the class).
        sides: of each training: 1 if its interval shows the claim, -1 if the opposite, 0 if
            neither.

    Returns:
        With `holds`: "always" or "never" if all trainings show it, or its opposite; "flips" if some
        show it and some the opposite; "sometimes" or "sometimes not" if some alone show it, or its
        opposite; "open" if none shows either.
    """
    shown = set(sides)
    if {1, -1} <= shown:
        holds = "flips"
    elif shown == {1}:
        holds = "always"
    elif shown == {-1}:
        holds = "never"
    else:
        holds = "sometimes" if 1 in shown else "sometimes not" if -1 in shown else "open"
    return {"kind": kind, "method": method, "other": other, "sides": sides, "holds": holds}
