import numpy as np
import pytest
import torch

import tiny
from visavis import attribution
from visavis.attribution import gates, methods
from visavis.errors import ModelError
from visavis.stages.explain import maps
from visavis.stages.explain.selection import choose_images


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


def test_a_method_that_fails_is_left_out_with_the_reason_and_is_no_default(monkeypatch):
    def fails(subject, images, targets, method, *, layer=None):
        return "not the same in a second call" if method == "grad_cam" else None

    monkeypatch.setattr(gates, "invalid_because", fails)
    subject, logits = tiny.subject("cnn"), np.eye(10)[np.arange(20) % 10]
    chosen = choose_images(logits, logits.argmax(axis=1), sample=20)
    found, refused = maps.explain_all(subject, tiny.images(20), chosen, subject.default_layer)
    assert refused == {"grad_cam": "its maps are not the same in a second call"}
    assert "grad_cam" not in found and "integrated_gradients" in found
    assert attribution.default_method(subject, without=refused) == "integrated_gradients"
    with pytest.raises(ModelError, match="no method explains this model"):
        attribution.default_method(subject, without=attribution.METHODS)
