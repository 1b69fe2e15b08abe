import numpy as np
import pytest
from scipy import stats

from visavis.metrics import agreement, bootstrap


def contains(interval, value):
    return interval["low"] <= value <= interval["high"]


def test_rank_agreement_equals_scipys_with_ties():
    a, b = np.random.default_rng(6).integers(0, 5, (2, 20, 8, 8)).astype(np.float32)
    expected = [stats.spearmanr(x.ravel(), y.ravel()).statistic for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(agreement.rank_agreement(a, b), expected)


def test_rank_agreement_of_the_same_of_the_opposite_and_of_nothing():
    maps = np.random.default_rng(7).random((3, 8, 8))
    np.testing.assert_allclose(agreement.rank_agreement(maps, maps**3), 1)
    np.testing.assert_allclose(agreement.rank_agreement(maps, -maps), -1)
    assert np.isnan(agreement.rank_agreement(maps, np.zeros_like(maps))).all()


def test_unrelated_maps_agree_by_chance_only():
    a, b = np.random.default_rng(8).random((2, 500, 8, 8))
    assert contains(bootstrap.interval(agreement.rank_agreement(a, b)), 0)


def test_partners_are_others_of_the_same_class_each_taken_once():
    labels = np.random.default_rng(9).integers(0, 10, 200)
    partner = agreement.same_class_partner(labels, seed=0)
    assert (labels[partner] == labels).all()
    assert (partner != np.arange(200)).all()
    assert sorted(partner) == list(range(200))
    assert agreement.same_class_partner(np.array([0, 1, 1]), seed=0).tolist() == [-1, 2, 1]


def test_a_shared_centre_is_all_baseline_and_no_excess():
    generator = np.random.default_rng(10)
    rows = np.linspace(-1, 1, 8)
    centre = np.exp(-2 * (rows[:, None] ** 2 + rows**2))
    a, b = centre + generator.normal(0, 0.2, (2, 400, 8, 8))
    labels = generator.integers(0, 10, 400)
    agreed = agreement.rank_agreement(a, b)
    baseline = agreement.permutation_baseline(a, b, labels)
    assert agreed.mean() > 0.3
    assert contains(bootstrap.interval(agreed - baseline), 0)


def test_a_lone_image_of_its_class_has_no_baseline():
    maps = np.random.default_rng(11).random((3, 8, 8))
    baseline = agreement.permutation_baseline(maps, maps, np.array([0, 1, 1]))
    assert np.isnan(baseline[0])
    assert np.isfinite(baseline[1:]).all()


def test_top_overlap_of_the_same_of_the_opposite_and_by_chance():
    a, b = np.random.default_rng(6).random((2, 500, 8, 8))
    assert (agreement.top_k_iou(a, 3 * a) == 1).all()
    assert (agreement.top_k_iou(a, -a) == 0).all()
    assert agreement.top_k_iou(a, b).mean() == pytest.approx(0.116, abs=0.01)  # 13 of 64
    ties = np.zeros((500, 8, 8))
    ties[:, 0, 0] = 1  # one cell is highest, the other twelve are drawn
    assert agreement.top_k_iou(ties, ties).mean() == pytest.approx(0.17, abs=0.03)
    assert np.isnan(agreement.top_k_iou(a[:1], np.ones((1, 8, 8)))).all()
