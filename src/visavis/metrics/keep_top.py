"""Keep-top-k accuracy: only the cells that a map ranks highest are left of each image."""

import numpy as np
from jaxtyping import Float, Int

from visavis.data.batches import Images, in_batches
from visavis.metrics.faithfulness import removal_order
from visavis.metrics.localization import Maps, valid, without_degenerate
from visavis.metrics.masking import masked_logits
from visavis.models import Model

KEPT = 13
"""Of the 64 cells: a fifth."""


def keep_top(
    model: Model, images: Images, maps: Maps, labels: Int[np.ndarray, " n"], *, seed: int = 0
) -> Float[np.ndarray, " n"]:
    """Whether the prediction is correct with all but the KEPT highest cells masked.

    The rest takes the mean colour. Exactly KEPT cells are left, ties in random order. In float32,
    since bf16 would tie close logits.

    Returns:
        1 if correct, 0 if not, NaN for a degenerate map.
    """
    order = removal_order(np.nan_to_num(without_degenerate(maps)), seed=seed)
    kept = np.argsort(order, axis=1).reshape(-1, 1, *maps.shape[1:]) < KEPT
    logits = in_batches(lambda *rows: masked_logits(model, *rows), images, kept)
    correct = logits.argmax(dim=1).numpy() == labels
    return np.where(valid(maps), correct, np.nan)
