import numpy as np
import pytest
import torch

import tiny
from test_faithfulness import Linear
from visavis.metrics import baselines
from visavis.metrics.minimal_subset import KEPT, keep_top_k, minimal_subset, predictions


def evidence(n=30, *, cells=6):
    """Mean colour, and at `cells` random places a bright cell; class 1 needs about all of them."""
    generator = np.random.default_rng(0)
    truth = np.zeros((n, 64), dtype=np.float32)
    for row in truth:
        row[generator.choice(64, cells, replace=False)] = 1
    return truth.reshape(n, 8, 8)


def images_of(truth, model):
    grid = torch.from_numpy(truth).repeat_interleave(4, 1).repeat_interleave(4, 2)[:, None]
    return model.normalize.mean + grid * 0.4


def test_the_exact_count_of_cells_is_left_and_the_minimal_subset_follows():
    model, truth = Linear(), evidence()
    with torch.no_grad():
        model.head.weight[1] = 1.0
        model.head.bias[0] = 5.5 * 0.4  # six bright cells give class 1, five do not
    images = images_of(truth, model)
    assert model(images).argmax(dim=1).tolist() == [1] * len(truth)
    predicted = predictions(model, images, truth)
    assert predicted.tolist() == [[int(count >= 6) for count in KEPT]] * len(truth)
    ones = np.ones(len(truth), dtype=np.int64)
    np.testing.assert_allclose(minimal_subset(predicted, ones), 6 / 64)
    accuracies = keep_top_k(predicted, ones)
    assert {name: float(correct.mean()) for name, correct in accuracies.items()} == {
        "keep_top_10": 1.0,
        "keep_top_20": 1.0,
        "keep_top_30": 1.0,
        "keep_top_50": 1.0,
    }
    opposite = minimal_subset(predictions(model, images, -truth), ones)
    np.testing.assert_allclose(opposite, 1)  # not even 45 cells, for the six come last


def test_random_maps_need_far_more_than_the_truth():
    model, truth = Linear(), evidence()
    with torch.no_grad():
        model.head.weight[1] = 1.0
        model.head.bias[0] = 2.5 * 0.4  # three of the six
    images, ones = images_of(truth, model), np.ones(len(truth), dtype=np.int64)
    best = minimal_subset(predictions(model, images, truth), ones)
    chance = minimal_subset(
        predictions(model, images, baselines.random_maps(len(truth), seed=3)), ones
    )
    assert best.max() == 4 / 64  # the smallest count tried that holds three
    assert chance.mean() > 4 * best.mean()


@pytest.mark.parametrize("kind", ["cnn", "vit"])
def test_a_degenerate_map_has_no_score(kind):
    model, images = tiny.model(kind), tiny.images(3)
    maps = baselines.random_maps(3, seed=0)
    maps[1] = 0
    predicted = predictions(model, images, maps)
    assert (predicted[1] == -1).all()
    assert (predicted[[0, 2]] >= 0).all()
    area = minimal_subset(predicted, np.zeros(3, dtype=np.int64))
    assert np.isnan(area).tolist() == [False, True, False]
    assert all(
        np.isnan(correct).tolist() == [False, True, False]
        for correct in keep_top_k(predicted, np.zeros(3, dtype=np.int64)).values()
    )
