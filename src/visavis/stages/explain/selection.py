"""Which test images are explained: a random sample for the scores, and a gallery to be shown."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from visavis.attribution import Subject
from visavis.attribution.degenerate import Maps
from visavis.config import EXPLANATION_SEED as SEED
from visavis.data.batches import Images, Targets
from visavis.metrics.bootstrap import MINIMUM, Interval, interval
from visavis.metrics.faithfulness import Removal, measure

FEW = 24
"""Images for what explains each of them several times more: an interval needs 20
(`bootstrap.MINIMUM`), and some of their maps may be degenerate."""
PAIRED = 30
"""The same where each image also needs another of its class, or has to keep its prediction."""
MISTAKES = PAIRED
"""Misclassified images that are explained, if there are so many: a good model's sample has few."""
SHOWN = 8
"""The most images of each kind, correct and incorrect, in the gallery."""


@dataclass(frozen=True)
class Chosen:
    """The test images to explain, one row each, the sample first."""

    indices: Int[np.ndarray, " n"]
    labels: Int[np.ndarray, " n"]
    logits: Float[np.ndarray, "n classes"]
    sample: int
    """How many rows the scores are measured on."""
    mistakes: Int[np.ndarray, " k"]
    """Rows of misclassified images: all of the sample's, and further ones."""
    gallery: dict[str, Any]
    """Rows under "correct" and "incorrect", and the rule that chose them."""

    @property
    def predicted(self) -> Int[np.ndarray, " n"]:
        """The class with the highest logit."""
        return self.logits.argmax(axis=1)

    @property
    def runner_up(self) -> Int[np.ndarray, " n"]:
        """The class with the second-highest logit."""
        others = self.logits.copy()
        others[np.arange(len(others)), self.predicted] = -np.inf
        return others.argmax(axis=1)


@dataclass(frozen=True)
class Sample:
    """The images that all scores are measured on, with the model that is explained."""

    subject: Subject
    images: Images
    predicted: Int[np.ndarray, " n"]
    """The target classes of the maps."""
    labels: Int[np.ndarray, " n"]
    masks: Float[np.ndarray, "n g g"] | None
    """The fraction of each cell inside the ground-truth mask, if the data has masks."""
    layer: str | None
    """Where Grad-CAM looks; None where it cannot."""

    @property
    def targets(self) -> Targets:
        """`predicted` on the device of the images."""
        return torch.from_numpy(self.predicted).to(self.images.device)

    def first(self, n: int) -> "Sample":
        """The first n images."""
        return replace(
            self,
            images=self.images[:n],
            predicted=self.predicted[:n],
            labels=self.labels[:n],
            masks=None if self.masks is None else self.masks[:n],
        )

    def removal(
        self,
        maps: dict[str, Maps],
        signed: dict[str, Maps],
        *,
        masked_with: Images | None = None,
        bar: str,
    ) -> Removal:
        """Deletion and insertion of the predicted class, as `faithfulness.measure`."""
        return measure(
            self.subject,
            self.images,
            self.targets,
            maps,
            masked_with=masked_with,
            signed=signed,
            classes=self.labels,
            seed=SEED,
            bar=bar,
        )

    def interval(self, values: Float[np.ndarray, " k"]) -> Interval | None:
        """The mean over the first k images with its intervals."""
        return interval(values, classes=self.labels[: len(values)])

    def share(self, hits: Float[np.ndarray, " k"]) -> Interval | None:
        """The share of 1 among 1 and 0, with intervals that have a width if all are equal."""
        known = np.isfinite(hits)
        if known.sum() < MINIMUM:
            return None
        return interval(hits[known] == 1, classes=self.labels[: len(hits)][known])


def choose_images(
    logits: Float[np.ndarray, "m classes"],
    labels: Int[np.ndarray, " m"],
    *,
    sample: int,
    shown: int = SHOWN,
    mistakes: int = MISTAKES,
) -> Chosen:
    """A random sample and, by fixed rules, more misclassified images and a gallery.

    Args:
        shown: how many correct and how many incorrect predictions are in the gallery, at most.
        mistakes: after those of the sample, the next ones in the same order, up to so many in all.
    """
    walk = np.random.default_rng(SEED).permutation(len(labels))
    correct = logits.argmax(axis=1) == labels
    wrong = walk[~correct[walk]][: max(mistakes, int((~correct[walk[:sample]]).sum()))]
    gallery_of = {
        "correct": _varied(walk[correct[walk]], labels, shown),
        "incorrect": _varied(walk[~correct[walk]], labels, shown),
    }
    rows = list(walk[:sample])
    rows += [i for i in wrong if i not in set(rows)]
    rows += [i for i in gallery_of["correct"] + gallery_of["incorrect"] if i not in set(rows)]
    row_of = {index: row for row, index in enumerate(rows)}
    rule = (
        "All test images are visited in one random order, the same for both models. Of the "
        "correctly and of the incorrectly predicted images, the first one of each true class is "
        f"taken, up to {shown}; then the next ones, until there are {shown}."
    )
    for kind, found in gallery_of.items():
        if len(found) < shown:
            rule += f" There are only {len(found)} {kind} test images."
    indices = np.array(rows)
    gallery = {kind: [row_of[i] for i in found] for kind, found in gallery_of.items()}
    of_wrong = np.array([row_of[i] for i in wrong], dtype=np.int64)
    n = min(sample, len(walk))
    return Chosen(indices, labels[indices], logits[indices], n, of_wrong, {**gallery, "rule": rule})


def _varied(walk: Int[np.ndarray, " m"], labels: Int[np.ndarray, " n"], count: int) -> list[int]:
    """The first image of each class on the walk, then the next of any, up to `count`."""
    first = np.sort(np.unique(labels[walk], return_index=True)[1])[:count]
    rest = np.setdiff1d(np.arange(len(walk)), first)[: count - len(first)]
    return walk[np.concatenate([first, rest])].tolist()
