"""How little of a image is enough: only the cells that a map ranks highest are left."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from visavis.metrics.faithfulness import CELLS, logits_of_kept, removal_order
from visavis.metrics.localization import Maps, degenerate_reasons
from visavis.models.cnn import CNN
from visavis.models.vit import ViT

KEPT = (2, 4, 6, 9, 13, 19, 26, 32, 45)
"""How many of the 64 cells are left, up to 70 %."""
SHARES = {"keep_top_10": 6, "keep_top_20": 13, "keep_top_30": 19, "keep_top_50": 32}
"""Named scores: accuracy with about 10, 20, 30 and 50 % of the cells."""


def answers(
    model: CNN | ViT,
    images: Float[Tensor, "n 3 32 32"],
    maps: Maps,
    *,
    seed: int = 0,
) -> Int[np.ndarray, "n kept"]:
    """The class that the model names with only the KEPT highest cells left, the rest mean colour.

    Exact counts of cells; ties in random order; in float32, since bf16 would tie close answers. -1
    for a map that `degenerate_reasons` names.
    """
    refused = np.array([reason is not None for reason in degenerate_reasons(maps)])
    order = removal_order(np.where(refused[:, None, None], 0.0, maps), seed=seed)
    rank = np.argsort(order, axis=1).reshape(-1, 1, *maps.shape[1:])
    kept = rank < np.array(KEPT)[:, None, None]
    parts = []
    for start in range(0, len(images), 25):
        batch = slice(start, start + 25)
        logits = logits_of_kept(model, images[batch], kept[batch])
        parts.append(logits.argmax(dim=1).unflatten(0, (-1, len(KEPT))))
    named = torch.cat(parts).numpy()
    return np.where(refused[:, None], -1, named)


def minimal_subset(
    named: Int[np.ndarray, "n kept"], answer: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """The smallest tried share of the image with which the model gives its `answer` again.

    Returns:
        Above 0 to 1; 1 where none of KEPT is enough, NaN for a refused map. The map's cells are
        taken from the highest on, so fewer others might do: it measures the map with the model.

    Source: minimal sufficient area as in Kelly et al. 2025 (arXiv 2507.23509), on 64 cells.
    """
    enough = named == answer[:, None]
    first = np.array([*KEPT, CELLS])[np.where(enough.any(axis=1), enough.argmax(axis=1), -1)]
    return np.where((named < 0).any(axis=1), np.nan, first / CELLS)


def accuracies(
    named: Int[np.ndarray, "n kept"], labels: Int[np.ndarray, " n"]
) -> dict[str, Float[np.ndarray, " n"]]:
    """For each of SHARES, whether each image is named correctly; NaN for a refused map."""
    right = np.where(named < 0, np.nan, named == labels[:, None])
    return {name: right[:, KEPT.index(count)] for name, count in SHARES.items()}
