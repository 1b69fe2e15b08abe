"""Cross-testing: how much of its own deletion gain a model keeps with the other model's maps."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from visavis.compare.pairing import Arrays
from visavis.config import MODEL_NAMES
from visavis.metrics.bootstrap import Interval, ratio_interval

Scores = Float[np.ndarray, " n"]


@dataclass(frozen=True)
class Deletion:
    """Mean probability of one model along the deletion curves of each image."""

    random: Scores
    oracle: Scores
    by_map: dict[str, Scores]
    """By model and method, such as "cnn grad_cam"."""

    def gain(self, of: str) -> Scores:
        """How much faster than in random order the probability falls in the order of a map."""
        return self.random - self.by_map[of]


def own_and_foreign(
    name: str, removal: Arrays, indices: Int[np.ndarray, " n"], foreign: dict[str, Scores]
) -> Deletion:
    """What the explain stage measured on these test images, with the other model's maps added."""
    row_of = {index: row for row, index in enumerate(removal["indices"].tolist())}
    rows = np.array([row_of[index] for index in indices.tolist()])
    own = {
        f"{name} {key.removeprefix('deletion_')}": values[rows]
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
            "model": name,
            "method": method,
            "deletion": {
                on: ratio_interval(
                    found.gain(f"{name} {method}"), found.random - found.oracle, clusters=labels
                )
                for on, found in deletions.items()
            },
        }
        for name in MODEL_NAMES
        for method in methods[name]
    ]


def transfer(
    deletions: dict[str, Deletion], pairs: list[tuple[str, str]], labels: Int[np.ndarray, " n"]
) -> list[dict[str, Any]]:
    """For each pair of a CNN's and a ViT's method, the fraction of its gain that a model keeps.

    That is the gain with the other model's map over the gain with the model's own; None unless the
    latter is significant.
    """

    def kept(tested: str, own: str, foreign: str) -> Interval | None:
        found = deletions[tested]
        return ratio_interval(found.gain(foreign), found.gain(own), clusters=labels)

    return [
        {
            "cnn_method": a,
            "vit_method": b,
            "cnn_transfer": kept("cnn", f"cnn {a}", f"vit {b}"),
            "vit_transfer": kept("vit", f"vit {b}", f"cnn {a}"),
        }
        for a, b in pairs
    ]
