"""Cross-testing: how much of its own SRG a model keeps with the other model's maps."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from visavis.metrics.bootstrap import Interval, interval, ratio_interval
from visavis.run_folder import ROLES, ModelFolder

Gains = dict[str, Float[np.ndarray, " n"]]
"""SRG of each image on one model, by the role and method of the map, such as "first grad_cam"."""


def own_and_foreign(
    role: str, model: ModelFolder, indices: Int[np.ndarray, " n"], foreign: Gains
) -> Gains:
    """What the explain stage measured on these test images, with the other model's maps added."""
    row_of = {index: row for row, index in enumerate(model.removal["indices"].tolist())}
    rows = np.array([row_of[index] for index in indices.tolist()])
    methods = model.explanations["methods"]
    return {f"{role} {method}": model.srg(method)[rows] for method in methods} | foreign


def rankings(
    gains: dict[str, Gains], methods: dict[str, list[str]], labels: Int[np.ndarray, " n"]
) -> list[dict[str, Any]]:
    """SRG of every map on both models.

    Args:
        gains: measured on each model.
        methods: of each model.
        labels: the true class of each image, for the intervals.
    """
    return [
        {
            "model": role,
            "method": method,
            "srg": {
                on: interval(found[f"{role} {method}"], classes=labels)
                for on, found in gains.items()
            },
        }
        for role in ROLES
        for method in methods[role]
    ]


def transfer(
    gains: dict[str, Gains], pairs: list[tuple[str, str]], labels: Int[np.ndarray, " n"]
) -> list[dict[str, Any]]:
    """For each pair of a first and a second model's method, the fraction of its SRG a model keeps.

    That is the SRG of the other model's map over that of the model's own; None unless the latter is
    significant.
    """

    def kept(tested: str, own: str, foreign: str) -> Interval | None:
        found = gains[tested]
        return ratio_interval(found[foreign], found[own], classes=labels)

    return [
        {
            "first_method": a,
            "second_method": b,
            "first_transfer": kept("first", f"first {a}", f"second {b}"),
            "second_transfer": kept("second", f"second {b}", f"first {a}"),
        }
        for a, b in pairs
    ]
