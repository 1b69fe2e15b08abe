"""All trainings of a study, and the ranks of their attribution maps."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from visavis.compare.same_images import Rows, maps_at, shared_rows
from visavis.errors import CheckpointError
from visavis.metrics.agreement import unit_ranks
from visavis.run_folder import ModelFolder


class Training(NamedTuple):
    """A finished training of a study."""

    variant: str
    seed: int
    model: ModelFolder


def by_variant(trainings: Sequence[Training]) -> dict[str, list[int]]:
    """The positions of each variant's trainings."""
    found: dict[str, list[int]] = {}
    for i, training in enumerate(trainings):
        found.setdefault(training.variant, []).append(i)
    return found


def shared_methods(trainings: Sequence[Training]) -> list[str]:
    """The attribution methods that all of them have, in the order of the first."""
    first, *rest = (each.model.explanations["methods"] for each in trainings)
    return [name for name in first if all(name in other for other in rest)]


def shared_images(trainings: Sequence[Training]) -> tuple[Rows, ...]:
    """Of each training, the rows of heatmaps.npz of the images that all were scored on.

    Raises:
        CheckpointError: there are no such images.
    """
    rows = shared_rows(*(training.model.heatmaps for training in trainings))
    if not len(rows[0]):
        paths = ", ".join(str(training.model.path) for training in trainings)
        raise CheckpointError(f"no test image was explained in all of {paths}")
    return rows


def ranks_of(training: Training, method: str, rows: Rows) -> Float[np.ndarray, "images cells"]:
    """One method's maps for the true class, so that all trainings are asked about the same.

    The maps of a class-agnostic method are the same for every class.
    """
    arrays = training.model.heatmaps
    name = f"{method}_true" if f"map_{method}_true" in arrays else method
    return unit_ranks(maps_at(arrays, name, rows))


def upper(count: int) -> Bool[np.ndarray, "n n"]:
    """Each pair of `count` things once."""
    return np.triu(np.ones((count, count), dtype=bool), k=1)
