"""Deletion and insertion: how faithful a heatmap is to the model, on the scoring grid.

Deletion masks the cells in the map's order, highest first, and records how the probability of the
target class falls; insertion restores them in a fully masked image and records how it rises
(Petsiuk, Das & Saenko 2018, RISE). A masked cell takes the training images' mean colour or, as a
check that the fill itself does not decide the result, the strongly blurred image.

Raw curves do not compare between models, since models differ in confidence and in how well they
tolerate masked regions. So each is normalised by two curves of the same model on the same image:

    deletion  = (D(random) - D(map)) / (D(random) - D(oracle))      0: no better than random orders,
    insertion = (I(map) - I(random)) / (I(oracle) - I(random))      1: as good as the oracle's

The oracle removes cells in the order of how much each one's removal alone lowers the probability,
as float32 log-odds: in bf16, or near a probability of 1, most cells would tie. It ignores
interactions, so more than 1 is possible. D and I are the mean probability over the steps of a
curve. The cells are masked in 8 steps by default, 8 of 64 in each; both ends (nothing masked, all
masked) are the same for every order and cancel, which leaves 7 points. The insertion curve of an
order is the deletion curve of the reversed order, so one set of random orders serves both.

Over many images the score is the mean numerator over the mean denominator (`ratio_interval`): for
an image whose prediction no order changes, the denominator is near 0, and a mean of such ratios
would measure those images alone.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from visavis.attribution.subject import Subject
from visavis.data.batches import Images, Targets, in_batches
from visavis.metrics.bootstrap import Classes, Interval, interval, ratio_interval
from visavis.metrics.localization import Maps, valid, without_degenerate
from visavis.metrics.masking import Fill, log_odds, probabilities

STEPS: dict[Fill, int] = {"mean": 8, "blur": 4}
"""Steps of a curve. The blurred image is a check beside the main score: half the
steps halve the cost and lose little precision. They are too few to choose a layer: on shapes they
could not distinguish the CNN's last layer from a better one."""


@dataclass(frozen=True)
class Removal:
    """Mean probability along the curves of each image: D and I of the module's docstring."""

    random: Float[np.ndarray, " n"]
    oracle_deletion: Float[np.ndarray, " n"]
    oracle_insertion: Float[np.ndarray, " n"]
    deletion: dict[str, Float[np.ndarray, " n"]]
    """By method, as `measure` was given them; NaN where the map is degenerate."""
    insertion: dict[str, Float[np.ndarray, " n"]]
    classes: Classes = None
    """The class of each image, for the intervals."""

    def scores(self, name: str) -> dict[str, Interval | None]:
        """Normalised deletion and insertion of one method, and their numerators.

        Returns:
            The numerators, `deletion_drop` and `insertion_gain`, are differences of probability.
            The normalised scores are 1 for as good as the oracle, which may be exceeded, and
            negative for worse than random; None where the oracle itself is hardly better than
            random, or too few maps were scored.
        """
        drop, gain = self.random - self.deletion[name], self.insertion[name] - self.random
        best_drop = self.random - self.oracle_deletion
        best_gain = self.oracle_insertion - self.random
        return {
            "deletion": ratio_interval(drop, best_drop, classes=self.classes),
            "insertion": ratio_interval(gain, best_gain, classes=self.classes),
            "deletion_drop": interval(drop, classes=self.classes),
            "insertion_gain": interval(gain, classes=self.classes),
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it, as named arrays."""
        return {
            "random": self.random,
            "oracle_deletion": self.oracle_deletion,
            "oracle_insertion": self.oracle_insertion,
            **{f"deletion_{name}": values for name, values in self.deletion.items()},
            **{f"insertion_{name}": values for name, values in self.insertion.items()},
        }

    def ahead(self, name: str, other: str) -> Interval | None:
        """Normalised deletion of one method minus that of another.

        Paired: on the images where neither map is degenerate, and over the same resamples.
        """
        return ratio_interval(
            self.deletion[other] - self.deletion[name],
            self.random - self.oracle_deletion,
            classes=self.classes,
        )


def removal_order(maps: Maps, *, seed: int) -> Int[np.ndarray, "n k"]:
    """The cells of each map, highest first; ties in random order, drawn once for each image."""
    flat = maps.reshape(len(maps), -1)
    chance = np.random.default_rng(seed).random(flat.shape)
    return np.lexsort((chance, -flat), axis=-1)


def kept_cells(
    orders: Int[np.ndarray, "n m k"], *, steps: int = STEPS["mean"]
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
    random_orders: int,
    fill: Fill = "mean",
    classes: Classes = None,
    seed: int = 0,
    autocast: bool = False,
) -> Removal:
    """Deletion and insertion by all of `maps`, by random orders and by the oracle.

    Args:
        maps: by method, one for each image. Degenerate ones get NaN.
        random_orders: how many per image.
        fill: what a masked cell takes.
        classes: the class of each image, for the intervals.
    """
    grid, count = subject.grid, subject.grid**2
    cells = np.broadcast_to(np.arange(count), (len(images), random_orders, count))
    random = np.random.default_rng(seed).permuted(cells, axis=-1)
    all_but_one = ~np.eye(count, dtype=bool).reshape(1, count, grid, grid)

    def without_each_cell(images: Tensor, targets: Tensor) -> Tensor:
        kept = np.repeat(all_but_one, len(images), axis=0)
        return torch.from_numpy(log_odds(subject, images, targets, kept, fill=fill))

    left = in_batches(without_each_cell, images, targets, size=25).numpy()
    oracle = removal_order(-left.reshape(-1, grid, grid), seed=seed)
    ranked = np.concatenate([oracle[:, None], _orders(maps, seed + 1)], axis=1)
    orders = np.concatenate([random, ranked, ranked[:, :, ::-1]], axis=1)
    bar = "deletion and insertion"
    means = _curve_means(subject, images, targets, orders, fill=fill, autocast=autocast, bar=bar)
    ends = [random_orders, random_orders + 1 + len(maps)]
    chance, deletion, insertion = np.split(means, ends, axis=1)
    return Removal(
        random=chance.mean(axis=1),
        oracle_deletion=deletion[:, 0],
        oracle_insertion=insertion[:, 0],
        deletion=_by_method(maps, deletion[:, 1:]),
        insertion=_by_method(maps, insertion[:, 1:]),
        classes=classes,
    )


def deletion_means(
    subject: Subject,
    images: Images,
    targets: Targets,
    maps: dict[str, Maps],
    *,
    seed: int = 0,
    autocast: bool = False,
    bar: str,
) -> dict[str, Float[np.ndarray, " n"]]:
    """D of each method alone: `Removal.deletion`, without random orders and oracle."""
    means = _curve_means(subject, images, targets, _orders(maps, seed), autocast=autocast, bar=bar)
    return _by_method(maps, means)


def _orders(maps: dict[str, Maps], seed: int) -> Int[np.ndarray, "n m k"]:
    """The order of the cells in each method's maps; degenerate maps are one tie."""
    ranked = (np.nan_to_num(without_degenerate(of)) for of in maps.values())
    return np.stack([removal_order(of, seed=seed + i) for i, of in enumerate(ranked)], axis=1)


def _curve_means(
    subject: Subject,
    images: Images,
    targets: Targets,
    orders: Int[np.ndarray, "n m k"],
    *,
    fill: Fill = "mean",
    autocast: bool,
    bar: str,
) -> Float[np.ndarray, "n m"]:
    """The mean probability along the deletion curve of each order."""

    def means(images: Tensor, targets: Tensor, orders: np.ndarray) -> Tensor:
        kept = kept_cells(orders, steps=STEPS[fill])
        curves = probabilities(subject, images, targets, kept, fill=fill, autocast=autocast)
        return torch.from_numpy(curves.reshape(*orders.shape[:2], -1).mean(axis=2))

    return in_batches(means, images, targets, orders, size=25, bar=bar).numpy()


def _by_method(
    maps: dict[str, Maps], values: Float[np.ndarray, "n m"]
) -> dict[str, Float[np.ndarray, " n"]]:
    columns = zip(maps.items(), values.T, strict=True)
    return {name: np.where(valid(of), column, np.nan) for (name, of), column in columns}
