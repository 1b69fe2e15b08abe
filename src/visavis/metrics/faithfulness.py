"""Symmetric relevance gain (SRG): how faithful a heatmap is to the model, on the scoring grid.

Cells are masked one group after the other while the probability of the target class is recorded,
twice: the cells that the map ranks highest first, and those that it ranks lowest first.

    deletion  D    mean probability with the highest first: low if they carry the prediction
    insertion I    mean probability with the lowest first: high if the others carry it
    SRG = I - D    -1 to 1; 0 for a map that knows nothing

(Petsiuk, Das & Saenko 2018, RISE, for the curves; Blücher, Vielhaben & Strodthoff 2024, arXiv
2401.06654, for their difference.) The second curve read backwards restores the highest cells first
in a fully masked image, hence its name.

Neither half is a score: a model tolerates one large hole better than scattered ones, so D and I of
every smooth map are higher than those of a random order, whatever the map knows. In the difference
this cancels: a blob at a random place gets 0. docs/methods.md has the measurements.

A masked cell takes the training images' mean colour or the strongly blurred image; the headline is
the mean of both, since a map that scores with one of them alone may exploit an artefact. Cells are
masked in 8 steps, 8 of 64 in each; both ends (nothing masked, all masked) are the same for every
order and cancel, which leaves 7 points. SRG knows no class: see `contrast`.

It ranks the maps of one model. Between two models it does not compare, since the order of their
values changes with the fill.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from visavis.attribution.degenerate import Maps, valid, without_degenerate
from visavis.attribution.subject import Subject
from visavis.data.batches import Images, Targets, in_batches
from visavis.metrics.bootstrap import Classes, Interval, interval
from visavis.metrics.masking import FILLS, Fill, fills_for, probabilities

STEPS = 8
"""Of a curve. With 4 the score loses power, with 16 it gains none."""


@dataclass(frozen=True)
class Removal:
    """Mean probabilities along the curves of each image, by method."""

    deletion: dict[str, Float[np.ndarray, "n fills"]]
    """D, with each fill; NaN where the map is degenerate, as in `insertion`."""
    insertion: dict[str, Float[np.ndarray, "n fills"]]
    classes: Classes = None
    """The class of each image, for the intervals."""

    def srg(self, name: str, fill: Fill | None = None) -> Float[np.ndarray, " n"]:
        """SRG of each image; the mean of both fills if None is named."""
        gains = self.insertion[name] - self.deletion[name]
        return gains.mean(axis=1) if fill is None else gains[:, FILLS.index(fill)]

    def scores(self, name: str) -> dict[str, Interval | None]:
        """SRG of one method, with each fill as well, and its halves."""
        found = {
            "srg": self.srg(name),
            **{f"srg_{fill}_fill": self.srg(name, fill) for fill in FILLS},
            "deletion": self.deletion[name].mean(axis=1),
            "insertion": self.insertion[name].mean(axis=1),
        }
        return {key: interval(values, classes=self.classes) for key, values in found.items()}

    def ahead(self, name: str, other: str, fill: Fill | None = None) -> Interval | None:
        """SRG of one method minus that of another, on the images where neither is degenerate."""
        return interval(self.srg(name, fill) - self.srg(other, fill), classes=self.classes)

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it, as named arrays."""
        return {
            **{f"deletion_{name}": values for name, values in self.deletion.items()},
            **{f"insertion_{name}": values for name, values in self.insertion.items()},
        }


def contrast(removal: Removal, runner_up: Removal, name: str) -> Float[np.ndarray, " n"]:
    """Whether a map is about its class: SRG by it less SRG by the map of the runner-up.

    Both are measured on the probability of the predicted class.

    Args:
        runner_up: measured with the maps for the class of the second-highest logit.

    Returns:
        0 for a map that knows no class; NaN where one of the two is degenerate.
    """
    return removal.srg(name) - runner_up.srg(name)


def removal_order(maps: Maps, *, seed: int, signed: Maps | None = None) -> Int[np.ndarray, "n k"]:
    """The cells of each map, highest first; ties in random order, drawn once for each image.

    Args:
        signed: orders the cells that are equal in `maps`, such as those that a ReLU set to 0.
    """
    flat = maps.reshape(len(maps), -1)
    chance = np.random.default_rng(seed).random(flat.shape)
    keys = [chance, -flat] if signed is None else [chance, -signed.reshape(flat.shape), -flat]
    return np.lexsort(keys, axis=-1)


def kept_cells(
    orders: Int[np.ndarray, "n m k"], *, steps: int = STEPS
) -> Bool[np.ndarray, "n points g g"]:
    """Which cells are left at the inner points of each deletion curve: 56, 48, ... 8 of 64."""
    rank = np.argsort(orders, axis=-1)[:, :, None]
    cells = orders.shape[-1]
    grid = round(cells**0.5)
    removed = np.rint(cells / steps * np.arange(1, steps))[:, None]
    return (rank >= removed).reshape(len(orders), -1, grid, grid)


def measure(
    subject: Subject,
    images: Images,
    targets: Targets,
    maps: dict[str, Maps],
    *,
    masked_with: Images | None = None,
    signed: dict[str, Maps] | None = None,
    classes: Classes = None,
    seed: int = 0,
    bar: str | None = "SRG",
) -> Removal:
    """Deletion and insertion by all of `maps`, with both fills.

    Args:
        maps: by method, one for each image. Degenerate ones get NaN.
        masked_with: for each image, one whose pixels masked cells take, instead of both fills.
            With the same image drawn without its object (a clean plate) no image is out of
            distribution, and SRG is a truth that others can be held against.
        signed: for some methods, what orders the cells that are equal in `maps`.
        classes: the class of each image, for the intervals.
    """
    orders = _orders(maps, signed or {}, seed)

    def means(images: Tensor, targets: Tensor, orders: np.ndarray, *others: Tensor) -> Tensor:
        fills = others or [fills_for(subject, images, fill) for fill in FILLS]
        found = [_means(subject, images, targets, orders, fill) for fill in fills]
        return torch.from_numpy(np.stack(found, axis=2))

    others = () if masked_with is None else (masked_with,)
    found = in_batches(means, images, targets, orders, *others, size=25, bar=bar).numpy()
    deletion, insertion = np.split(found, 2, axis=1)
    return Removal(_by_method(maps, deletion), _by_method(maps, insertion), classes)


def _orders(
    maps: dict[str, Maps], signed: dict[str, Maps], seed: int
) -> Int[np.ndarray, "n orders k"]:
    """The cells by each map, highest first, and then by each map, lowest first."""
    orders = [
        removal_order(  # of a degenerate map: one tie
            np.nan_to_num(without_degenerate(of)), seed=seed + i, signed=signed.get(name)
        )
        for i, (name, of) in enumerate(maps.items())
    ]
    highest_first = np.stack(orders, axis=1)
    return np.concatenate([highest_first, highest_first[:, :, ::-1]], axis=1)


def _means(
    subject: Subject,
    images: Images,
    targets: Targets,
    orders: Int[np.ndarray, "n m k"],
    fills: Images,
) -> Float[np.ndarray, "n m"]:
    """The mean probability along the curve of each order."""
    kept = kept_cells(orders)
    curves = probabilities(subject, images, targets, kept, fills=fills, autocast=subject.autocast)
    return curves.reshape(*orders.shape[:2], -1).mean(axis=2)


def _by_method(
    maps: dict[str, Maps], values: Float[np.ndarray, "n m fills"]
) -> dict[str, Float[np.ndarray, "n fills"]]:
    columns = zip(maps.items(), np.moveaxis(values, 1, 0), strict=True)
    return {name: np.where(valid(of)[:, None], column, np.nan) for (name, of), column in columns}
