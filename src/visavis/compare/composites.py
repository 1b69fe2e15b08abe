"""Whether the maps for the two classes of a composite lie on the parts that show these classes."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from visavis.metrics import composites
from visavis.metrics.bootstrap import interval
from visavis.metrics.localization import Maps

CHANCE = 0.5
NO_ENERGY = {"energy": None, "degenerate_fraction": 1.0}
"""For a method whose maps are invalid."""


def energy(
    first: Maps,
    second: Maps,
    region: Float[np.ndarray, "n 8 8"],
    classes: Int[np.ndarray, " n"],
) -> dict[str, Any]:
    """Fraction of a map's mass on the part of its class, averaged over the maps of both classes.

    A map without positive values counts as chance.

    Args:
        first: maps for the class of the part that `region` marks; `second`, for that of the rest.
        classes: of the marked part, for the interval.
    """
    both = composites.energies(first, second, region)
    empty = np.isnan(both)
    area = region.mean(axis=(1, 2))
    chance = np.stack([area, 1 - area], axis=1)
    values = np.where(empty, chance, both).mean(axis=1)
    return {
        "energy": interval(values, clusters=classes),
        "degenerate_fraction": float(empty.mean()) if empty.size else 0.0,
    }
