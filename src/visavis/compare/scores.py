"""Accuracy and macro F1 of the variants of a study, over their trainings and the test images."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from visavis.compare.trainings import Training
from visavis.metrics import over_trainings
from visavis.metrics.bootstrap import RESAMPLES, of_draws
from visavis.metrics.classification import confusion_matrix, f1_macro

BLOCK_BYTES = 100_000_000
"""What the counts of resampled images may take at once."""


class Predicted(NamedTuple):
    """What the scores of a variant are computed from."""

    correct: Bool[np.ndarray, "trainings n"]
    f1: Float[np.ndarray, " trainings"]
    """Macro F1 of each training."""
    f1_drawn: Float[np.ndarray, " resamples"]
    """Its mean over the trainings on resampled images, the same for all variants."""


def predicted(trainings: Sequence[Training]) -> Predicted:
    """Read the predictions of a variant's trainings."""
    labels = trainings[0].model.labels
    classes = trainings[0].model.predictions["logits"].shape[1]
    of_each = [each.model.predicted for each in trainings]
    f1 = [f1_macro(confusion_matrix(labels, each, classes)) for each in of_each]
    drawn = _f1_drawn(labels, of_each, classes)
    return Predicted(np.stack([each == labels for each in of_each]), np.array(f1), drawn)


def scores(found: Predicted) -> dict[str, Any]:
    """Accuracy and macro F1 (metrics.over_trainings.Spread)."""
    over_images = of_draws(float(found.f1.mean()), found.f1_drawn)
    return {
        "accuracy": over_trainings.spread(found.correct.astype(np.float64)),
        "f1_macro": over_trainings.with_trainings(found.f1, over_images),
    }


def differences(found: Mapping[str, Predicted]) -> list[dict[str, Any]]:
    """Of each two variants, the first's accuracy and macro F1 minus the second's."""
    rows = []
    for a, b in combinations(found, 2):
        first, second = found[a], found[b]
        value = float(first.f1.mean() - second.f1.mean())
        over_images = of_draws(value, first.f1_drawn - second.f1_drawn)
        rows.append(
            {
                "variants": [a, b],
                "accuracy": over_trainings.difference(
                    first.correct.astype(np.float64), second.correct.astype(np.float64)
                ),
                "f1_macro": over_trainings.unpaired(first.f1, second.f1, over_images),
            }
        )
    return rows


def _f1_drawn(
    labels: Int[np.ndarray, " n"], predicted: Sequence[Int[np.ndarray, " n"]], classes: int
) -> Float[np.ndarray, " resamples"]:
    """The mean macro F1 of the trainings on each resample of the images."""
    one_hot = np.eye(classes, dtype=np.float32)
    truth, guesses = one_hot[labels], [one_hot[each] for each in predicted]
    columns = np.concatenate([truth, *guesses, *(truth * guess for guess in guesses)], axis=1)
    drawn = np.concatenate([counts @ columns for counts in _resamples(len(labels))])
    of_class, *rest = np.split(drawn, 1 + 2 * len(predicted), axis=1)
    guessed, hits = rest[: len(predicted)], rest[len(predicted) :]
    f1 = []
    for of_guess, of_hit in zip(guessed, hits, strict=True):
        both = of_class + of_guess
        occurring = np.maximum((both > 0).sum(axis=1), 1)
        f1.append((2 * of_hit / np.maximum(both, 1)).sum(axis=1) / occurring)
    return np.stack(f1).mean(axis=0, dtype=np.float64)


def _resamples(n: int) -> Iterator[Float[np.ndarray, "draws n"]]:
    """How often each of n images is drawn in each of RESAMPLES, a block at a time."""
    generator, block = np.random.default_rng(0), max(1, BLOCK_BYTES // (8 * n))
    for done in range(0, RESAMPLES, block):
        draws = min(block, RESAMPLES - done)
        rows = generator.integers(0, n, (draws, n)) + n * np.arange(draws)[:, None]
        counts = np.bincount(rows.ravel(), minlength=draws * n)
        yield counts.reshape(draws, n).astype(np.float32)
