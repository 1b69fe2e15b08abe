import numpy as np
import pytest
from torch import from_numpy
from torchmetrics.functional.classification import multiclass_f1_score

from visavis.metrics import bootstrap, classification

LABELS = np.array([0, 0, 0, 0, 0, 0, 1, 1, 2, 2])
PREDICTED = np.array([0, 0, 0, 0, 0, 1, 1, 0, 2, 1])


def contains(interval, value):
    return interval["low"] <= value <= interval["high"]


def test_confusion_matrix_has_true_classes_in_rows():
    confusion = classification.confusion_matrix(LABELS, PREDICTED, 3)
    assert confusion.tolist() == [[5, 1, 0], [1, 1, 0], [0, 1, 1]]
    assert classification.accuracy(confusion) == 0.7


def test_f1_by_hand_and_macro_is_not_accuracy_on_unbalanced_classes():
    confusion = classification.confusion_matrix(LABELS, PREDICTED, 3)
    f1 = [2 * 5 / 12, 2 * 1 / 5, 2 * 1 / 3]
    np.testing.assert_allclose(classification.f1_per_class(confusion), f1)
    assert classification.f1_macro(confusion) == pytest.approx(np.mean(f1))
    assert classification.f1_macro(confusion) != pytest.approx(classification.accuracy(confusion))


def test_f1_macro_equals_torchmetrics():
    generator = np.random.default_rng(0)
    labels, predicted = generator.integers(0, 10, (2, 300))
    expected = multiclass_f1_score(
        from_numpy(predicted), from_numpy(labels), num_classes=10, average="macro"
    )
    confusion = classification.confusion_matrix(labels, predicted, 10)
    assert classification.f1_macro(confusion) == pytest.approx(float(expected))


def test_a_class_that_does_not_occur_has_f1_zero_and_no_part_in_the_mean():
    confusion = classification.confusion_matrix(LABELS, PREDICTED, 4)
    assert classification.f1_per_class(confusion)[3] == 0
    smaller = classification.confusion_matrix(LABELS, PREDICTED, 3)
    assert classification.f1_macro(confusion) == classification.f1_macro(smaller)


def test_interval_is_that_of_the_normal_approximation_on_many_values():
    values = np.random.default_rng(1).normal(3, 2, 2000)
    found = bootstrap.interval(values)
    error = values.std() / np.sqrt(len(values))
    assert found["value"] == pytest.approx(values.mean())
    assert found["low"] == pytest.approx(values.mean() - 1.96 * error, abs=0.01)
    assert found["high"] == pytest.approx(values.mean() + 1.96 * error, abs=0.01)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    generator = np.random.default_rng(2)
    samples = generator.exponential(1, (200, 100))
    found = [bootstrap.interval(x, seed=i, resamples=400) for i, x in enumerate(samples)]
    assert 0.88 < np.mean([contains(x, 1) for x in found]) < 0.99


def test_interval_is_seeded_and_leaves_out_what_is_not_available():
    values = np.where(np.arange(30) == 7, np.nan, np.arange(30.0))
    found = bootstrap.interval(values)
    assert found["low"] < found["value"] == np.nanmean(values) < found["high"]
    assert found == bootstrap.interval(np.delete(values, 7))
    assert bootstrap.interval(np.array([1.0, np.nan])) is None
    assert bootstrap.interval(np.array([])) is None


def test_ratio_is_of_means_so_that_one_small_denominator_does_not_rule():
    denominators = np.append(np.ones(99), 1e-9)
    numerators = np.append(np.full(99, 0.5), 1.0)
    assert bootstrap.ratio_interval(numerators, denominators)["value"] == pytest.approx(
        0.51, abs=0.01
    )


def test_ratio_over_nothing_is_not_available():
    numerators = np.ones(50)
    assert bootstrap.ratio_interval(numerators, np.zeros(50)) is None
    noise = np.random.default_rng(3).normal(0, 1, 50)
    assert bootstrap.ratio_interval(numerators, noise - noise.mean() + 0.01) is None


def test_paired_difference_is_narrower_than_the_two_intervals():
    generator = np.random.default_rng(4)
    common = generator.normal(0, 1, 500)
    a, b = common + 0.1, common + generator.normal(0, 0.01, 500)
    difference = bootstrap.paired_difference(a, b)
    assert contains(difference, 0.1)
    assert difference["high"] - difference["low"] < 0.01
    assert bootstrap.interval(a)["high"] - bootstrap.interval(a)["low"] > 0.1


def test_macro_f1_intervals_agree_with_drawing_images_one_by_one():
    generator = np.random.default_rng(5)
    labels = generator.integers(0, 4, 400)
    a = np.where(generator.random(400) < 0.8, labels, generator.integers(0, 4, 400))
    b = np.where(generator.random(400) < 0.6, labels, generator.integers(0, 4, 400))
    columns = [classification.f1_columns(labels, x, 4) for x in (a, b)]

    def difference(means):
        first, second = np.split(means, 2, axis=1)
        return classification.f1_macro_of(first) - classification.f1_macro_of(second)

    found = [bootstrap.drawn_interval(x, classification.f1_macro_of) for x in columns]
    found.append(bootstrap.drawn_interval(np.concatenate(columns, axis=1), difference))
    drawn = []
    for _ in range(500):
        rows = generator.integers(0, 400, 400)
        f1 = [
            classification.f1_macro(classification.confusion_matrix(labels[rows], x[rows], 4))
            for x in (a, b)
        ]
        drawn.append([*f1, f1[0] - f1[1]])
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    for interval, expected_low, expected_high in zip(found, low, high, strict=True):
        assert interval["low"] == pytest.approx(expected_low, abs=0.015)
        assert interval["high"] == pytest.approx(expected_high, abs=0.015)
    assert found[2]["value"] == pytest.approx(found[0]["value"] - found[1]["value"])
    confusion = classification.confusion_matrix(labels, a, 4)
    assert found[0]["value"] == pytest.approx(classification.f1_per_class(confusion).mean())


def test_mcnemar_by_hand():
    correct_a = np.array([1, 1, 1, 1, 1, 1, 0, 0], dtype=bool)
    correct_b = np.array([1, 0, 0, 0, 0, 0, 1, 0], dtype=bool)
    # 5 against 1: twice the chance of at most 1 head in 6 throws.
    assert classification.mcnemar(correct_a, correct_b) == {
        "only_first": 5,
        "only_second": 1,
        "p_value": pytest.approx(2 * 7 / 64),
    }
    assert classification.mcnemar(correct_a, correct_a)["p_value"] == 1


def test_a_share_of_one_is_not_certain_and_few_values_have_no_interval():
    certain = bootstrap.interval(np.ones(50, dtype=bool))
    assert certain["value"] == certain["high"] == 1
    assert certain["low"] == pytest.approx(1 / (1 + 1.959964**2 / 50))  # Wilson's, in closed form
    assert bootstrap.interval(np.arange(19.0)) is None
    assert bootstrap.interval(np.arange(20.0)) is not None
    assert bootstrap.ratio_interval(np.arange(19.0), np.ones(19)) is None
