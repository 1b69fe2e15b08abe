"""Robustness: how much of a map stays when its image changes and the prediction does not."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch.nn import functional

from visavis.attribution.batched import grid_maps
from visavis.attribution.degenerate import Maps, without_degenerate
from visavis.attribution.subject import Subject
from visavis.data.batches import Images
from visavis.metrics.agreement import rank_agreement

AMPLITUDE = 8 / 255
"""Of the noise, where pixels run from 0 to 1: hardly visible."""


def measure(
    subject: Subject,
    images: Images,
    targets: Int[np.ndarray, " n"],
    maps: Maps,
    method: str,
    *,
    layer: str | None = None,
    seed: int = 0,
) -> dict[str, Float[np.ndarray, " n"]]:
    """Rank agreement of each image's map with the map of the same image after a small change.

    noise: each value of each pixel moves by up to AMPLITUDE, uniformly. mirrored: left becomes
    right, and the new map is mirrored back. shifted: by one cell, every other image to the right
    and the rest to the left; the edge is repeated where the image has moved away, and the column
    of cells that comes in there is left out, as is the one that goes out on the other side.

    Args:
        targets: the predicted classes, which the maps explain.
        maps: those of the images without a change.
        layer: where Grad-CAM looks; other methods ignore it.

    Returns:
        -1 to 1 under "noise", "mirrored" and "shifted"; 1: the order of the cells stays. NaN where
        the prediction changes, since then the map should change as well, or a map is degenerate.

    Source: the noise after Alvarez-Melis & Jaakkola 2018 (arXiv 1806.08049).
    """

    def changed(images: Images) -> Maps:
        same = subject.predict(images).argmax(dim=1).cpu().numpy() == targets
        (found,) = grid_maps(subject, images, [targets], method, layer=layer)
        return np.where(same[:, None, None], without_degenerate(found), np.nan)

    original = without_degenerate(maps)
    right = np.arange(len(maps)) % 2 == 0
    shifted = changed(_shifted(images, right, subject.cell_side))
    return {
        "noise": rank_agreement(original, changed(_noisy(images, seed))),
        "mirrored": rank_agreement(original, changed(images.flip(3))[:, :, ::-1]),
        "shifted": rank_agreement(
            _without_column(original, first=~right), _without_column(shifted, first=right)
        ),
    }


def _noisy(images: Images, seed: int) -> Images:
    noise = np.random.default_rng(seed).uniform(-AMPLITUDE, AMPLITUDE, images.shape)
    return (images + torch.from_numpy(noise).to(images)).clamp(0, 1)


def _shifted(images: Images, right: Bool[np.ndarray, " n"], by: int) -> Images:
    """Each image shifted by so many pixels, to the right or the left, its edge repeated."""
    side = images.shape[3]
    wide = functional.pad(images, (by, by, 0, 0), mode="replicate")
    to_right = torch.from_numpy(right).to(images.device)[:, None, None, None]
    return torch.where(to_right, wide[..., :side], wide[..., -side:])


def _without_column(
    maps: Maps, *, first: Bool[np.ndarray, " n"]
) -> Float[np.ndarray, "n rows columns"]:
    """Each map without its first or its last column."""
    return np.where(first[:, None, None], maps[:, :, 1:], maps[:, :, :-1])
