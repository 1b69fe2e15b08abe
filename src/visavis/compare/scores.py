"""Accuracy and macro F1 of the variants of a study, over their trainings and the test images."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from visavis.compare.trainings import Training
from visavis.metrics import over_trainings
from visavis.metrics.bootstrap import RESAMPLES, of_draws
from visavis.metrics.classification import confusion_matrix, f1_macro

BLOCK_BYTES = 100_000_000
"""What the counts of resampled images may take at once."""

Drawn = Float[np.ndarray, " resamples"]


class Score(NamedTuple):
    """Accuracy or macro F1 of a variant."""

    values: Float[np.ndarray, " trainings"]
    drawn: Drawn
    """The mean over trainings on resampled images, the same for all variants."""


Scores = dict[str, Score]
"""By `accuracy` and `f1_macro`."""


def read(by_name: Mapping[str, Sequence[Training]]) -> dict[str, Scores]:
    """The scores of all variants."""
    columns = {name: _columns(of) for name, of in by_name.items()}
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in by_name}
    n = len(next(iter(columns.values())))
    for counts in _resamples(n):
        for name, of in columns.items():
            drawn[name].append(counts @ of)
    return {name: _scores(of, np.concatenate(drawn[name]), n) for name, of in by_name.items()}


def spreads(scores: Scores) -> dict[str, Any]:
    """Each score with its intervals (metrics.over_trainings.Spread)."""
    return {
        key: over_trainings.with_trainings(of.values, of_draws(float(of.values.mean()), of.drawn))
        for key, of in scores.items()
    }


def differences(found: Mapping[str, Scores]) -> list[dict[str, Any]]:
    """Of each pair of variants, the first's scores minus the second's."""
    rows = []
    for a, b in combinations(found, 2):
        row: dict[str, Any] = {"variants": [a, b]}
        for key in found[a]:
            first, second = found[a][key], found[b][key]
            value = float(first.values.mean() - second.values.mean())
            over_images = of_draws(value, first.drawn - second.drawn)
            row[key] = over_trainings.difference(first.values, second.values, over_images)
        rows.append(row)
    return rows


def _columns(trainings: Sequence[Training]) -> Float[np.ndarray, "n columns"]:
    """For each image its class, and for each training the predicted class, and again if correct.

    Each is one-hot, so that a product with counts of images counts classes.
    """
    labels = trainings[0].model.labels
    one_hot = np.eye(trainings[0].model.predictions["logits"].shape[1], dtype=np.float32)
    truth, guesses = one_hot[labels], [one_hot[each.model.predicted] for each in trainings]
    return np.concatenate([truth, *guesses, *(truth * guess for guess in guesses)], axis=1)


def _scores(
    trainings: Sequence[Training], counted: Float[np.ndarray, "resamples columns"], n: int
) -> Scores:
    labels = trainings[0].model.labels
    of_class, *rest = np.split(counted, 1 + 2 * len(trainings), axis=1)
    guessed, hits = rest[: len(trainings)], rest[len(trainings) :]
    f1 = []
    for of_guess, of_hit in zip(guessed, hits, strict=True):
        both = of_class + of_guess
        occurring = np.maximum((both > 0).sum(axis=1), 1)
        f1.append((2 * of_hit / np.maximum(both, 1)).sum(axis=1) / occurring)
    confusions = [
        confusion_matrix(labels, each.model.predicted, of_class.shape[1]) for each in trainings
    ]
    correct = np.array([each.model.correct.mean() for each in trainings])
    of_hits = np.stack(hits).sum(axis=2, dtype=np.float64).mean(axis=0) / n
    return {
        "accuracy": Score(correct, of_hits),
        "f1_macro": Score(
            np.array([f1_macro(of) for of in confusions]),
            np.stack(f1).mean(axis=0, dtype=np.float64),
        ),
    }


def _resamples(n: int) -> Iterator[Float[np.ndarray, "draws n"]]:
    """How often each of n images is drawn in each of RESAMPLES, a block at a time."""
    generator, block = np.random.default_rng(0), max(1, BLOCK_BYTES // (8 * n))
    for done in range(0, RESAMPLES, block):
        draws = min(block, RESAMPLES - done)
        rows = generator.integers(0, n, (draws, n)) + n * np.arange(draws)[:, None]
        counts = np.bincount(rows.ravel(), minlength=draws * n)
        yield counts.reshape(draws, n).astype(np.float32)
