"""Maps on the scoring grid, and which of them are degenerate: no score uses those."""

import numpy as np
from jaxtyping import Bool, Float

FLAT = 1e-6
"""A map whose values differ by no more than this fraction of its largest ranks rounding errors."""

Maps = Float[np.ndarray, "n g g"]
"""On the scoring grid."""


def degenerate_reasons(maps: Float[np.ndarray, "n h w"]) -> list[str | None]:
    """Why each map is degenerate, so that it is excluded from all scores; None for a valid map."""
    reasons: list[str | None] = []
    for heatmap in maps:
        if not np.isfinite(heatmap).all():
            reasons.append("not finite")
        elif not heatmap.any():
            reasons.append("zero everywhere")
        elif np.ptp(heatmap) <= FLAT * np.abs(heatmap).max():
            reasons.append("the same everywhere")
        else:
            reasons.append(None)
    return reasons


def valid(maps: Float[np.ndarray, "n h w"]) -> Bool[np.ndarray, " n"]:
    """Whether each map is not degenerate."""
    return np.array([reason is None for reason in degenerate_reasons(maps)], dtype=bool)


def without_degenerate(maps: Maps) -> Maps:
    """The maps, with NaN throughout the degenerate ones."""
    return np.where(valid(maps)[:, None, None], maps, np.nan)
