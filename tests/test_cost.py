import logging

import numpy as np
import pytest

import tiny
from visavis import presets
from visavis.config import ExplainConfig
from visavis.errors import ConfigError
from visavis.stages.explain import cost
from visavis.stages.explain.cost import sample_size

PIXELS = np.zeros((4, 32, 32, 3), np.uint8)


def size(monkeypatch, seconds, **settings):
    """How many images are explained if each costs so much, of a fast and of a slow model."""
    models = {tiny.subject("cnn"): seconds / 10, tiny.subject("vit"): seconds}
    monkeypatch.setattr(cost, "seconds_per_image", lambda subject, pixels: models[subject])
    return sample_size(ExplainConfig(sweep_images=20, **settings), list(models), PIXELS)


@pytest.mark.parametrize(("seconds", "fitting"), [(0.01, 500), (2, 280), (60, 20)])
def test_what_fits_into_ten_minutes_for_the_slower_model(monkeypatch, seconds, fitting):
    assert size(monkeypatch, seconds, images=0) == fitting


def test_a_number_that_was_asked_for_stays_and_its_cost_is_told(monkeypatch, caplog):
    with caplog.at_level(logging.INFO):
        assert size(monkeypatch, 6, images=100) == 100
    assert "on 100 test images takes about 12 minutes" in caplog.text


def test_only_larger_images_get_a_number_that_fits():
    assert presets.preset("quick", "folder", 64).explain.images == 0
    assert presets.preset("quick", "folder", 32).explain.images == 50
    with pytest.raises(ConfigError, match=r"explain\.images 5: use 20 to"):
        ExplainConfig(images=5)


def test_the_cost_of_an_image_is_measured():
    assert 0 < cost.seconds_per_image(tiny.subject("vit"), PIXELS) < 600
