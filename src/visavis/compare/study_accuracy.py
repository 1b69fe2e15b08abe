"""Accuracy and macro F1 of the variants of a study, over their trainings and the test images."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from visavis.compare.trainings import Training
from visavis.metrics import over_trainings
from visavis.metrics.bootstrap import MINIMUM, Interval, of_draws, resampled_means
from visavis.metrics.classification import f1_columns, f1_macro_of


class Score(NamedTuple):
    """Accuracy or macro F1 of a variant."""

    values: Float[np.ndarray, " trainings"]
    drawn: Float[np.ndarray, " resamples"]
    """The mean over trainings on resampled images, the same for all variants."""
    n: int
    """Images."""


Scores = dict[str, Score]
"""By `accuracy` and `f1_macro`."""


def read(trainings: Sequence[Training]) -> Scores:
    """The scores of a variant."""
    found = []
    for model in (training.model for training in trainings):
        columns = f1_columns(model.labels, model.predicted, model.predictions["logits"].shape[1])
        means = np.concatenate([columns.mean(axis=0)[None], resampled_means(columns)])
        accuracy = np.split(means, 3, axis=1)[2].sum(axis=1)
        accuracy[0] = model.correct.mean()  # to the last digit: equal ones are told from others
        found.append([accuracy, f1_macro_of(means)])
    return {
        key: Score(of[:, 0], of[:, 1:].mean(axis=0), len(columns))
        for key, of in zip(("accuracy", "f1_macro"), np.stack(found, axis=1), strict=True)
    }


def spreads(scores: Scores) -> dict[str, Any]:
    """Each score with its intervals (metrics.over_trainings.Spread)."""
    return {
        key: over_trainings.with_trainings(
            of.values, _over_images(of.values.mean(), of.drawn, of.n), lowest=0.0, highest=1.0
        )
        for key, of in scores.items()
    }


def differences(found: Mapping[str, Scores]) -> list[dict[str, Any]]:
    """Of each pair of variants, the first's scores minus the second's."""
    rows = []
    for a, b in combinations(found, 2):
        row: dict[str, Any] = {"variants": [a, b]}
        for key in found[a]:
            first, second = found[a][key], found[b][key]
            value = first.values.mean() - second.values.mean()
            over_images = _over_images(value, first.drawn - second.drawn, first.n)
            row[key] = over_trainings.difference(first.values, second.values, over_images)
        rows.append(row)
    return rows


def _over_images(value: float, drawn: Float[np.ndarray, " resamples"], n: int) -> Interval | None:
    return of_draws(value, drawn, n) if n >= MINIMUM else None
