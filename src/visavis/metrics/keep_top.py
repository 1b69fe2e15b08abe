"""Keep-top-k accuracy: only the cells that a map ranks highest are left of each image."""

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from visavis.attribution.degenerate import Maps, valid, without_degenerate
from visavis.attribution.subject import Subject
from visavis.data.batches import Images, in_batches
from visavis.metrics.faithfulness import removal_order
from visavis.metrics.masking import fills_for, masked_logits

KEPT = 0.2
"""Of the cells, rounded: 13 of 64."""


def keep_top(
    subject: Subject,
    images: Images,
    maps: Maps,
    labels: Int[np.ndarray, " n"],
    *,
    signed: Maps | None = None,
    seed: int = 0,
) -> Float[np.ndarray, " n"]:
    """Whether the prediction is correct with all but the highest fifth of the cells masked.

    The rest takes the mean colour. Exactly 13 of 64 cells are left, ties in random order.
    In float32, since bf16 would tie close logits.

    Args:
        signed: orders the cells that are equal in `maps`, as in `removal_order`.

    Returns:
        1 if correct, 0 if not, NaN for a degenerate map.
    """
    order = removal_order(np.nan_to_num(without_degenerate(maps)), seed=seed, signed=signed)
    kept = np.argsort(order, axis=1).reshape(-1, 1, *maps.shape[1:]) < round(KEPT * order.shape[1])

    def left(images: Tensor, kept: np.ndarray) -> Tensor:
        return masked_logits(subject, images, kept, fills=fills_for(subject, images, "mean"))

    logits = in_batches(left, images, kept)
    correct = logits.argmax(dim=1).numpy() == labels
    return np.where(valid(maps), correct, np.nan)
