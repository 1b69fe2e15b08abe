"""Intervals where the class of each image is known."""

import numpy as np
import pytest

from visavis.metrics import bootstrap

TEN_BY_TWENTY = np.repeat(np.arange(10), 20)


def contains(interval, value, which=""):
    return interval[f"low{which}"] <= value <= interval[f"high{which}"]


def width(interval, which=""):
    return interval[f"high{which}"] - interval[f"low{which}"]


def test_both_intervals_cover_what_they_are_for():
    """Images differ, and classes differ as much: 0 is the mean of all classes of the kind."""
    generator = np.random.default_rng(4)
    these, others, plain = [], [], []
    for seed in range(400):
        of_classes = generator.normal(0, 1, 10)
        values = of_classes[TEN_BY_TWENTY] + generator.normal(0, 1, 200)
        found = bootstrap.interval(values, classes=TEN_BY_TWENTY, seed=seed, resamples=500)
        these.append(contains(found, of_classes.mean()))
        others.append(contains(found, 0, "_other_classes"))
        plain.append(contains(bootstrap.interval(values, seed=seed, resamples=100), 0))
    assert 0.92 < np.mean(these) < 0.98
    assert 0.92 < np.mean(others) < 0.98
    assert np.mean(plain) < 0.6  # images without their classes answer neither question


def test_intervals_cover_where_images_are_few_and_classes_unequal():
    generator = np.random.default_rng(5)
    covered = []
    for seed in range(400):
        classes = generator.integers(0, 10, 24)
        of_classes = generator.normal(0, 1, 10)
        values = of_classes[classes] + generator.normal(0, 1, 24)
        found = bootstrap.interval(values, classes=classes, seed=seed, resamples=500)
        covered.append(contains(found, of_classes[classes].mean()))
    assert 0.92 < np.mean(covered) < 0.98


def test_what_classes_have_in_common_widens_the_interval_for_other_classes_alone():
    noise = np.random.default_rng(6).normal(0, 1, 200)
    alike = bootstrap.interval(noise, classes=TEN_BY_TWENTY)
    apart = bootstrap.interval(noise + 3 * TEN_BY_TWENTY, classes=TEN_BY_TWENTY)
    assert width(apart) == pytest.approx(width(alike))
    assert width(apart, "_other_classes") > 5 * width(alike, "_other_classes")
    assert apart["value"] == pytest.approx(alike["value"] + 13.5)


def test_a_ratio_and_a_function_of_means_follow_their_classes():
    values = np.random.default_rng(7).normal(0, 1, 200) + TEN_BY_TWENTY
    mean = bootstrap.interval(values, classes=TEN_BY_TWENTY)
    ratio = bootstrap.ratio_interval(values, np.full(200, 2.0), classes=TEN_BY_TWENTY)
    assert ratio == pytest.approx({key: end / 2 for key, end in mean.items()})
    drawn = bootstrap.drawn_interval(
        values[:, None], lambda means: means[:, 0], classes=TEN_BY_TWENTY
    )
    assert drawn == mean


def test_too_few_classes_have_no_interval_for_others():
    values = np.random.default_rng(8).normal(0, 1, 60)
    for count in (1, 2, bootstrap.MINIMUM_CLASSES - 1):
        found = bootstrap.interval(values, classes=np.arange(60) % count)
        assert found.keys() == {"value", "low", "high"}
    assert "low_other_classes" in bootstrap.interval(
        values, classes=np.arange(60) % bootstrap.MINIMUM_CLASSES
    )


def test_a_ratio_that_other_classes_may_leave_undefined_has_no_interval_for_them():
    of_classes = np.where(TEN_BY_TWENTY == 0, 1.0, 0.0)  # a resample may lack class 0
    found = bootstrap.ratio_interval(of_classes, of_classes, classes=TEN_BY_TWENTY)
    assert found == {"value": 1, "low": 1, "high": 1}


def test_images_that_are_each_the_only_one_of_their_class_still_vary():
    values = np.random.default_rng(9).normal(0, 1, 50)
    found = bootstrap.interval(values, classes=np.arange(50))
    plain = bootstrap.interval(values)
    assert (found["low"], found["high"]) == (plain["low"], plain["high"])


def test_an_image_that_is_the_only_one_of_its_class_varies_with_the_smallest_other_class():
    classes = np.repeat([0, 1, 2], [10, 9, 1])
    found = bootstrap.interval((classes == 2).astype(float), classes=classes)
    assert found["low"] < found["value"] < found["high"]


def test_a_proportion_that_is_constant_within_each_class_keeps_a_width():
    hits = TEN_BY_TWENTY == 3
    found = bootstrap.interval(hits, classes=TEN_BY_TWENTY)
    assert found["low"] < 0.08 and found["high"] > 0.12


def test_classes_follow_the_images_that_are_left():
    classes = np.repeat([0, 1, 2], 20)
    values = classes.astype(float)
    values[classes == 2] = np.nan
    found = bootstrap.interval(values, classes=classes)
    assert (found["low"], found["value"], found["high"]) == (0.5, 0.5, 0.5)


def test_a_proportion_of_one_keeps_a_width_within_classes_too():
    right = bootstrap.interval(np.ones(50, bool), classes=np.arange(50) % 10)
    assert right["value"] == 1 and 0.9 < right["low"] < 0.95
