import numpy as np
import pytest
import torch

import tiny
from visavis import models
from visavis.attribution.batched import grid_maps
from visavis.metrics import sanity
from visavis.metrics.agreement import rank_agreement
from visavis.stages.explain import findings


@pytest.mark.parametrize("kind", ["cnn", "vit"])
def test_parts_from_the_head_down_hold_every_weight_once(kind):
    model = tiny.model(kind)
    names = sanity.parts(model)
    assert names[0] == "head"
    for parameter, _ in model.named_parameters():
        owners = [part for part in names if parameter == part or parameter.startswith(f"{part}.")]
        assert len(owners) == 1


@pytest.mark.parametrize("kind", ["cnn", "vit"])
def test_only_the_named_parts_are_shuffled_and_keep_their_values(kind):
    model = tiny.model(kind)
    other = sanity.randomised(model, ["head"], seed=0)
    for (name, before), after in zip(model.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(before.flatten().sort().values, after.flatten().sort().values)
        assert torch.equal(before, after) != name.startswith("head")


def test_a_map_that_reads_the_weights_changes_and_one_that_does_not_stays():
    images, labels, _ = tiny.planted(40, seed=999)
    shown, asked = images[labels == 1], labels[labels == 1].numpy()
    model = tiny.taught("cnn", steps=20)
    (maps,) = grid_maps(model, shown, [asked], "grad_cam")
    same = sanity.maps_of_randomised(model, shown, asked, "grad_cam", [])
    np.testing.assert_allclose(rank_agreement(maps, same), 1, atol=1e-6)
    whole = sanity.maps_of_randomised(model, shown, asked, "grad_cam", sanity.parts(model))
    assert np.nanmean(rank_agreement(maps, whole)) < 0.6

    model = tiny.taught("vit", steps=50)
    (attention,) = grid_maps(model, shown, [asked], "attention")
    above = sanity.maps_of_randomised(model, shown, asked, "attention", ["head", "norm"])
    np.testing.assert_allclose(above, attention, atol=1e-6)  # it is below the head, and knows none


def test_a_map_of_nothing_is_nan():
    model, shown = models.build(tiny.VIT_CONFIG), tiny.images(3)  # its head is zero
    classes = np.zeros(3, np.int64)
    found = sanity.maps_of_randomised(model, shown, classes, "gradient_attention", ["norm"])
    assert np.isnan(found).all()


@pytest.mark.parametrize("left", ["image", "nothing"])
def test_excess_is_what_is_left_of_the_image_and_not_of_the_layout(left, monkeypatch):
    """True maps share a layout; what the shuffled model shows is the image, or noise."""
    generator = np.random.default_rng(0)
    layout, shown, noise = generator.random((8, 8)), *generator.random((2, 100, 8, 8))
    true = (3 * layout + shown).astype(np.float32)
    kept = shown + 0.3 * noise if left == "image" else 3 * layout + noise

    def shuffled_maps(model, images, classes, method, names, *, layer=None, seed=0):
        return kept[: len(images)].astype(np.float32)

    monkeypatch.setattr(sanity, "maps_of_randomised", shuffled_maps)
    labels = np.arange(100) % 10
    model = tiny.model("cnn")
    found = findings.randomised(
        model, tiny.images(100), labels, labels, {"grad_cam": true}, "stages.2.activation2"
    )["grad_cam"]
    excess = found["above_chance"]
    if left == "image":
        assert excess["low"] > 0.15
    else:  # the layout alone is no evidence that the image is shown
        assert excess["low"] < 0.05 and excess["high"] < 0.1
        assert found["agreement"]["low"] > 0.3
