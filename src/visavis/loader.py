"""Pictures resident on the device: shuffled, batched and augmented there, without worker processes.

Augmentation is one indexing operation on a whole batch of uint8 pixels, which costs less than a
hundredth of a training step.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from visavis.config import IMAGE_SIDE, OptimConfig


def to_images(pixels: np.ndarray) -> Float[Tensor, "n 3 32 32"]:
    """uint8 pixels (n, 32, 32, 3) as images in [0, 1]."""
    return to_tensor(pixels).float() / 255


def to_tensor(pixels: np.ndarray) -> UInt8[Tensor, "n 3 32 32"]:
    """uint8 pixels (n, 32, 32, 3) with the channels first."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).contiguous()


class TrainingBatches:
    """One epoch of shuffled, augmented batches of one size; pictures that fill none are left out.

    The order and every random choice follow from the seed, the epoch and the losses alone, so that
    an interrupted training goes on exactly as it would have without the interruption.

    Args:
        losses: of each picture when it was last seen; needed where the config has the epoch skip
            some. Half of the easiest are left out, at random: were all of them, they would never
            be seen again, and their losses never be known anew.

    Source: after InfoBatch (Qin et al. 2024, arXiv 2303.04947), which draws from the pictures below
    the mean loss, and weights those of them that stay.
    """

    def __init__(
        self,
        pixels: UInt8[Tensor, "n 3 32 32"],
        labels: Int64[Tensor, " n"],
        config: OptimConfig,
        *,
        seed: int,
        epoch: int,
        losses: Float[Tensor, " n"] | None = None,
    ) -> None:
        self.pixels, self.labels, self.config = pixels, labels, config
        self.losses = losses
        self.skipped = round(config.skipped_fraction(epoch) * len(labels))
        self.batch_size = min(config.batch_size, len(labels) - self.skipped)
        self.epoch, self.seed = epoch, seed
        self.side = config.side(epoch)

    def __len__(self) -> int:
        return (len(self.labels) - self.skipped) // self.batch_size

    def __iter__(
        self,
    ) -> Iterator[tuple[Float[Tensor, "b 3 h w"], Int64[Tensor, " b"], Int64[Tensor, " b"]]]:
        """Images, their labels, and which pictures they are."""
        # On the CPU on purpose: the draws are then the same on every device.
        generator = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch)
        order = torch.randperm(len(self.labels), generator=generator)
        if self.skipped:
            assert self.losses is not None
            easiest = self.losses.cpu().argsort(stable=True)[: 2 * self.skipped]
            drawn = torch.randperm(len(easiest), generator=generator)[: self.skipped]
            order = order[~torch.isin(order, easiest[drawn])]
        # Each picture by turns as it is and mirrored, which shows more in few epochs than chance
        # does (alternating flip, Jordan 2024, arXiv 2404.00498).
        first = torch.Generator().manual_seed(self.seed)
        mirrored = torch.randint(0, 2, (len(self.labels),), generator=first) == self.epoch % 2
        for step in range(len(self)):
            chosen = order[step * self.batch_size : (step + 1) * self.batch_size]
            mirror = mirrored[chosen].to(self.pixels.device)
            chosen = chosen.to(self.pixels.device)
            pixels = augment(self.pixels[chosen], mirror, self.config, generator, side=self.side)
            yield pixels.float() / 255, self.labels[chosen], chosen


class EvaluationBatches:
    """All pictures in order, each once; the last batch may be smaller."""

    def __init__(
        self,
        pixels: UInt8[Tensor, "n 3 32 32"],
        labels: Int64[Tensor, " n"],
        batch_size: int = 500,
    ) -> None:
        self.pixels, self.labels, self.batch_size = pixels, labels, batch_size

    def __len__(self) -> int:
        return math.ceil(len(self.labels) / self.batch_size)

    def __iter__(self) -> Iterator[tuple[Float[Tensor, "b 3 32 32"], Int64[Tensor, " b"]]]:
        for start in range(0, len(self.labels), self.batch_size):
            batch = slice(start, start + self.batch_size)
            yield self.pixels[batch].float() / 255, self.labels[batch]


def augment(
    pixels: UInt8[Tensor, "n 3 32 32"],
    mirror: Bool[Tensor, " n"],
    config: OptimConfig,
    generator: torch.Generator,
    *,
    side: int = IMAGE_SIDE,
) -> UInt8[Tensor, "n 3 side side"]:
    """Mirror, shift and cut out, each picture for itself.

    Args:
        mirror: which pictures, where the config has them mirrored at all.
        side: of the square that is left of each picture, pixels. A smaller one lies anywhere inside
            the picture, and the shift is then left out.
    """
    n, device = len(pixels), pixels.device
    whole = side == IMAGE_SIDE
    low, high = (-config.shift, config.shift) if whole else (0, IMAGE_SIDE - side)

    def draw(low: int, high: int) -> Int64[Tensor, "n 1"]:
        return torch.randint(low, high + 1, (n, 1), generator=generator).to(device)

    span = torch.arange(side, device=device)
    rows = _reflect(span + draw(low, high))
    columns = _reflect(span + draw(low, high))
    if config.flip:
        columns = torch.where(mirror[:, None], IMAGE_SIDE - 1 - columns, columns)
    flat = (rows[:, :, None] * IMAGE_SIDE + columns[:, None, :]).view(n, 1, side * side)
    pixels = pixels.flatten(2).gather(2, flat.expand(-1, 3, -1)).view(n, 3, side, side)
    if config.cutout:
        top, left = draw(0, side - 1), draw(0, side - 1)  # centres; the square may hang over
        # For an even side the pixel right below and right of the middle.
        inside_rows, inside_columns = (
            (-config.cutout <= offset) & (offset < config.cutout)
            for offset in (2 * (span - top), 2 * (span - left))
        )
        hole = (inside_rows[:, :, None] & inside_columns[:, None, :])[:, None]
        mean = pixels.float().mean(dim=(0, 2, 3), keepdim=True).to(torch.uint8)
        pixels = torch.where(hole, mean, pixels)
    return pixels


def cutmix(
    images: Float[Tensor, "n 3 side side"], fraction: float, generator: torch.Generator
) -> tuple[Float[Tensor, "n 3 side side"], Float[Tensor, " n"]]:
    """Put a rectangle of the picture before it into a `fraction` of the pictures, at its own place.

    Returns:
        The pictures, and the share of the area of each that is of the picture before it in the
        batch (`roll(1)`). It is drawn from 0 to 1, before what hangs over the edge is cut off.

    Source: Yun et al. 2019 (CutMix, arXiv 1905.04899), equations 1 and 2.
    """
    n, side = len(images), images.shape[-1]
    area, chance, *centre = torch.rand(4, n, 1, generator=generator).to(images.device)
    half = area.sqrt() * side / 2 * (chance < fraction)
    pixels = torch.arange(side, device=images.device) + 0.5
    rows, columns = ((pixels - place * side).abs() < half for place in centre)
    inside = rows[:, :, None] & columns[:, None, :]
    mixed = torch.where(inside[:, None], images.roll(1, dims=0), images)
    return mixed, inside.float().mean(dim=(1, 2))


def _reflect(index: Int64[Tensor, "n side"]) -> Int64[Tensor, "n side"]:
    """Indices outside the picture, mirrored back in at the edge pixel."""
    index = index.abs()
    return torch.where(index >= IMAGE_SIDE, 2 * (IMAGE_SIDE - 1) - index, index)
