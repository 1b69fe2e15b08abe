import numpy as np
import pytest
import torch

import tiny
from visavis.saliency import sanity
from visavis.saliency.many import grid_maps


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
    other = sanity.shuffled(model, ["head"], seed=0)
    for (name, before), after in zip(model.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(before.flatten().sort().values, after.flatten().sort().values)
        assert torch.equal(before, after) != name.startswith("head")


def test_a_map_that_reads_the_weights_changes_and_one_that_does_not_stays():
    images, labels, _ = tiny.planted(40, seed=999)
    pictures, asked = images[labels == 1], labels[labels == 1].numpy()
    model = tiny.taught("cnn", steps=20)
    (maps,) = grid_maps(model, pictures, [asked], "grad_cam")
    same = sanity.agreement(model, pictures, asked, maps, "grad_cam", [])
    np.testing.assert_allclose(same, 1, atol=1e-6)
    whole = sanity.agreement(model, pictures, asked, maps, "grad_cam", sanity.parts(model))
    assert np.nanmean(whole) < 0.6

    model = tiny.taught("vit", steps=50)
    (attention,) = grid_maps(model, pictures, [asked], "attention")
    above = sanity.agreement(model, pictures, asked, attention, "attention", ["head", "norm"])
    np.testing.assert_allclose(above, 1, atol=1e-6)  # attention is below the head, and knows none


def test_a_refused_map_has_no_agreement():
    model, pictures = tiny.model("vit"), tiny.images(3)
    maps = np.random.default_rng(0).random((3, 8, 8)).astype(np.float32)
    maps[1] = 0
    found = sanity.agreement(model, pictures, np.zeros(3, np.int64), maps, "rollout", ["blocks.0"])
    assert np.isfinite(found).tolist() == [True, False, True]
