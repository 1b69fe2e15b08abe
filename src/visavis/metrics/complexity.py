"""How simple a map is to look at: concentrated or spread out, in one piece or scattered.

None of this says that a map is right. A map that knows nothing can be as simple.
"""

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from visavis.attribution.degenerate import Maps
from visavis.metrics.agreement import highest_cells


def gini(maps: Maps) -> Float[np.ndarray, " n"]:
    """Gini index of the absolute values of a map's cells ("sparseness").

    Returns:
        0: all values are equal; 1 - 1/k: all is in one of k cells (not normalised: 0.984 of 64).
        NaN where a map is zero everywhere.

    Source: Hurley & Rickard 2009 (arXiv 0811.4706); for attribution maps, Chalasani et al. 2020
    (arXiv 1810.06583).
    """
    values = np.sort(np.abs(maps.astype(np.float64)).reshape(len(maps), -1), axis=1)
    k = values.shape[1]
    total = values.sum(axis=1)
    weighted = (values * (2 * np.arange(1, k + 1) - k - 1)).sum(axis=1)
    return weighted / np.where(total > 0, k * total, np.nan)


def largest_part(maps: Maps) -> Float[np.ndarray, " n"]:
    """The fraction of the highest fifth of a map's cells that lies in their largest connected part.

    Cells are connected where they share an edge. Exact counts, 13 of 64 cells; ties in random
    order.

    Returns:
        1: one piece; 1/13: no two of the cells touch.
    """
    highest = highest_cells(maps, np.random.default_rng(0))
    sizes = [np.bincount(ndimage.label(of)[0][of]).max() for of in highest]
    return np.array(sizes) / highest.sum(axis=(1, 2))
