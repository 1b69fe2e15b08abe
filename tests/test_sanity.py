import numpy as np
import pytest
import torch

import tiny
from visavis import models
from visavis.attribution.batched import grid_maps
from visavis.metrics import sanity
from visavis.metrics.agreement import rank_agreement
from visavis.stages.explain import findings
from visavis.stages.explain.selection import Sample


@pytest.mark.parametrize("kind", ["cnn", "vit"])
def test_parts_from_the_head_down_hold_every_weight_once(kind):
    model = tiny.model(kind)
    names = sanity.parts(model)
    assert names[0] == "head"
    for parameter, _ in model.named_parameters():
        owners = [part for part in names if parameter == part or parameter.startswith(f"{part}.")]
        assert len(owners) == 1


@pytest.mark.parametrize("kind", ["cnn", "vit"])
def test_only_the_named_parts_are_permuted_and_keep_their_values(kind):
    model = tiny.model(kind)
    other = sanity.randomised(model, ["head"], seed=0)
    for (name, before), after in zip(model.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(before.flatten().sort().values, after.flatten().sort().values)
        assert torch.equal(before, after) != name.startswith("head")


def test_a_cascade_leaves_what_was_permuted_as_it_is():
    model = tiny.model("cnn")
    parts = sanity.parts(model)
    one, two = (sanity.randomised(model, parts[:count], seed=0) for count in (1, 2))
    pairs = zip(one.named_parameters(), two.parameters(), strict=True)
    assert all(torch.equal(a, b) for (name, a), b in pairs if name.startswith(parts[0]))


def test_a_map_changes_with_the_parameters_it_depends_on_and_with_no_others():
    images, labels, _ = tiny.planted(40, seed=999)
    shown, targets = images[labels == 1], labels[labels == 1].numpy()
    model = tiny.taught("cnn", steps=20)
    (maps,) = grid_maps(tiny.subject(model), shown, [targets], "grad_cam")
    same = sanity.maps_of_randomised(tiny.subject(model), shown, targets, "grad_cam", [])
    np.testing.assert_allclose(rank_agreement(maps, same), 1, atol=1e-6)
    full = sanity.maps_of_randomised(
        tiny.subject(model), shown, targets, "grad_cam", sanity.parts(model)
    )
    assert np.nanmean(rank_agreement(maps, full)) < 0.6

    model = tiny.taught("vit", steps=50)
    (attention,) = grid_maps(tiny.subject(model), shown, [targets], "attention")
    above = sanity.maps_of_randomised(
        tiny.subject(model), shown, targets, "attention", ["head", "norm"]
    )
    np.testing.assert_allclose(above, attention, atol=1e-6)  # does not depend on the head


def test_a_degenerate_map_is_nan():
    model, shown = models.build(tiny.VIT_CONFIG, 10), tiny.images(3)  # its head is zero
    classes = np.zeros(3, np.int64)
    found = sanity.maps_of_randomised(
        tiny.subject(model), shown, classes, "gradient_attention", ["norm"]
    )
    assert np.isnan(found).all()


@pytest.mark.parametrize("left", ["image", "layout"])
def test_agreement_above_chance_is_of_the_image_and_not_of_the_layout(left, monkeypatch):
    """The true maps share a layout; the randomised model's maps show the image, or noise."""
    generator = np.random.default_rng(0)
    layout, shown, noise = generator.random((8, 8)), *generator.random((2, 100, 8, 8))
    true = (3 * layout + shown).astype(np.float32)
    kept = shown + 0.3 * noise if left == "image" else 3 * layout + noise

    def randomised_maps(subject, images, classes, method, names, *, layer=None, seed=0):
        return kept[: len(images)].astype(np.float32)

    monkeypatch.setattr(sanity, "maps_of_randomised", randomised_maps)
    labels = np.arange(100) % 10
    sample = Sample(tiny.subject("cnn"), tiny.images(100), labels, labels, None, "stages.2")
    found = findings.randomised(sample, "grad_cam", true)["randomised"]
    above_chance = found["above_chance"]
    if left == "image":
        assert above_chance["low"] > 0.15
    else:  # the layout alone is no evidence that the image is shown
        assert above_chance["low"] < 0.05 and above_chance["high"] < 0.1
        assert found["agreement"]["low"] > 0.3
