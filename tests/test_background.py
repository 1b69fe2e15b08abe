import numpy as np
import pytest
import torch

import tiny
from test_faithfulness import Linear
from visavis.attribution.batched import grid_maps
from visavis.stages.explain import findings
from visavis.stages.explain.maps import Explained
from visavis.stages.explain.selection import Sample

N = 100
ONES = np.ones(N, dtype=np.int64)


def spots(seed, *, colour=0.4):
    """Images of the mean colour with one bright cell each, somewhere."""
    grid = torch.zeros(N, 64)
    places = np.random.default_rng(seed).integers(0, 64, N)
    grid[range(N), places] = colour
    grid = grid.view(N, 1, 8, 8).repeat_interleave(4, 2).repeat_interleave(4, 3)
    return Linear().normalize.mean + grid


def found(images, others):
    """What `on_other_background` says of a model for which every bright cell is evidence."""
    subject = tiny.subject(Linear())
    (maps,) = grid_maps(subject, images, [ONES], "occlusion")
    sample = Sample(subject, images, ONES, ONES, None, None)
    of = findings.on_other_background(sample, {"occlusion": Explained(maps)}, others)
    return of["prediction"], of["methods"]["occlusion"]


def test_a_model_that_looks_at_the_shape_alone_keeps_prediction_and_map():
    prediction, of = found(spots(0), spots(0))
    assert prediction["value"] == 1
    assert of["map"]["value"] == pytest.approx(1)
    assert of["map_baseline"]["high"] < 0.2


def test_a_model_that_looks_at_the_background_keeps_no_more_than_of_another_image():
    _, of = found(spots(0), spots(1))
    assert of["map"]["high"] < 0.2 and of["map_baseline"]["high"] < 0.2


def test_a_map_that_is_the_same_for_all_images_is_all_baseline():
    same = spots(0)[:1].expand(N, -1, -1, -1)
    _, of = found(same, same)
    assert of["map"]["value"] == pytest.approx(1) and of["map_baseline"]["value"] == pytest.approx(
        1
    )


def test_a_degenerate_map_and_a_prediction_that_no_other_image_has_are_left_out(monkeypatch):
    monkeypatch.setattr(Sample, "interval", lambda self, values: values)
    images, subject = spots(0), tiny.subject(Linear())
    (maps,) = grid_maps(subject, images, [ONES], "occlusion")
    maps[3] = 0
    predicted = np.where(np.arange(N) == 5, 0, 1)
    sample = Sample(subject, images, predicted, ONES, None, None)
    of = findings.on_other_background(sample, {"occlusion": Explained(maps)}, images)
    values = of["methods"]["occlusion"]
    assert np.flatnonzero(np.isnan(values["map"])).tolist() == [3, 5]  # class 0 has no evidence
    assert np.isnan(values["map_baseline"][[3, 5]]).all()
    assert np.isfinite(values["map_baseline"]).sum() > N - 20


def test_predictions_that_stay_are_counted():
    dark = torch.cat([spots(0)[: N // 4], spots(0, colour=-0.4)[N // 4 :]])
    assert found(spots(0), dark)[0]["value"] == pytest.approx(0.25)
