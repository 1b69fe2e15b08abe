"""How far a heatmap can be trusted, measured on the grid of 8 x 8 cells.

Deletion removes the cells in the map's order, highest first, and watches the probability of the
explained class fall; insertion puts them back into an empty image and watches it rise (Petsiuk,
Das & Saenko 2018, RISE). A removed cell takes the training images' mean colour or, as a check
that the hole itself does not decide, what a strong blur leaves of the image there.

Raw curves do not compare between models, since models differ in confidence and in how they bear
holes. So each is placed between two curves of the same model on the same image:

    deletion  = (D(random) - D(map)) / (D(random) - D(oracle))      0: no better than random orders,
    insertion = (I(map) - I(random)) / (I(oracle) - I(random))      1: as good as the oracle's

The oracle removes cells in the order of how much each one's removal alone lowers the probability,
taken in float32 and as log-odds: in bf16, or near a probability of 1, most cells would tie.
It ignores interactions, so more than 1 is possible. D and I are the mean probability over the steps
of a curve. The 64 cells go in 8 steps of 8 unless said otherwise; the ends (nothing removed, all
removed) are the same for every order and cancel, which leaves 7 points. The insertion curve of an
order is the deletion curve of the reversed order, so one set of random orders serves both.

Over many images the score is the mean numerator over the mean denominator
(`metrics.ratio_interval`): for a image that the model cannot be talked out of, the denominator is
near 0, and a mean of such ratios would be a number about those images only.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from visavis.attribution.frozen import check_classes, frozen
from visavis.config import GRID
from visavis.metrics.bootstrap import Clusters, Interval, interval, ratio_interval
from visavis.metrics.localization import CELL_SIDE, Maps, degenerate_reasons
from visavis.models.cnn import CNN
from visavis.models.vit import ViT

CELLS = GRID**2
STEPS = 8
FEW_STEPS = 4
"""For a check beside the main score: half the answers, a little less sure. Not for choosing a
layer: on shapes the CNN's last one could then not be told from a better one."""
BLUR = 4.0
"""Standard deviation of the blur, pixels: as wide as a cell."""

Fill = Literal["mean", "blur"]
"""What a removed cell takes: the training images' mean colour, or the blurred image."""


def to_cells(maps: Float[Tensor, "*batch g g"]) -> Float[Tensor, "*batch 8 8"]:
    """Maps of any grid on 8 x 8 cells: the mean over a cell's area, or the value that covers it."""
    flat = maps.reshape(-1, 1, *maps.shape[-2:])
    return functional.adaptive_avg_pool2d(flat, GRID).reshape(*maps.shape[:-2], GRID, GRID)


def removal_order(maps: Maps, *, seed: int) -> Int[np.ndarray, "n 64"]:
    """The cells of each map, highest first; ties in random order.

    One draw breaks the ties of a image: the mean over images averages what is left of chance.
    """
    chance = np.random.default_rng(seed).random((len(maps), CELLS))
    return np.lexsort((chance, -maps.reshape(len(maps), CELLS)), axis=-1)


def kept_cells(
    orders: Int[np.ndarray, "n m 64"], *, steps: int = STEPS
) -> Bool[np.ndarray, "n points 8 8"]:
    """Which cells are left at the inner points of each deletion curve: 56, 48, ... 8 of 64."""
    rank = np.argsort(orders, axis=-1)[:, :, None]
    removed = CELLS // steps * np.arange(1, steps)[:, None]
    return (rank >= removed).reshape(len(orders), -1, GRID, GRID)


def probabilities(
    model: CNN | ViT,
    images: Float[Tensor, "n 3 32 32"],
    classes: Int[Tensor, " n"],
    kept: Bool[np.ndarray, "n points 8 8"],
    *,
    fill: Fill = "mean",
    autocast: bool = False,
) -> Float[np.ndarray, "n points"]:
    """Probability of each image's class when only the kept cells of it are left.

    Args:
        autocast: forward passes in bf16.
    """
    check_classes(model, images, classes)
    logits = logits_of_kept(model, images, kept, fill=fill, autocast=autocast)
    asked = classes.cpu().repeat_interleave(kept.shape[1])[:, None]
    return logits.softmax(dim=1).gather(1, asked).numpy().reshape(kept.shape[:2])


def log_odds(
    model: CNN | ViT,
    images: Float[Tensor, "n 3 32 32"],
    classes: Int[Tensor, " n"],
    kept: Bool[np.ndarray, "n points 8 8"],
    *,
    fill: Fill = "mean",
) -> Float[np.ndarray, "n points"]:
    """The logarithm of p / (1 - p), p being what `probabilities` gives; in float32.

    It has the order of the probabilities, and where they are all but 1 it still has one.
    """
    check_classes(model, images, classes)
    logits = logits_of_kept(model, images, kept, fill=fill)
    asked = classes.cpu().repeat_interleave(kept.shape[1])[:, None]
    others = logits.scatter(1, asked, -torch.inf).logsumexp(dim=1)
    return (logits.gather(1, asked)[:, 0] - others).numpy().reshape(kept.shape[:2])


def logits_of_kept(
    model: CNN | ViT,
    images: Float[Tensor, "n 3 32 32"],
    kept: Bool[np.ndarray, "n points 8 8"],
    *,
    fill: Fill = "mean",
    autocast: bool = False,
) -> Float[Tensor, "n*points classes"]:
    """The logits of each image when only the kept cells of it are left; on the CPU."""
    n, points = kept.shape[:2]
    masks = torch.tensor(kept, device=images.device).flatten(0, 1)[:, None]
    rows = torch.arange(n, device=images.device).repeat_interleave(points)
    hole = _blurred(images) if fill == "blur" else model.normalize.mean.expand_as(images)
    layout = torch.channels_last if isinstance(model, CNN) else torch.contiguous_format
    size = 128 if images.device.type == "cpu" else 4096  # the CPU's caches hold little more
    parts = []
    with frozen(model), torch.inference_mode():
        for start in range(0, n * points, size):
            chosen = rows[start : start + size]
            mask = masks[start : start + size]
            mask = mask.repeat_interleave(CELL_SIDE, 2).repeat_interleave(CELL_SIDE, 3)
            left = torch.where(mask, images[chosen], hole[chosen]).contiguous(memory_format=layout)
            with torch.autocast(images.device.type, torch.bfloat16, enabled=autocast):
                parts.append(model(left).double())
        return torch.cat(parts).cpu()


def _blurred(images: Float[Tensor, "n 3 32 32"]) -> Float[Tensor, "n 3 32 32"]:
    soft = ndimage.gaussian_filter(images.cpu().numpy(), (0, 0, BLUR, BLUR), mode="nearest")
    return torch.from_numpy(soft).to(images)


@dataclass(frozen=True)
class Removal:
    """Mean probability along the curves of each image: D and I of the module's head."""

    random: Float[np.ndarray, " n"]
    oracle_deletion: Float[np.ndarray, " n"]
    oracle_insertion: Float[np.ndarray, " n"]
    deletion: dict[str, Float[np.ndarray, " n"]]
    """Of each map, under the name that `measure` was given; NaN where the map was refused."""
    insertion: dict[str, Float[np.ndarray, " n"]]
    clusters: Clusters = None
    """The class of each image: intervals are then clustered by it."""

    def scores(self, name: str) -> dict[str, Interval | None]:
        """Normalised deletion and insertion of one kind of map, and their numerators.

        Returns:
            The numerators, `deletion_drop` and `insertion_gain`, are differences of probability.
            The normalised scores are 1 for as good as the oracle, which may be exceeded, and
            negative for worse than random; None where the oracle itself is hardly better than
            random, or too few maps were scored.
        """
        drop, gain = self.random - self.deletion[name], self.insertion[name] - self.random
        best_drop, best_gain = (
            self.random - self.oracle_deletion,
            self.oracle_insertion - self.random,
        )
        return {
            "deletion": ratio_interval(drop, best_drop, clusters=self.clusters),
            "insertion": ratio_interval(gain, best_gain, clusters=self.clusters),
            "deletion_drop": interval(drop, clusters=self.clusters),
            "insertion_gain": interval(gain, clusters=self.clusters),
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
        """Normalised deletion of one kind of map minus that of another.

        Paired: on the images where both have a map, and over the same draws of them.
        """
        return ratio_interval(
            self.deletion[other] - self.deletion[name],
            self.random - self.oracle_deletion,
            clusters=self.clusters,
        )


def _orders(
    maps: dict[str, Maps], seed: int
) -> tuple[dict[str, Bool[np.ndarray, " n"]], dict[str, Int[np.ndarray, "n 64"]]]:
    """Which maps of each kind say something, and the order of their cells, ties drawn by kind."""
    good = {
        k: np.array([reason is None for reason in degenerate_reasons(m)]) for k, m in maps.items()
    }
    orders = {
        name: removal_order(np.where(good[name][:, None, None], values, 0.0), seed=seed + i)
        for i, (name, values) in enumerate(maps.items())
    }
    return good, orders


def deletion_means(
    model: CNN | ViT,
    images: Float[Tensor, "n 3 32 32"],
    classes: Int[Tensor, " n"],
    maps: dict[str, Maps],
    *,
    seed: int = 0,
    autocast: bool = False,
    progress: Callable[[int], object] = lambda _: None,
) -> dict[str, Float[np.ndarray, " n"]]:
    """D of each kind of map alone: what `Removal.deletion` holds, without random orders and oracle.

    Args:
        progress: told the number of images done since the last call.
    """
    good, orders = _orders(maps, seed)
    means = []
    for start in range(0, len(images), 25):
        batch = slice(start, start + 25)
        kept = kept_cells(np.stack([order[batch] for order in orders.values()], axis=1))
        answers = probabilities(model, images[batch], classes[batch], kept, autocast=autocast)
        means.append(answers.reshape(len(answers), len(orders), STEPS - 1).mean(axis=2))
        progress(len(answers))
    columns = np.concatenate(means).T
    return {k: np.where(good[k], of, np.nan) for k, of in zip(maps, columns, strict=True)}


def measure(
    model: CNN | ViT,
    images: Float[Tensor, "n 3 32 32"],
    classes: Int[Tensor, " n"],
    maps: dict[str, Maps],
    *,
    random_orders: int,
    fill: Fill = "mean",
    steps: int = STEPS,
    clusters: Clusters = None,
    seed: int = 0,
    autocast: bool = False,
    progress: Callable[[int], object] = lambda _: None,
) -> Removal:
    """Remove cells by all of `maps`, by random orders and by the oracle.

    Args:
        maps: by method, one for each image. Degenerate ones get NaN.
        random_orders: how many per image.
        fill: what a removed cell takes.
        steps: of a curve; a divisor of 64.
        clusters: the class of each image, for the intervals.
        progress: told the number of images done since the last call.
    """
    generator = np.random.default_rng(seed)
    chance = generator.permuted(
        np.broadcast_to(np.arange(CELLS), (len(images), random_orders, CELLS)), axis=-1
    )
    alone = ~np.eye(CELLS, dtype=bool).reshape(1, CELLS, GRID, GRID)
    good, orders = _orders(maps, seed + 1)
    curves = []
    for start in range(0, len(images), 25):
        batch = slice(start, start + 25)
        n = len(images[batch])
        single = np.repeat(alone, n, axis=0)
        left = log_odds(model, images[batch], classes[batch], single, fill=fill)
        oracle = removal_order(-left.reshape(n, GRID, GRID), seed=seed + start)
        by_map = np.stack([oracle, *(o[batch] for o in orders.values())], axis=1)
        ranked = np.concatenate([chance[batch], by_map, by_map[:, :, ::-1]], axis=1)
        kept = kept_cells(ranked, steps=steps)
        answers = probabilities(
            model, images[batch], classes[batch], kept, fill=fill, autocast=autocast
        )
        curves.append(answers.reshape(n, -1, steps - 1).mean(axis=2))
        progress(n)
    random, deletion, insertion = np.split(
        np.concatenate(curves), [random_orders, random_orders + 1 + len(maps)], axis=1
    )
    return Removal(
        random=random.mean(axis=1),
        oracle_deletion=deletion[:, 0],
        oracle_insertion=insertion[:, 0],
        deletion={k: np.where(good[k], deletion[:, 1 + i], np.nan) for i, k in enumerate(maps)},
        insertion={k: np.where(good[k], insertion[:, 1 + i], np.nan) for i, k in enumerate(maps)},
        clusters=clusters,
    )
