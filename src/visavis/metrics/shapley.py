"""Shapley values of an image's cells: what each adds to the prediction, whatever others are shown.

On the built-in shapes, with clean plates as fills, they are a ground truth for maps: a masked cell
then looks as if there had never been a shape, instead of like a hole.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from jaxtyping import Bool, Float

from visavis.attribution.subject import Subject
from visavis.data.batches import Images, Targets
from visavis.metrics.localization import cell_means
from visavis.metrics.masking import probabilities

Game = Callable[[Bool[np.ndarray, "coalitions players"]], Float[np.ndarray, " coalitions"]]
"""The value of each coalition, given as the players that are in it."""


def shapley_values(
    game: Game, players: int, *, pairs: int, generator: np.random.Generator
) -> Float[np.ndarray, " players"]:
    """What each player adds to the players before it, as a mean over random orders.

    Half of the orders are the others in reverse, which makes the estimate exact where players
    interact in twos at most.

    Args:
        pairs: of an order and its reverse.

    Returns:
        Unbiased estimates, whose sum is exact: the value of all players less that of none.

    Source: Castro, Gómez & Tejada 2009 (algorithm ApproShapley); reversed orders: Mitchell et al.
    2022 (arXiv 2104.12199).
    """
    orders = generator.permuted(np.tile(np.arange(players), (pairs, 1)), axis=1)
    turn = np.argsort(np.concatenate([orders, orders[:, ::-1]]), axis=1)
    joined = turn[:, None] < np.arange(players + 1)[:, None]
    values = game(np.concatenate(joined)).reshape(2 * pairs, players + 1)
    return np.take_along_axis(np.diff(values, axis=1), turn, axis=1).mean(axis=0)


def of_cells(
    subject: Subject,
    images: Images,
    targets: Targets,
    region: Bool[np.ndarray, "n side side"],
    *,
    fills: Images,
    pairs: int = 8,
    seed: int = 0,
) -> Float[np.ndarray, "n g g"]:
    """Shapley values of the cells for the probability of each image's target class.

    The players are the cells of the scoring grid that a region touches; all others stay as they are
    and get 0. With clean plates that is their Shapley value if the region is all pixels in which
    image and plate differ; a ground-truth mask is smaller, since it ends in the middle of the rim.

    Args:
        fills: one for each image, whose pixels the cells outside the coalition take.
        pairs: as for `shapley_values`; each costs 2 (cells + 1) forward passes an image.
    """
    generator = np.random.default_rng(seed)
    players = cell_means(region, subject.grid) > 0
    found = np.zeros(players.shape)
    for i, cells in enumerate(players):
        one = slice(i, i + 1)
        game = partial(_probability, subject, images[one], targets[one], fills[one], cells)
        count = int(cells.sum())
        found[i, cells] = shapley_values(game, count, pairs=pairs, generator=generator)
    return found


def _probability(
    subject: Subject,
    image: Images,
    target: Targets,
    fill: Images,
    cells: Bool[np.ndarray, "g g"],
    coalitions: Bool[np.ndarray, "m players"],
) -> Float[np.ndarray, " m"]:
    kept = np.ones((1, len(coalitions), *cells.shape), dtype=bool)
    kept[:, :, cells] = coalitions
    return probabilities(subject, image, target, kept, fills=fill)[0]
