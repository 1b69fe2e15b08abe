"""Background independence: do prediction and map stay where they are on another background?

On the built-in shapes nothing but the shape determines the class (`shapes.draw_test`), so what
moves with the background alone cannot be about the class.
"""

import numpy as np
from jaxtyping import Float, Int

from visavis.metrics.agreement import permutation_baseline, rank_agreement
from visavis.metrics.localization import Maps, without_degenerate


def background_independence(
    predictions: Int[np.ndarray, " n"],
    other_predictions: Int[np.ndarray, " n"],
    maps: Maps,
    other_maps: Maps,
) -> dict[str, Float[np.ndarray, " n"]]:
    """How much stays when only the background of each image is exchanged.

    Args:
        maps: of the images; of one method and for the same target class as `other_maps`.

    Returns:
        `prediction`: 1 where it is the same on both backgrounds, else 0; the mean is the fraction
        of images whose prediction stays. `map`: the rank agreement of both maps, -1 to 1; NaN where
        one is degenerate. `map_baseline`: the same with the other background's map of another
        image of the same predicted class: what the shapes' common layout alone would give.
    """
    maps, other_maps = without_degenerate(maps), without_degenerate(other_maps)
    return {
        "prediction": (predictions == other_predictions).astype(np.float64),
        "map": rank_agreement(maps, other_maps),
        "map_baseline": permutation_baseline(maps, other_maps, predictions),
    }
