"""P-values from intervals, Holm's correction, and the difference that would have been detected."""

import numpy as np
import pytest
from scipy import stats

from visavis.metrics import bootstrap, significance


def test_a_p_value_is_below_5_percent_where_the_interval_excludes_the_reference():
    skewed = {"value": 1.0, "low": 0.5, "high": 3.0}
    assert significance.p_value(skewed, 0.49) < 0.05 < significance.p_value(skewed, 0.51)
    assert significance.p_value(skewed, 3.01) < 0.05 < significance.p_value(skewed, 2.99)
    assert significance.p_value(skewed, 0.5) == pytest.approx(0.05)
    assert significance.p_value(skewed, 1.0) == 1


def test_a_number_without_width_is_certain():
    certain = {"value": 1.0, "low": 1.0, "high": 1.0}
    assert significance.p_value(certain, 1.0) == 1
    assert significance.p_value(certain) == 0


def test_p_values_are_those_of_a_t_test():
    for shift in (0.0, 0.1, 0.2, 0.3):
        values = np.random.default_rng(1).normal(shift, 1, 300)
        expected = stats.ttest_1samp(values, 0).pvalue
        found = significance.p_value(bootstrap.interval(values))
        assert found == pytest.approx(expected, abs=0.02)


def test_holm_by_hand():
    # 4 x 0.005; 3 x 0.01; 2 x 0.03; then 0.04, but not below the one before
    assert significance.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert significance.holm([0.5, 0.9]) == [1, 1]
    alone = [0.50, 0.01, 0.001, 0.69, 0.02, 0.05, 0.0025]
    assert [p < 0.05 for p in significance.holm(alone)] == [i in (2, 6) for i in range(7)]
    assert significance.holm([]) == []


def test_holm_keeps_one_false_positive_in_twenty_families():
    generator = np.random.default_rng(2)
    families = generator.random((2000, 20))
    assert np.mean([min(significance.holm(p)) < 0.05 for p in families.tolist()]) < 0.065
    assert np.mean([min(p) < 0.05 for p in families]) > 0.5


def test_the_detectable_difference_is_detected_four_times_in_five():
    generator = np.random.default_rng(3)
    null = bootstrap.interval(generator.normal(0, 1, 200))
    true = significance.detectable(null)
    assert true == pytest.approx(2.8 / np.sqrt(200), rel=0.1)
    samples = generator.normal(true, 1, (300, 200))
    found = [bootstrap.interval(x, seed=i, resamples=300) for i, x in enumerate(samples)]
    assert 0.72 < np.mean([x["low"] > 0 for x in found]) < 0.88
