"""Images resident on the device: shuffled, batched and augmented there, without worker processes.

Images that are too many for that stay in their file, from which each batch is read.

Augmentation is a few tensor operations on a whole batch. All random numbers of an epoch are drawn
on the CPU, so that they are the same on every device, and copied to it once: no step waits for it.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int64, UInt8
from torch import Tensor

from visavis.config import OptimConfig
from visavis.data.progress_bar import progress_bar

Images = Float[Tensor, "n 3 side side"]
"""Images in [0, 1]."""

Targets = Int[Tensor, " n"]
"""The class that each image is explained for."""

Batch = tuple[Float[Tensor, "n 3 h w"], Int64[Tensor, " n"]]
"""Images in [0, 1] and their labels."""

MixedBatch = tuple[
    Float[Tensor, "n 3 h w"], Int64[Tensor, " n"], Int64[Tensor, " n"], Float[Tensor, " n"]
]
"""Images, their labels, the labels of the images before them, and the fraction of each image that
was taken from the one before it."""


def to_images(pixels: UInt8[np.ndarray, "n h w 3"]) -> Float[Tensor, "n 3 h w"]:
    """uint8 pixels as images in [0, 1]."""
    return to_tensor(pixels).float() / 255


def to_tensor(pixels: UInt8[np.ndarray, "n h w 3"]) -> UInt8[Tensor, "n 3 h w"]:
    """uint8 pixels with the channels first."""
    writable = np.require(pixels, requirements=["C", "W", "E"])  # torch warns of others
    return torch.from_numpy(writable).permute(0, 3, 1, 2).contiguous()


@dataclass(frozen=True)
class Stored:
    """Images in a file, to be indexed like a tensor on `device`: what is asked for is read then."""

    pixels: UInt8[np.ndarray, "all side side 3"]
    rows: Int[np.ndarray, " n"]
    """Which of them these are."""
    device: torch.device

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.rows), 3, *self.pixels.shape[1:3]

    def __getitem__(self, index: slice | Int64[Tensor, " k"]) -> UInt8[Tensor, "k 3 side side"]:
        rows = self.rows[index if isinstance(index, slice) else index.cpu().numpy()]
        return to_tensor(self.pixels[rows]).to(self.device)


Held = UInt8[Tensor, "_ 3 side side"] | Stored
"""Images that batches are taken from, whichever way they are held."""


def hold(
    pixels: UInt8[np.ndarray, "all side side 3"], rows: Int[np.ndarray, " n"], device: torch.device
) -> Held:
    """Some of the images on the device; those that `image_folder` left in a file stay there."""
    if isinstance(pixels, np.memmap):
        return Stored(pixels, rows, device)
    return to_tensor(pixels[rows]).to(device)


class Draws(NamedTuple):
    """The random numbers of an epoch or of a batch, one of each kind for each image."""

    image: Int64[Tensor, " n"]
    """Which training image."""
    mirror: Int64[Tensor, " n"]
    """1 if it is mirrored, where the config asks for that."""
    row: Int64[Tensor, " n"]
    """Where the crop begins, or how far a full image is shifted, pixels."""
    column: Int64[Tensor, " n"]
    cutout_row: Int64[Tensor, " n"]
    """The centre of the cutout, pixels."""
    cutout_column: Int64[Tensor, " n"]


class TrainingBatches:
    """One epoch of shuffled, augmented batches of one size; a last, smaller one is dropped.

    The order and every random choice follow from the seed and the epoch alone, so that a resumed
    training continues exactly as it would have without the interruption.

    Args:
        rank: which of `world_size` equal parts of each batch is taken. The parts together are the
            batches of one process, but that a cutout has the mean colour of its part.
    """

    def __init__(
        self,
        pixels: Held,
        labels: Int64[Tensor, " n"],
        config: OptimConfig,
        *,
        seed: int,
        epoch: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.pixels, self.labels, self.config = pixels, labels, config
        self.seed, self.epoch = seed, epoch
        self.rank, self.world_size = rank, world_size
        self.full = pixels.shape[-1]
        self.side = config.side(epoch, self.full)
        self.batch_size = min(config.batch_size, len(labels))
        self.cutmix = 0.0 if config.sees_full_images(epoch) else config.cutmix

    def __len__(self) -> int:
        return len(self.labels) // self.batch_size

    def __iter__(self) -> Iterator[MixedBatch]:
        generator = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch)
        device = self.labels.device
        draws = self._draws(generator).to(device).split(self.batch_size, dim=1)
        mixes = torch.rand(4, len(self.labels), generator=generator).to(device)
        mixes = mixes.split(self.batch_size, dim=1)
        n = self.batch_size // self.world_size
        before = int(self.world_size > 1)  # a part's first image may get a piece of that before it
        rows = (torch.arange(-before, n, device=device) + self.rank * n) % self.batch_size
        for step in range(len(self)):
            labels = self.labels[draws[step][0]]
            draw = Draws(*draws[step][:, rows])
            images = augment(self.pixels[draw.image], draw, self.config, side=self.side) / 255
            mixed = torch.zeros(len(images), device=device)
            if self.cutmix:
                images, mixed = cutmix(images, self.cutmix, mixes[step][:, rows])
            own, other = labels[rows], labels.roll(1)[rows]
            yield images[before:], own[before:], other[before:], mixed[before:]

    def _draws(self, generator: torch.Generator) -> Int64[Tensor, "kinds n"]:
        """A row for each field of `Draws`."""
        n = len(self.labels)
        shift, room = self.config.shift, self.full - self.side
        low, high = (0, room) if room else (-shift, shift)
        index = torch.randperm(n, generator=generator)
        # Each image alternates between itself and its mirror image, which shows more in few epochs
        # than chance does (alternating flip, Jordan 2024, arXiv 2404.00498, section 3.6).
        first = torch.randint(0, 2, (n,), generator=torch.Generator().manual_seed(self.seed))
        mirror = (first == self.epoch % 2)[index].long()
        places = torch.randint(low, high + 1, (2, n), generator=generator)
        cutouts = torch.randint(0, self.side, (2, n), generator=generator)
        return torch.cat([torch.stack([index, mirror]), places, cutouts])


class EvaluationBatches:
    """All images in order, each once; the last batch may be smaller."""

    def __init__(self, pixels: Held, labels: Int64[Tensor, " n"], batch_size: int = 500) -> None:
        self.pixels, self.labels, self.batch_size = pixels, labels, batch_size

    def __len__(self) -> int:
        return math.ceil(len(self.labels) / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, len(self.labels), self.batch_size):
            batch = slice(start, start + self.batch_size)
            yield self.pixels[batch].float() / 255, self.labels[batch]


def augment(
    pixels: UInt8[Tensor, "n 3 full full"], draws: Draws, config: OptimConfig, *, side: int
) -> Float[Tensor, "n 3 side side"]:
    """Mirror, crop or shift, and cut out, each image by its own draws.

    Args:
        side: of what is left of each image, pixels.

    Returns:
        Pixel values, 0 to 255.
    """
    n, full = len(pixels), pixels.shape[-1]
    span = torch.arange(side, device=pixels.device)
    rows, columns = (_reflect(span + start[:, None], full) for start in (draws.row, draws.column))
    if config.flip:
        columns = torch.where(draws.mirror[:, None] == 1, full - 1 - columns, columns)
    flat = (rows[:, :, None] * full + columns[:, None, :]).view(n, 1, side * side)
    images = pixels.flatten(2).gather(2, flat.expand(-1, 3, -1)).view(n, 3, side, side).float()
    if config.cutout:
        # Twice the distance from the centre, so that an even side has a centre too.
        distances = (2 * (span - centre[:, None]) for centre in draws[4:])
        down, right = ((-config.cutout <= d) & (d < config.cutout) for d in distances)
        inside = (down[:, :, None] & right[:, None, :])[:, None]
        images = torch.where(inside, images.mean(dim=(0, 2, 3), keepdim=True), images)
    return images


def cutmix(
    images: Float[Tensor, "n 3 side side"], fraction: float, draws: Float[Tensor, "4 n"]
) -> tuple[Float[Tensor, "n 3 side side"], Float[Tensor, " n"]]:
    """Put a rectangle of the image before it into a `fraction` of the images, at its own place.

    Args:
        draws: uniform in [0, 1): the rectangle's area, whether there is one, its row and column.

    Returns:
        The images, and the fraction of the area of each that is of the image before it in the
        batch (`roll(1)`).

    Source: Yun et al. 2019 (CutMix, arXiv 1905.04899), equations 1 and 2.
    """
    side = images.shape[-1]
    area, chance, *centre = draws[..., None]
    half = area.sqrt() * side / 2 * (chance < fraction)
    places = torch.arange(side, device=images.device) + 0.5
    rows, columns = ((places - middle * side).abs() < half for middle in centre)
    inside: Bool[Tensor, "n side side"] = rows[:, :, None] & columns[:, None, :]
    mixed = torch.where(inside[:, None], images.roll(1, dims=0), images)
    return mixed, inside.float().mean(dim=(1, 2))


def _reflect(index: Int64[Tensor, "n side"], full: int) -> Int64[Tensor, "n side"]:
    """Indices outside an image of side `full`, reflected at the edge pixel."""
    index = index.abs()
    return torch.where(index >= full, 2 * (full - 1) - index, index)


def in_batches(
    function: Callable[..., Tensor],
    *rows: Tensor | np.ndarray,
    size: int = 100,
    bar: str | None = None,
) -> Tensor:
    """`function(*rows)`, computed for `size` rows at a time, so that memory stays small.

    Args:
        rows: tensors or arrays of equal length, split together along their first axis.
        bar: what a progress bar says; none is shown without.
    """
    parts, n = [], len(rows[0])
    with progress_bar(n, bar) as progress:
        for start in range(0, max(n, 1), size):  # once for no rows: the result has a shape
            batch = [each[start : start + size] for each in rows]
            parts.append(function(*batch))
            progress.update(len(batch[0]))
    return torch.cat(parts)
