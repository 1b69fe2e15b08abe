"""Cross-testing: how much of its own deletion gain a model keeps with the other model's maps."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from visavis.compare.pairing import Arrays
from visavis.metrics.bootstrap import Interval, ratio_interval
from visavis.run_folder import ROLES

Scores = Float[np.ndarray, " n"]


@dataclass(frozen=True)
class Deletion:
    """Mean probability of one model along the deletion curves of each image."""

    random: Scores
    oracle: Scores
    by_map: dict[str, Scores]
    """By role and method, such as "first grad_cam"."""

    def gain(self, of: str) -> Scores:
        """How much faster than in random order the probability falls in the order of a map."""
        return self.random - self.by_map[of]


def own_and_foreign(
    role: str, removal: Arrays, indices: Int[np.ndarray, " n"], foreign: dict[str, Scores]
) -> Deletion:
    """What the explain stage measured on these test images, with the other model's maps added."""
    row_of = {index: row for row, index in enumerate(removal["indices"].tolist())}
    rows = np.array([row_of[index] for index in indices.tolist()])
    own = {
        f"{role} {key.removeprefix('deletion_')}": values[rows]
        for key, values in removal.items()
        if key.startswith("deletion_")
    }
    return Deletion(removal["random"][rows], removal["oracle_deletion"][rows], own | foreign)


def rankings(
    deletions: dict[str, Deletion], methods: dict[str, list[str]], labels: Int[np.ndarray, " n"]
) -> list[dict[str, Any]]:
    """The deletion score of every map on both models: its gain over the oracle's gain.

    Args:
        deletions: measured on each model.
        methods: of each model.
        labels: the true class of each image, for the intervals.
    """
    return [
        {
            "model": role,
            "method": method,
            "deletion": {
                on: ratio_interval(
                    found.gain(f"{role} {method}"), found.random - found.oracle, classes=labels
                )
                for on, found in deletions.items()
            },
        }
        for role in ROLES
        for method in methods[role]
    ]


def transfer(
    deletions: dict[str, Deletion], pairs: list[tuple[str, str]], labels: Int[np.ndarray, " n"]
) -> list[dict[str, Any]]:
    """For each pair of a first and a second model's method, the fraction of its gain a model keeps.

    That is the gain with the other model's map over the gain with the model's own; None unless the
    latter is significant.
    """

    def kept(tested: str, own: str, foreign: str) -> Interval | None:
        found = deletions[tested]
        return ratio_interval(found.gain(foreign), found.gain(own), classes=labels)

    return [
        {
            "first_method": a,
            "second_method": b,
            "first_transfer": kept("first", f"first {a}", f"second {b}"),
            "second_transfer": kept("second", f"second {b}", f"first {a}"),
        }
        for a, b in pairs
    ]
