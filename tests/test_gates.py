import pytest
import torch

import tiny
from visavis import attribution
from visavis.attribution import gates, methods


@pytest.mark.parametrize("kind", ["cnn", "vit"])
def test_every_method_passes_on_a_sound_model(kind):
    model, images, classes = tiny.model(kind), tiny.images(4), torch.arange(4)
    for method in attribution.methods_for(tiny.subject(model)):
        assert gates.invalid_because(tiny.subject(model), images, classes, method) is None


def test_maps_that_mix_the_images_of_a_batch_are_caught(monkeypatch):
    honest = methods.explain

    def mixing(*arguments, **settings):
        maps = honest(*arguments, **settings)
        return maps - 0.1 * maps.mean(dim=0)

    monkeypatch.setattr(methods, "explain", mixing)
    reason = gates.invalid_because(
        tiny.subject("vit"), tiny.images(4), torch.arange(4), "gradient_attention"
    )
    assert reason == "not the same in another batch"


def test_maps_that_differ_from_call_to_call_are_caught(monkeypatch):
    honest, draws = methods.explain, torch.Generator().manual_seed(0)

    def noisy(*arguments, **settings):
        maps = honest(*arguments, **settings)
        return maps * (1 + 0.1 * torch.rand(maps.shape, generator=draws))

    monkeypatch.setattr(methods, "explain", noisy)
    reason = gates.invalid_because(tiny.subject("vit"), tiny.images(4), torch.arange(4), "rollout")
    assert reason == "not the same in a second call"
