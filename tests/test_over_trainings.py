"""Intervals over images, over trainings and over both: by hand, and their coverage."""

import numpy as np
import pytest

from visavis.metrics import over_trainings

IMAGES, TRAININGS = 200, 3


def test_by_hand() -> None:
    images = np.array([[0.0] * 10 + [1.0] * 10, [0.0] * 5 + [1.0] * 15])
    found = over_trainings.spread(images)
    assert found["values"] == [0.5, 0.75]
    assert found["value"] == 0.625
    assert found["sd"] == pytest.approx(0.25 / 2**0.5)
    # t with one degree of freedom: 12.706; standard error 0.125
    half = 12.706 * 0.125
    assert found["trainings"]["low"] == pytest.approx(0.625 - half, abs=1e-4)
    below = 0.625 - found["images"]["low"]
    assert found["both"]["low"] == pytest.approx(0.625 - (half**2 + below**2) ** 0.5, abs=1e-4)


def test_one_training_has_an_interval_over_images_alone() -> None:
    found = over_trainings.spread(np.random.default_rng(0).random((1, 50)))
    assert found["images"] is not None
    assert found["sd"] is found["trainings"] is found["both"] is None


def test_images_without_a_score_are_left_out_for_all_trainings() -> None:
    scores = np.tile(np.linspace(0, 1, 30), (2, 1))
    scores[0, :5] = np.nan
    found = over_trainings.spread(scores)
    assert (
        found["values"][0] == found["values"][1] == pytest.approx(np.linspace(0, 1, 30)[5:].mean())
    )


def test_without_a_scored_image_there_is_no_mean() -> None:
    assert over_trainings.spread(np.full((2, 30), np.nan)) is None


def test_a_difference_counts_pairs_of_trainings() -> None:
    images = {"value": 0.0, "low": -0.1, "high": 0.1}
    found = over_trainings.difference(np.array([0.5, 0.7]), np.array([0.6, 0.6, 0.6]), images)
    assert found["value"] == pytest.approx(0.0)
    assert (found["pairs"], found["pairs_above"], found["pairs_below"]) == (6, 3, 3)
    # Welch: all variance is of two trainings, so that one degree of freedom is left.
    assert found["trainings"]["high"] == pytest.approx(12.706 * 0.1, abs=1e-3)
    assert found["both"]["high"] == pytest.approx((1.2706**2 + 0.1**2) ** 0.5, abs=1e-3)


def test_intervals_end_at_the_range_of_the_score() -> None:
    images = {"value": 0.98, "low": 0.97, "high": 0.99}
    found = over_trainings.with_trainings(np.array([0.97, 0.99]), images, lowest=0.0, highest=1.0)
    assert found["trainings"]["high"] == found["both"]["high"] == 1
    assert 0 < found["both"]["low"] < 0.97


def test_equal_scores_say_nothing_of_other_seeds() -> None:
    images = {"value": 0.0, "low": -0.1, "high": 0.1}
    found = over_trainings.difference(np.array([0.5, 0.5]), np.array([0.5, 0.5]), images)
    assert found["pairs_above"] == found["pairs_below"] == 0
    assert found["trainings"] is found["both"] is None
    equal = np.full(3, 0.955)  # whose mean is rounded, so that numpy finds a deviation
    assert over_trainings.with_trainings(equal, images)["trainings"] is None
    assert over_trainings.difference(equal, equal - 0.1, images)["both"] is None


@pytest.mark.parametrize(
    ("sd_training", "sd_image"), [(0.02, 0.4), (0.1, 0.4)], ids=["some", "much"]
)
def test_coverage_on_studies_with_known_variances(sd_training: float, sd_image: float) -> None:
    """A 95 % interval contains the truth that it is about in 95 % of simulated studies, or more.

    Over both, it may do so more often, since what a training does to single images counts twice.
    """
    generator = np.random.default_rng(0)
    studies, hits = 300, dict.fromkeys(("images", "trainings", "both"), 0)
    for _ in range(studies):
        of_training = generator.normal(0, sd_training, (TRAININGS, 1))
        of_image = generator.normal(0, sd_image, IMAGES)
        rest = generator.normal(0, 0.2, (TRAININGS, IMAGES))
        found = over_trainings.spread(of_training + of_image + rest)
        truth = {"images": of_training.mean(), "trainings": of_image.mean(), "both": 0.0}
        for question, value in truth.items():
            interval = found[question]
            hits[question] += interval["low"] <= value <= interval["high"]
    # 95 % of 300 with three standard errors of their count
    assert hits["images"] / studies == pytest.approx(0.95, abs=0.04)
    assert hits["trainings"] / studies == pytest.approx(0.95, abs=0.04)
    assert 0.92 < hits["both"] / studies < 1
