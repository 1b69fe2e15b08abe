"""Which test images are explained: a random sample for the scores, and some to be shown."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from visavis.config import EXPLANATION_SEED as SEED

SHOWN = 8
"""Images of each kind, correct and incorrect, that are shown at most."""


@dataclass(frozen=True)
class Chosen:
    """The test images to explain, one row each, the sample first."""

    indices: Int[np.ndarray, " n"]
    labels: Int[np.ndarray, " n"]
    logits: Float[np.ndarray, "n classes"]
    sample: int
    """How many rows the scores are measured on."""
    gallery: dict[str, Any]
    """Rows under "correct" and "incorrect", and the rule that chose them."""

    @property
    def predicted(self) -> Int[np.ndarray, " n"]:
        """The class with the highest logit."""
        return self.logits.argmax(axis=1)

    @property
    def runner_up(self) -> Int[np.ndarray, " n"]:
        """The class with the highest logit but one."""
        others = self.logits.copy()
        others[np.arange(len(others)), self.predicted] = -np.inf
        return others.argmax(axis=1)

    @property
    def one_more_class(self) -> Int[np.ndarray, " n"]:
        """A class drawn from those that are neither predicted nor the runner-up, if there are."""
        if self.logits.shape[1] < 3:
            return self.runner_up
        chance = np.random.default_rng(SEED).random(self.logits.shape)
        rows = np.arange(len(chance))
        chance[rows, self.predicted] = chance[rows, self.runner_up] = -1
        return chance.argmax(axis=1)


def choose_images(
    logits: Float[np.ndarray, "m classes"],
    labels: Int[np.ndarray, " m"],
    *,
    sample: int,
    shown: int = SHOWN,
) -> Chosen:
    """A random sample, and by a fixed rule images that the model gets right and wrong.

    Args:
        shown: how many of each kind, at most.
    """
    walk = np.random.default_rng(SEED).permutation(len(labels))
    right = logits.argmax(axis=1) == labels
    gallery_of = {
        "correct": _varied(walk[right[walk]], labels, shown),
        "incorrect": _varied(walk[~right[walk]], labels, shown),
    }
    rows = list(walk[:sample])
    rows += [i for i in gallery_of["correct"] + gallery_of["incorrect"] if i not in set(rows)]
    row_of = {index: row for row, index in enumerate(rows)}
    rule = (
        "All test images are walked through in one random order, the same for both models. Of "
        "the images that the model gets right, and of those that it gets wrong, the first one "
        f"of each true class is taken, up to {shown}; then the next ones, until there are "
        f"{shown}."
    )
    for kind, found in gallery_of.items():
        if len(found) < shown:
            rule += f" There are only {len(found)} {kind} test images."
    indices = np.array(rows)
    gallery: dict[str, Any] = {k: [row_of[i] for i in found] for k, found in gallery_of.items()}
    return Chosen(
        indices, labels[indices], logits[indices], min(sample, len(walk)), gallery | {"rule": rule}
    )


def _varied(walk: Int[np.ndarray, " m"], labels: Int[np.ndarray, " n"], count: int) -> list[int]:
    """The first image of each class on the walk, then the next of any, up to `count`."""
    first = np.sort(np.unique(labels[walk], return_index=True)[1])[:count]
    rest = np.setdiff1d(np.arange(len(walk)), first)[: count - len(first)]
    return walk[np.concatenate([first, rest])].tolist()
