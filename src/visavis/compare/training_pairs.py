"""Pairs of trainings of a study: do they look at the same places and err on the same images?"""

from collections.abc import Sequence
from itertools import combinations, combinations_with_replacement
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from visavis.compare import behaviour
from visavis.compare import trainings as of_study
from visavis.compare.trainings import Training
from visavis.metrics import bootstrap
from visavis.metrics.agreement import above_chance, mean_of_known, over_ceilings, pairwise

PERMUTATIONS = 2000
MINIMUM_TRAININGS = 5
"""For the permutation test: four trainings have only 24 orders."""

Matrix = Float[np.ndarray, "trainings trainings"]


def agreement(trainings: Sequence[Training], rows: Sequence[np.ndarray]) -> dict[str, Any]:
    """Agreement of the maps of each pair of trainings.

    Returns:
        `n`, the number of images. `above_chance`, of the default methods' maps: a symmetric matrix
        in the order of the trainings, its diagonal None; 0 is the within-class permutation
        baseline, and the highest possible value 1 less that baseline. `order`: of the trainings,
        with similar variants side by side. `layout`: a point in the plane for each, nearer the
        better they agree, and `layout_share`, how much of their differences it shows. `groups`:
        what `_groups` returns; `by_method`, the same for each method that all variants have.
    """
    classes = trainings[0].model.heatmaps["labels"][rows[0]]
    variants = of_study.by_variant(trainings)
    default = [each.model.explanations["default_method"] for each in trainings]
    agreed, above = _agreed(trainings, rows, default, classes)
    points, share = _layout(_mean(agreed))
    by_method = {
        name: _groups(
            _agreed(trainings, rows, [name] * len(trainings), classes)[1], variants, classes
        )
        for name in of_study.shared_methods(trainings)
    }
    matrix = _mean(above)
    return {
        "n": len(classes),
        "above_chance": _listed(matrix),
        "order": _order(matrix, variants),
        "layout": points,
        "layout_share": share,
        "groups": _groups(above, variants, classes),
        "by_method": by_method,
    }


def _agreed(
    trainings: Sequence[Training],
    rows: Sequence[np.ndarray],
    methods: Sequence[str],
    classes: Int[np.ndarray, " images"],
) -> tuple[Float[np.ndarray, "images n n"], Float[np.ndarray, "images n n"]]:
    """Rank agreement of each pair of trainings' maps, and what of it is above chance.

    Args:
        methods: one for each training.
    """
    ranks = np.stack(
        [
            of_study.ranks_of(each, method, at)
            for each, method, at in zip(trainings, methods, rows, strict=True)
        ]
    )
    return pairwise(ranks), above_chance(ranks, classes)


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
    matrix = _mean(above)
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
            group["relative"] = over_ceilings(values[a, b], values[a, a], values[b, b], classes)
    return found


def _order(matrix: Matrix, variants: dict[str, list[int]]) -> list[int]:
    """The trainings variant by variant, those that agree side by side (average linkage)."""
    names = list(variants)
    if len(names) > 2:
        between = np.array(
            [
                [
                    mean_of_known(matrix[np.ix_(variants[a], variants[b])].reshape(-1, 1))[0]
                    for a in names
                ]
                for b in names
            ]
        )
        distances = np.clip(1 - np.nan_to_num(between), 0, None)
        np.fill_diagonal(distances, 0)
        linked = hierarchy.linkage(
            squareform(distances, checks=False), "average", optimal_ordering=True
        )
        names = [names[i] for i in hierarchy.leaves_list(linked)]
    return [i for name in names for i in variants[name]]


def _layout(agreed: Matrix) -> tuple[list[list[float]] | None, float | None]:
    """Classical multidimensional scaling, in two dimensions.

    The distance of two trainings is that of their maps as unit vectors of ranks, the root of
    2 (1 - rank agreement).

    Returns:
        The points, and the sum of their two eigenvalues over that of the absolute values of all, 0
        to 1. None for fewer than three trainings, or where an agreement is not known.

    Source: Torgerson 1952, doi 10.1007/BF02288916.
    """
    squared = 2 * (1 - agreed)
    np.fill_diagonal(squared, 0)
    n = len(squared)
    if n < 3 or not np.isfinite(squared).all():
        return None, None
    centre = np.eye(n) - 1 / n
    strengths, axes = np.linalg.eigh(-centre @ squared @ centre / 2)
    two = np.clip(strengths[:-3:-1], 0, None)
    total = np.abs(strengths).sum()
    points = axes[:, :-3:-1] * np.sqrt(two)
    return points.tolist(), float(two.sum() / total) if total else 0.0


def errors(
    trainings: Sequence[Training], agreed_above_chance: list[list[float | None]]
) -> dict[str, Any]:
    """Error consistency of each pair, and whether pairs that err alike look alike.

    Returns:
        `kappa`, a symmetric matrix (compare.behaviour.consistency defines it; None on the diagonal
        and for two trainings without errors). `with_agreement`: what `mantel` finds for kappa and
        the agreement of the maps; `within_variants`: the same without what variants explain.
    """
    correct = np.stack([each.model.correct for each in trainings]).astype(np.float64)
    n, p = correct.shape[1], correct.mean(axis=1)
    observed = (correct @ correct.T + (1 - correct) @ (1 - correct).T) / n
    kappa = behaviour.kappa(p[:, None], p, observed)
    agreed = np.array(agreed_above_chance, dtype=np.float64)
    variants = of_study.by_variant(trainings)
    variant = np.empty(len(trainings), dtype=np.int64)
    for number, members in enumerate(variants.values()):
        variant[members] = number
    return {
        "kappa": _listed(kappa),
        "with_agreement": mantel(kappa, agreed),
        "within_variants": mantel(kappa, agreed, variant) if len(variants) > 1 else None,
    }


def mantel(
    a: Matrix, b: Matrix, groups: Int[np.ndarray, " trainings"] | None = None
) -> dict[str, float] | None:
    """Mantel's (1967) permutation test of two symmetric matrices, by rank correlation.

    None for fewer than 5 trainings, a pair that is not known, or a constant matrix.

    Args:
        groups: of the trainings. The mean of each pair of groups is subtracted, and trainings are
            permuted within their group alone: what is left is not explained by the groups.
    """
    once = of_study.upper(len(a))
    if len(a) < MINIMUM_TRAININGS or not all(np.isfinite(of[once]).all() for of in (a, b)):
        return None
    of_one = np.zeros(len(a), dtype=np.int64) if groups is None else groups
    ranks = [_without_groups(of, once, of_one) for of in (a, b)]
    if min(np.ptp(of[once]) for of in ranks) < 1e-9:
        return None
    generator = np.random.default_rng(0)

    def correlation(order: np.ndarray) -> float:
        return float(np.corrcoef(ranks[0][once], ranks[1][np.ix_(order, order)][once])[0, 1])

    def permuted() -> np.ndarray:
        order = np.arange(len(a))
        for group in np.unique(of_one):
            members = np.flatnonzero(of_one == group)
            order[members] = generator.permutation(members)
        return order

    found = correlation(np.arange(len(a)))
    drawn = [correlation(permuted()) for _ in range(PERMUTATIONS)]
    extreme = sum(abs(value) >= abs(found) - 1e-12 for value in drawn)
    return {"correlation": found, "p_value": (1 + extreme) / (1 + PERMUTATIONS)}


def _without_groups(
    matrix: Matrix, once: Bool[np.ndarray, "n n"], groups: Int[np.ndarray, " n"]
) -> Matrix:
    """The ranks of a symmetric matrix, less their mean over each pair of groups."""
    ranks = np.zeros(matrix.shape)
    ranks[once] = stats.rankdata(matrix[once])
    ranks += ranks.T
    one_hot = np.eye(groups.max() + 1)[groups]
    pair = ~np.eye(len(matrix), dtype=bool)
    sums = one_hot.T @ (ranks * pair) @ one_hot
    counts = np.maximum(one_hot.T @ pair @ one_hot, 1)
    return np.where(pair, ranks - (sums / counts)[np.ix_(groups, groups)], 0.0)
