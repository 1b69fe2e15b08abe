"""Each two trainings of a study: do they look at the same places and err on the same images?"""

from collections.abc import Sequence
from itertools import combinations, combinations_with_replacement
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy import stats
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from visavis.compare import trainings as of_study
from visavis.compare.trainings import Training
from visavis.metrics import bootstrap
from visavis.metrics.agreement import mean_of_known
from visavis.metrics.bootstrap import Interval

PERMUTATIONS = 2000
MINIMUM_TRAININGS = 5
"""For the permutation test: four trainings have only 24 orders."""

Matrix = Float[np.ndarray, "trainings trainings"]


def agreement(trainings: Sequence[Training], rows: list[np.ndarray]) -> dict[str, Any]:
    """Agreement above chance of the default methods' maps of every pair of trainings.

    Returns:
        `n`, the number of images. `above_chance`, a symmetric matrix in the order of the trainings,
        its diagonal None: 0 is the within-class permutation baseline, 1 the same order of all
        cells. `order`: of the trainings, with similar variants side by side. `layout`: a point in
        the plane for each, nearer the better they agree, with the share of their differences that
        it shows (`layout_share`). `groups`: what `_groups` returns.
    """
    classes = trainings[0].model.heatmaps["labels"][rows[0]]
    ranks = np.stack(
        [
            of_study.ranks_of(each, each.model.explanations["default_method"], at)
            for each, at in zip(trainings, rows, strict=True)
        ]
    )
    others = of_study.of_other_images(ranks, classes)
    above = of_study.agreement(ranks) - of_study.baseline(ranks, others)
    matrix = _mean(above)
    points, share = _layout(matrix)
    return {
        "n": len(classes),
        "above_chance": _listed(matrix),
        "order": _order(matrix, of_study.by_variant(trainings)),
        "layout": points,
        "layout_share": share,
        "groups": _groups(above, matrix, of_study.by_variant(trainings), classes),
    }


def _mean(of_images: Float[np.ndarray, "images n n"]) -> Matrix:
    flat = mean_of_known(of_images.reshape(len(of_images), -1))
    return flat.reshape(of_images.shape[1:])


def _listed(matrix: Matrix) -> list[list[float | None]]:
    """For JSON: None on the diagonal and for what is not known."""
    return [
        [None if i == j or not np.isfinite(value) else float(value) for j, value in enumerate(row)]
        for i, row in enumerate(matrix)
    ]


def _groups(
    above: Float[np.ndarray, "images n n"],
    matrix: Matrix,
    variants: dict[str, list[int]],
    classes: Int[np.ndarray, " images"],
) -> list[dict[str, Any]]:
    """The agreement within each variant, which is its noise ceiling, and between each two.

    Returns:
        For each: the `variants` (the same twice within one), the number of `pairs`, the mean
        `agreement` with its interval over images, its `lowest` and `highest` pair; and between two,
        `relative`: the agreement over the geometric mean of both noise ceilings, with its interval
        over images. None unless both ceilings are significantly above 0. 1: they agree as well as
        trainings of the same variant do.
    """
    found: list[dict[str, Any]] = []
    values: dict[tuple[str, str], np.ndarray] = {}
    for a, b in combinations_with_replacement(variants, 2):
        pairs = (
            list(combinations(variants[a], 2))
            if a == b
            else [(i, j) for i in variants[a] for j in variants[b]]
        )
        if not pairs:
            continue
        i, j = np.array(pairs).T
        values[a, b] = mean_of_known(above[:, i, j].T)
        of_pairs = matrix[i, j][np.isfinite(matrix[i, j])]
        found.append(
            {
                "variants": [a, b],
                "pairs": len(pairs),
                "agreement": bootstrap.interval(values[a, b], classes=classes),
                "lowest": float(of_pairs.min()) if len(of_pairs) else None,
                "highest": float(of_pairs.max()) if len(of_pairs) else None,
            }
        )
    intervals = {tuple(group["variants"]): group["agreement"] for group in found}
    for group in found:
        a, b = group["variants"]
        ceilings = [intervals.get((name, name)) for name in (a, b)]
        group["relative"] = None
        if a != b and all(ceiling and ceiling["low"] > 0 for ceiling in ceilings):
            group["relative"] = _relative(values[a, b], values[a, a], values[b, b], classes)
    return found


def _relative(
    between: np.ndarray, first: np.ndarray, second: np.ndarray, classes: np.ndarray
) -> Interval | None:
    stacked = np.stack([between, first, second], axis=1)
    known = np.isfinite(stacked).all(axis=1)
    return bootstrap.drawn_interval(
        stacked[known],
        lambda m: m[:, 0] / np.sqrt(np.clip(m[:, 1] * m[:, 2], 1e-9, None)),
        classes=classes[known],
    )


def _order(matrix: Matrix, variants: dict[str, list[int]]) -> list[int]:
    """The trainings variant by variant, those that agree side by side (average linkage)."""
    names = list(variants)
    if len(names) > 2:
        between = np.array(
            [[np.nanmean(matrix[np.ix_(variants[a], variants[b])]) for a in names] for b in names]
        )
        distances = np.clip(1 - np.nan_to_num(between), 0, None)
        np.fill_diagonal(distances, 0)
        linked = hierarchy.linkage(
            squareform(distances, checks=False), "average", optimal_ordering=True
        )
        names = [names[i] for i in hierarchy.leaves_list(linked)]
    return [i for name in names for i in variants[name]]


def _layout(matrix: Matrix) -> tuple[list[list[float]] | None, float | None]:
    """Classical multidimensional scaling of 1 - agreement above chance, in two dimensions.

    None for fewer than three trainings, or where a pair's agreement is not known.

    Source: Torgerson 1952, doi 10.1007/BF02288916.
    """
    distances = 1 - matrix
    np.fill_diagonal(distances, 0)
    n = len(matrix)
    if n < 3 or not np.isfinite(distances).all():
        return None, None
    centre = np.eye(n) - 1 / n
    products = -centre @ distances**2 @ centre / 2
    strengths, axes = np.linalg.eigh(products)
    points = axes[:, :-3:-1] * np.sqrt(np.clip(strengths[:-3:-1], 0, None))
    positive = strengths[strengths > 0].sum()
    share = float(np.clip(strengths[:-3:-1], 0, None).sum() / positive) if positive else 0.0
    return points.tolist(), share


def errors(trainings: Sequence[Training], above_chance: list[list[float | None]]) -> dict[str, Any]:
    """Error consistency of every pair, and whether pairs that err alike look alike.

    Returns:
        `kappa`, a symmetric matrix (compare.behaviour.consistency defines it; None on the diagonal
        and for two trainings without errors). `with_agreement`: Spearman's correlation of kappa and
        the agreement of the maps over all pairs, with the p-value of Mantel's (1967) permutation
        test, in which the trainings of one matrix are permuted; None for fewer than 5 trainings.
    """
    correct = np.stack([each.model.correct for each in trainings]).astype(np.float64)
    n, p = correct.shape[1], correct.mean(axis=1)
    observed = (correct @ correct.T + (1 - correct) @ (1 - correct).T) / n
    expected = np.outer(p, p) + np.outer(1 - p, 1 - p)
    with np.errstate(invalid="ignore", divide="ignore"):
        kappa = np.where(expected < 1, (observed - expected) / (1 - expected), np.nan)
    agreed = np.array(above_chance, dtype=np.float64)
    return {"kappa": _listed(kappa), "with_agreement": mantel(kappa, agreed)}


def mantel(a: Matrix, b: Matrix) -> dict[str, float] | None:
    """Mantel's (1967) permutation test of two symmetric matrices, by rank correlation.

    None for fewer than 5 trainings, a pair that is not known, or a constant matrix.
    """
    once = of_study.upper(len(a))
    if len(a) < MINIMUM_TRAININGS or not all(
        np.isfinite(of[once]).all() and np.ptp(of[once]) > 0 for of in (a, b)
    ):
        return None
    ranks_a = stats.rankdata(a[once])
    ranks_b = np.zeros(b.shape)
    ranks_b[once] = stats.rankdata(b[once])
    ranks_b += ranks_b.T

    def correlation(order: np.ndarray) -> float:
        return float(np.corrcoef(ranks_a, ranks_b[np.ix_(order, order)][once])[0, 1])

    generator = np.random.default_rng(0)
    found = correlation(np.arange(len(a)))
    drawn = [correlation(generator.permutation(len(a))) for _ in range(PERMUTATIONS)]
    extreme = sum(abs(value) >= abs(found) - 1e-12 for value in drawn)
    return {"correlation": found, "p_value": (1 + extreme) / (1 + PERMUTATIONS)}
