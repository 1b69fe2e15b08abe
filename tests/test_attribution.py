import numpy as np
import pytest
import torch

import tiny
from test_faithfulness import Linear, bright
from visavis import attribution
from visavis.attribution import METHODS
from visavis.attribution.batched import grid_maps
from visavis.attribution.gradients import STEPS, integrated_gradients
from visavis.attribution.perturbation import occlusion
from visavis.metrics import localization


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        (kind, name)
        for name, method in METHODS.items()
        for kind in ("cnn", "vit")
        if kind == "vit" or method.needs != "attention"
    ],
)
def test_the_map_of_an_image_in_a_batch_is_that_of_the_image_alone(kind, method):
    subject, images, targets = tiny.subject(kind), tiny.images(4), np.array([3, 1, 4, 1])
    images[1] *= 0.1  # what is normalised over the batch would show
    (together,) = grid_maps(subject, images, [targets], method)
    for i, of in enumerate(together):
        (alone,) = grid_maps(subject, images[i : i + 1], [targets[i : i + 1]], method)
        np.testing.assert_allclose(alone[0], of, atol=1e-4 * np.abs(of).max())


@pytest.mark.parametrize("kind", ["cnn", "vit"])
def test_integrated_gradients_equal_an_independent_implementation(kind):
    """Point by point along the straight path, with the nodes and weights of NumPy."""
    model, images, classes = tiny.model(kind), tiny.images(3), torch.tensor([1, 5, 9])
    blank = model.normalize.mean.expand_as(images)
    total = torch.zeros_like(images)
    nodes, weights = np.polynomial.legendre.leggauss(STEPS)
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        point = (blank + node * (images - blank)).float().requires_grad_()
        model(point).gather(1, classes[:, None]).sum().backward()
        total += weight * point.grad
    expected = ((images - blank) * total).sum(dim=1).view(3, 8, 4, 8, 4).sum(dim=(2, 4))
    found = integrated_gradients(tiny.subject(model), images, classes)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-3)
    with torch.no_grad():
        gain = (model(images) - model(blank)).gather(1, classes[:, None])[:, 0]
    torch.testing.assert_close(found.sum(dim=(1, 2)), gain, atol=1e-3, rtol=1e-3)


def test_integrated_gradients_of_a_trained_model_sum_to_the_difference_of_the_logits():
    """10 points would miss it by 3 %."""
    subject = tiny.subject(tiny.taught("cnn", steps=100))
    images, labels, _ = tiny.planted(20, seed=999)
    with torch.no_grad():
        gain = subject(images) - subject(subject.fill.expand_as(images))
    gain = gain.gather(1, labels[:, None])[:, 0]
    missed = integrated_gradients(subject, images, labels).sum(dim=(1, 2)) - gain
    assert missed.abs().mean() < 0.01 * gain.abs().mean()


def test_on_a_linear_model_both_give_each_cells_contribution():
    model, images = Linear(), bright(4)
    truth = torch.from_numpy(model.truth(images))
    ones = torch.ones(4, dtype=torch.int64)
    torch.testing.assert_close(
        integrated_gradients(tiny.subject(model), images, ones), truth, atol=1e-5, rtol=0
    )
    torch.testing.assert_close(
        occlusion(tiny.subject(model), images)[:, 1], truth, atol=1e-5, rtol=0
    )
    assert not occlusion(tiny.subject(model), images)[
        :, 0
    ].any()  # class 0's logit depends on nothing


@pytest.mark.parametrize("kind", ["cnn", "vit"])
def test_occlusion_equals_masking_cell_by_cell_for_every_class(kind):
    model, images = tiny.model(kind), tiny.images(3)
    maps = occlusion(tiny.subject(model), images)
    assert maps.shape == (3, 10, 8, 8)
    for row, column in ((0, 0), (2, 5), (7, 7)):
        masked = images.clone()
        cell = (..., slice(4 * row, 4 * row + 4), slice(4 * column, 4 * column + 4))
        masked[cell] = model.normalize.mean
        with torch.no_grad():
            drop = model(images) - model(masked)
        torch.testing.assert_close(maps[..., row, column], drop, atol=1e-6, rtol=0)


def test_a_planted_patch_is_found_by_a_trained_model():
    images, labels, masks = tiny.planted(60, seed=999)
    images, labels, masks = images[labels == 1], labels[labels == 1], masks[labels == 1]
    # The patch covers four cells. Without one of them the ViT is as confident by the others, so
    # occlusion of single cells misses most of their joint contribution.
    bars = {
        ("cnn", "integrated_gradients"): (0.8, 0.95),
        ("cnn", "occlusion"): (0.8, 0.95),
        ("vit", "integrated_gradients"): (0.8, 0.95),
        ("vit", "occlusion"): (0.19, 0.25),
    }
    taught = {"cnn": tiny.taught("cnn", steps=30), "vit": tiny.taught("vit", steps=50)}
    for (kind, method), (inside, hit) in bars.items():
        maps = attribution.explain(tiny.subject(taught[kind]), images, labels, method).numpy()
        assert localization.relevance_mass(maps, masks).mean() > inside > 3 * masks.mean()
        assert localization.pointing_hit(maps, masks).mean() > hit > 3 * masks.mean()


def test_a_signed_map_names_evidence_against_its_class():
    """Two classes: what speaks for one speaks against the other."""
    images, labels, _ = tiny.planted(20, seed=999)
    model = tiny.taught("cnn", steps=20)
    shown = images[labels == 1]
    for method in ("integrated_gradients", "occlusion"):
        zero, one = (
            attribution.explain(tiny.subject(model), shown, torch.full((len(shown),), c), method)
            for c in (0, 1)
        )
        highest = one.flatten(1).argmax(dim=1, keepdim=True)
        assert (zero.flatten(1).gather(1, highest) < 0).float().mean() > 0.9
