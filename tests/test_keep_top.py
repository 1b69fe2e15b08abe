import numpy as np
import pytest
import torch

import tiny
from test_faithfulness import Linear
from visavis.metrics import baselines
from visavis.metrics.keep_top import keep_top

KEPT = 13  # a fifth of 64


def evidence(n=30, *, cells=KEPT):
    """At `cells` random places a bright cell."""
    generator = np.random.default_rng(0)
    truth = np.zeros((n, 64), dtype=np.float32)
    for row in truth:
        row[generator.choice(64, cells, replace=False)] = 1
    return truth.reshape(n, 8, 8)


def images_of(truth, model):
    grid = torch.from_numpy(truth).repeat_interleave(4, 1).repeat_interleave(4, 2)[:, None]
    return model.normalize.mean + grid * 0.4


def needs(bright_cells):
    """A model that predicts class 1 from so many bright cells on."""
    model = Linear()
    with torch.no_grad():
        model.head.weight[1] = 1.0
        model.head.bias[0] = (bright_cells - 0.5) * 0.4
    return model


def test_exactly_a_fifth_of_the_cells_is_left():
    ones = np.ones(30, dtype=np.int64)
    enough, one_more = needs(KEPT), needs(KEPT + 1)
    truth, wider = evidence(), evidence(cells=KEPT + 1)
    assert keep_top(tiny.subject(enough), images_of(truth, enough), truth, ones).all()
    assert not keep_top(tiny.subject(one_more), images_of(wider, one_more), wider, ones).any()


def test_a_random_map_and_the_opposite_keep_less():
    model, truth, ones = needs(6), evidence(cells=6), np.ones(30, dtype=np.int64)
    images, blind = images_of(truth, model), baselines.random_maps(30, 8, seed=3)
    assert keep_top(tiny.subject(model), images, truth, ones).all()
    assert keep_top(tiny.subject(model), images, blind, ones).mean() < 0.1
    assert not keep_top(tiny.subject(model), images, -truth, ones).any()


def test_cells_that_a_relu_made_equal_follow_the_signed_map():
    model, truth, ones = needs(KEPT), evidence(), np.ones(30, dtype=np.int64)
    images, same = images_of(truth, model), np.zeros_like(truth)
    for heatmap, cells in zip(same, truth, strict=True):
        heatmap.flat[np.flatnonzero(cells)[0]] = 1
    assert keep_top(tiny.subject(model), images, same, ones, signed=truth).all()
    assert not keep_top(tiny.subject(model), images, same, ones).any()


@pytest.mark.parametrize("kind", ["cnn", "vit"])
def test_a_degenerate_map_has_no_score(kind):
    maps = baselines.random_maps(3, 8, seed=0)
    maps[1] = 0
    correct = keep_top(tiny.subject(kind), tiny.images(3), maps, np.zeros(3, dtype=np.int64))
    assert np.isnan(correct).tolist() == [False, True, False]
