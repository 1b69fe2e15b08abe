"""Error consistency, shared mistakes, buckets and calibration, against numbers taken by hand."""

import numpy as np
import pytest

from visavis.compare import behaviour
from visavis.metrics import bootstrap, calibration, classification


def test_error_consistency_by_hand():
    # 10 images, accuracies 0.8 and 0.6; both are correct or both wrong in 6.
    a = np.array([1, 1, 1, 1, 1, 1, 1, 1, 0, 0], bool)
    b = np.array([1, 1, 1, 1, 1, 0, 0, 0, 1, 0], bool)
    found = behaviour.consistency(np.tile(a, 50), np.tile(b, 50))
    expected = 0.8 * 0.6 + 0.2 * 0.4
    assert found["observed"] == pytest.approx(0.6)
    assert found["expected"] == pytest.approx(expected)
    assert found["kappa"]["value"] == pytest.approx((0.6 - expected) / (1 - expected))
    assert found["highest"] == pytest.approx((1 - 0.2 - expected) / (1 - expected))


def test_error_consistency_of_the_same_mistakes_is_one_and_of_independent_ones_is_not_shown():
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 4000)) < 0.7
    same = behaviour.consistency(a, a)
    assert same["kappa"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert same["highest"] == pytest.approx(1)
    apart = behaviour.consistency(a, b)["kappa"]
    assert apart["low"] < 0 < apart["high"]


def test_the_published_maxima_of_error_consistency():
    for p, q, highest in ((0.93, 0.90, 0.81), (0.90, 0.80, 0.615), (0.80, 0.65, 0.634)):
        n = np.arange(1000)
        assert behaviour.consistency(n < 1000 * p, n < 1000 * q)["highest"] == pytest.approx(
            highest, abs=0.005
        )


def test_models_without_mistakes_have_no_error_consistency():
    correct = np.ones(100, bool)
    found = behaviour.consistency(correct, correct)
    assert found["kappa"] is None
    assert found["highest"] is None
    assert behaviour.same_wrong_class(*np.zeros((3, 100), int), 10)["share"] is None
    one_is_wrong = behaviour.same_wrong_class(np.zeros(100, int), *np.ones((2, 100), int), 2)
    assert one_is_wrong == {"n": 100, "share": None, "expected": None}  # it is the same by design


def test_independent_wrong_predictions_coincide_as_often_as_expected():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 20_000)
    a, b = (labels + rng.choice([0, 1, 2, 3], (2, 20_000), p=[0.4, 0.4, 0.1, 0.1])) % 10
    found = behaviour.same_wrong_class(labels, a, b, 10)
    # Among the wrong: 2/3, 1/6, 1/6.
    assert found["expected"] == pytest.approx(4 / 9 + 2 / 36, abs=0.01)
    assert found["share"]["low"] < found["expected"] < found["share"]["high"]
    assert found["n"] == pytest.approx(0.36 * 20_000, rel=0.05)


def test_what_is_kept_without_a_cue_by_hand():
    def correct(share):
        return np.arange(1000) < 1000 * share

    found = behaviour.without_cue(
        (correct(0.9), correct(0.5)), (correct(0.5), correct(0.5)), chance=0.1
    )
    assert found["accuracy"]["first"]["value"] == 0.5
    assert found["difference"] == {"value": 0, "low": 0, "high": 0}
    assert found["kept"]["first"]["value"] == pytest.approx(0.5)
    assert found["kept"]["second"] == {"value": 1, "low": 1, "high": 1}
    assert found["kept_difference"]["value"] == pytest.approx(-0.5)
    assert found["kept_difference"]["high"] < -0.4


def test_a_model_at_chance_has_nothing_to_keep():
    first, second = np.random.default_rng(0).random((2, 200)) < [[0.1], [0.9]]
    found = behaviour.without_cue((first, second), (first, second), chance=0.1)
    assert found["kept"]["first"] is found["kept_difference"] is None
    assert found["kept"]["second"]["value"] == 1
    assert found["difference"]["high"] < 0


def test_each_image_is_in_its_one_bucket():
    labels, a, b = np.array([[0, 0, 0, 0, 0], [0, 0, 1, 1, 1], [0, 1, 0, 1, 2]])
    found = classification.buckets(labels, a, b)
    np.testing.assert_array_equal(np.stack(list(found.values())), np.eye(5, dtype=bool))


def test_evidence_for_the_truth_uses_the_maps_for_the_true_class_of_what_both_explained():
    rng = np.random.default_rng(0)
    maps = rng.random((60, 8, 8)).astype(np.float32)
    noise = rng.random((60, 8, 8)).astype(np.float32)

    def heatmaps(method: str) -> dict[str, np.ndarray]:
        return {
            "indices": np.arange(60),
            "in_sample": np.arange(60) < 50,
            "labels": np.arange(60) % 2,
            f"map_{method}": noise,
            f"map_{method}_true": maps,
            f"degenerate_{method}": np.zeros(60, bool),
            f"degenerate_{method}_true": np.arange(60) < 3,
        }

    found = behaviour.evidence_for_truth(
        heatmaps("grad_cam"),
        heatmaps("gradient_attention"),
        np.arange(55),
        ("grad_cam", "gradient_attention"),
    )
    assert found["n"] == 47  # of 55 indices, 50 in the sample, 3 degenerate
    assert found["agreement"]["value"] == pytest.approx(1)
    assert found["above_chance"]["low"] > 0.8


def _drawn(n: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn from the probabilities of `scale` times the logits."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (n, 10))
    gumbel = rng.gumbel(size=(n, 10))
    return logits, (scale * logits + gumbel).argmax(axis=1)


def test_temperature_finds_what_the_labels_were_drawn_with():
    logits, labels = _drawn(20_000, 1.0)
    assert calibration.temperature(logits, labels) == pytest.approx(1, abs=0.03)
    logits, labels = _drawn(20_000, 0.5)
    assert calibration.temperature(logits, labels) == pytest.approx(2, abs=0.06)


def test_a_model_that_is_too_confident_is_corrected_by_its_temperature():
    logits, labels = _drawn(20_000, 0.5)
    half = len(logits) // 2
    found = calibration.calibration(logits[:half], labels[:half], logits[half:], labels[half:])
    assert found["uncalibrated"]["error"]["low"] > 0.1
    assert found["temperature_scaled"]["error"]["high"] < 0.03
    assert found["uncalibrated"]["confidence"] > found["temperature_scaled"]["confidence"]
    assert sum(row["n"] for row in found["temperature_scaled"]["bins"]) == half


def test_calibration_error_by_hand():
    confidence = np.repeat([0.25, 0.75, 1.0], [40, 40, 20])
    correct = np.concatenate([np.arange(40) < 10, np.arange(40) < 20, np.ones(20)]).astype(bool)
    found = calibration.expected_calibration_error(confidence, correct)
    assert found is not None
    assert found["value"] == pytest.approx(0.4 * 0 + 0.4 * 0.25 + 0.2 * 0)
    assert calibration.expected_calibration_error(confidence[:10], correct[:10]) is None


@pytest.mark.parametrize(("error", "least"), [(0.0, 0.5), (0.1, 0.85)])
def test_the_interval_of_the_calibration_error_holds_its_value_and_often_the_truth(error, least):
    covered = []
    for seed in range(60):
        generator = np.random.default_rng(seed)
        confidence = generator.uniform(0.5, 1, 1000)
        correct = generator.random(1000) < confidence - error
        found = calibration.expected_calibration_error(confidence, correct)
        assert 0 <= found["low"] <= found["value"] <= found["high"]
        covered.append(found["low"] <= error <= found["high"])
    assert np.mean(covered) > least  # of percentiles, 0 for the model without an error


def test_accuracy_and_confidence_are_paired_by_image():
    logits, labels = _drawn(2_000, 0.5)
    found = calibration.calibration(logits, labels, logits, labels)
    own = found["uncalibrated"]
    gap = own["accuracy_minus_confidence"]
    accuracy = (logits.argmax(axis=1) == labels).mean()
    assert gap["value"] == pytest.approx(accuracy - own["confidence"])
    assert gap["high"] < 0  # overconfident
    scaled = found["temperature_scaled"]["accuracy_minus_confidence"]
    assert scaled["low"] < 0 < scaled["high"]


def test_a_drawn_interval_of_a_mean_is_that_of_interval():
    values = np.random.default_rng(0).normal(size=(200, 1))
    assert bootstrap.drawn_interval(values, lambda means: means[:, 0]) == bootstrap.interval(
        values[:, 0]
    )
