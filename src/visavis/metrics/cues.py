"""Test images without one cue: what a model needs to see, and not only where it looks.

A model whose accuracy survives the loss of a cue can do without it. No attribution map is involved.

Source: Geirhos et al. 2019, arXiv 1811.12231 (colour, shape and texture); Park & Kim 2022, arXiv
2202.06709 (low and high frequencies); Naseer et al. 2021, arXiv 2105.10497 (shuffled patches).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import ndimage
from torch import Tensor

from visavis.data.batches import Images

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue, ITU-R BT.601."""

Colour = Float[Tensor, " 3"]
Seeds = Int[np.ndarray, " n"]


def low_pass(images: Images, width: float) -> Images:
    """Blur by a Gaussian, continued at the border by the nearest pixel.

    Args:
        width: the standard deviation, as a fraction of the image's side.
    """
    sigma = width * images.shape[-1]
    soft = ndimage.gaussian_filter(images.numpy(), (0, 0, sigma, sigma), mode="nearest")
    return torch.from_numpy(soft)


def high_pass(images: Images, width: float, colour: Colour) -> Images:
    """What `low_pass` removes, around one colour; values beyond [0, 1] are clipped."""
    return (images - low_pass(images, width) + colour[:, None, None]).clip(0, 1)


def greyscale(images: Images) -> Images:
    """The luma of each pixel in all three channels."""
    weights = torch.tensor(LUMA)[:, None, None]
    return (images * weights).sum(dim=1, keepdim=True).expand_as(images)


def shuffled(images: Images, cells: int, seeds: Seeds) -> Images:
    """Permute the cells of the image's `cells` x `cells` division, which divides its side.

    Args:
        seeds: one for each image, so that its permutation does not depend on the others.
    """
    n, side = len(images), images.shape[-1] // cells
    orders = [np.random.default_rng(seed).permutation(cells**2) for seed in seeds]
    parts = images.reshape(n, 3, cells, side, cells, side).permute(0, 2, 4, 1, 3, 5)
    moved = parts.flatten(1, 2)[torch.arange(n)[:, None], torch.tensor(np.array(orders))]
    return moved.view_as(parts).permute(0, 3, 1, 4, 2, 5).reshape_as(images)


class Cue(NamedTuple):
    """A way of taking a cue from images."""

    label: str
    """What the images are then, as in "greyscale images"."""
    remove: Callable[[Images, Colour, Seeds], Images]
    """From images, the mean colour of their data set, and a seed for each image."""


CUES = {
    "blurred": Cue("blurred", lambda images, *_: low_pass(images, 1 / 32)),
    "strongly_blurred": Cue("strongly blurred", lambda images, *_: low_pass(images, 1 / 16)),
    "high_pass": Cue("high-pass", lambda images, colour, _: high_pass(images, 1 / 16, colour)),
    "greyscale": Cue("greyscale", lambda images, *_: greyscale(images)),
    "shuffled_4": Cue("patch-shuffled (4×4)", lambda images, _, seeds: shuffled(images, 4, seeds)),
    "shuffled_8": Cue("patch-shuffled (8×8)", lambda images, _, seeds: shuffled(images, 8, seeds)),
}
"""A new cue is one function and one entry."""
