import numpy as np
import pytest
import torch
from torch import nn

import tiny
from test_faithfulness import Linear, bright
from visavis.attribution import METHODS, Subject
from visavis.attribution.batched import grid_maps
from visavis.attribution.methods import Method
from visavis.metrics import robustness

PLACE = torch.rand(8, 8, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def place(monkeypatch):
    """The name of a method whose map is that of the place alone."""

    def compute(subject, images, targets):
        return PLACE.expand(len(images), 8, 8)

    monkeypatch.setitem(METHODS, "place", Method("Place", compute, None))
    return "place"


def measured(subject, images, method, *, maps=None, targets=None):
    if targets is None:
        targets = subject.predict(images).argmax(dim=1).numpy()
    if maps is None:
        (maps,) = grid_maps(subject, images, [targets], method)
    return robustness.measure(subject, images, targets, maps, method)


def test_a_map_of_the_place_alone_stands_still_while_the_image_moves(place):
    found = measured(tiny.subject(Linear()), bright(10), place)
    np.testing.assert_allclose(found["noise"], 1)
    assert (np.abs(found["mirrored"]) < 0.3).all()
    assert (np.abs(found["shifted"]) < 0.3).all()


@pytest.mark.parametrize(
    ("weights", "follows"),
    [
        (torch.ones(8, 8), {"noise", "mirrored", "shifted"}),
        (PLACE + PLACE.flip(1), {"noise", "mirrored"}),
        (PLACE, {"noise"}),
    ],
    ids=["equal", "symmetric", "any"],
)
def test_the_map_of_a_linear_model_follows_the_image_as_far_as_its_weights_allow(weights, follows):
    """Each cell contributes its brightness times its weight."""
    model = Linear()
    with torch.no_grad():
        model.head.weight[1] = weights.flatten()
    found = measured(tiny.subject(model), bright(10), "integrated_gradients")
    for change, agreement in found.items():
        if change in follows:
            assert (agreement > 0.97).all(), change
        else:
            assert agreement.mean() < 0.9, change
    for change in follows - {"noise"}:
        np.testing.assert_allclose(found[change], 1, atol=1e-3)


class Flat(nn.Module):
    """Predicts class 1 for an image of one colour, and class 0 for one with noise or content."""

    def forward(self, images):
        varies = images.flatten(1).var(dim=1)
        return torch.stack([varies, torch.full_like(varies, 1e-4)], dim=1)


def test_images_whose_prediction_changes_do_not_count(place):
    images = bright(6)
    images[[1, 4]] = 0.5
    found = measured(Subject(Flat(), tiny.images(2), grid=8), images, place)
    assert np.flatnonzero(np.isnan(found["noise"])).tolist() == [1, 4]
    assert np.isfinite(found["mirrored"]).all() and np.isfinite(found["shifted"]).all()


def test_degenerate_maps_do_not_count(place, monkeypatch):
    subject, images = tiny.subject(Linear()), bright(4)
    maps = np.random.default_rng(0).random((4, 8, 8))
    maps[2] = 0
    for agreement in measured(subject, images, place, maps=maps).values():
        assert np.flatnonzero(np.isnan(agreement)).tolist() == [2]
    blank = Method("Blank", lambda subject, images, targets: torch.zeros(len(images), 8, 8), None)
    monkeypatch.setitem(METHODS, "blank", blank)
    for agreement in measured(subject, images, "blank", maps=maps).values():
        assert np.isnan(agreement).all()


def test_an_image_has_the_same_value_whatever_comes_after_it():
    subject, images = tiny.subject("cnn"), tiny.images(5)
    several, first = (measured(subject, of, "grad_cam") for of in (images, images[:3]))
    for change, agreement in first.items():
        np.testing.assert_allclose(agreement, several[change][:3], atol=1e-3)
