"""Keep-top-k accuracy and minimal sufficient subset: only a map's highest cells are left."""

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from visavis.data.batches import Images, in_batches
from visavis.metrics.faithfulness import removal_order
from visavis.metrics.localization import Maps, valid, without_degenerate
from visavis.metrics.masking import CELLS, masked_logits
from visavis.models import Model

KEPT = (2, 4, 6, 9, 13, 19, 26, 32, 45)
"""How many of the 64 cells are left, up to 70 %."""
FRACTIONS = {"keep_top_10": 6, "keep_top_20": 13, "keep_top_30": 19, "keep_top_50": 32}
"""Named scores: accuracy with about 10, 20, 30 and 50 % of the cells."""


def predictions(
    model: Model, images: Images, maps: Maps, *, seed: int = 0
) -> Int[np.ndarray, "n kept"]:
    """The predicted class with all but the KEPT highest cells masked; -1 for a degenerate map.

    Exact counts of cells, ties in random order. In float32, since bf16 would tie close logits.
    """
    order = removal_order(np.nan_to_num(without_degenerate(maps)), seed=seed)
    rank = np.argsort(order, axis=1).reshape(-1, 1, *maps.shape[1:])
    kept = rank < np.array(KEPT)[:, None, None]

    def predict(images: Tensor, kept: np.ndarray) -> Tensor:
        return masked_logits(model, images, kept).argmax(dim=1).unflatten(0, (-1, len(KEPT)))

    predicted = in_batches(predict, images, kept, size=25).numpy()
    return np.where(valid(maps)[:, None], predicted, -1)


def minimal_subset(
    predicted: Int[np.ndarray, "n kept"], original: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """The smallest fraction of cells tried with which the model keeps its `original` prediction.

    Returns:
        Above 0 to 1; 1 where none of KEPT is enough, NaN for a degenerate map. Cells are taken from
        the map's highest on, so fewer others might do: it measures the map together with the model.

    Source: minimal sufficient area as in Kelly et al. 2025 (arXiv 2507.23509), on 64 cells.
    """
    enough = predicted == original[:, None]
    first = np.array([*KEPT, CELLS])[np.where(enough.any(axis=1), enough.argmax(axis=1), -1)]
    return np.where((predicted < 0).any(axis=1), np.nan, first / CELLS)


def keep_top_k(
    predicted: Int[np.ndarray, "n kept"], labels: Int[np.ndarray, " n"]
) -> dict[str, Float[np.ndarray, " n"]]:
    """For each of FRACTIONS, whether each prediction is correct; NaN for a degenerate map."""
    correct = np.where(predicted < 0, np.nan, predicted == labels[:, None])
    return {name: correct[:, KEPT.index(count)] for name, count in FRACTIONS.items()}
