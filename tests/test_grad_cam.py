import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import gelu, max_pool2d

import tiny
from visavis import attribution
from visavis.attribution import Subject
from visavis.attribution.batched import to_cells
from visavis.attribution.degenerate import degenerate_reasons
from visavis.attribution.frozen import check_targets
from visavis.attribution.grad_cam import grad_cam
from visavis.metrics import localization

CNN_LAYERS = ["stages.0", "stages.1.conv1", "stages.1", "stages.2.activation2", "stages.2"]


def by_hand(model, images, classes, layer, to_grid=lambda x: x):
    """Grad-CAM written out, one image at a time, from the paper's two equations."""
    maps = []
    for image, label in zip(images, classes, strict=True):
        kept = []
        handle = model.get_submodule(layer).register_forward_hook(
            lambda _m, _i, output, kept=kept: (output.retain_grad(), kept.append(output))[0]
        )
        model(image[None])[0, label].backward()
        handle.remove()
        activation, gradient = to_grid(kept[0])[0], to_grid(kept[0].grad)[0]
        weights = gradient.mean(dim=(1, 2))
        maps.append((weights[:, None, None] * activation).sum(dim=0).relu().detach())
    return torch.stack(maps)


def features(model, images):
    return model.stages(gelu(model.stem(model.normalize(images))))


def tokens_to_grid(tokens):
    return tokens[:, 1:].permute(0, 2, 1).reshape(1, -1, 8, 8)


@pytest.mark.parametrize("layer", CNN_LAYERS)
def test_cnn_maps_equal_an_independent_implementation(layer):
    model, images, classes = tiny.model("cnn"), tiny.images(6), torch.arange(4, 10)
    expected = by_hand(model, images, classes, layer)
    assert expected.count_nonzero() > 0
    torch.testing.assert_close(
        grad_cam(tiny.subject(model), images, classes, layer=layer), expected
    )


@pytest.mark.parametrize("layer", ["blocks.1.norm1", "blocks.0.norm1", "blocks.0"])
def test_vit_maps_equal_an_independent_implementation(layer):
    model, images, classes = tiny.model("vit"), tiny.images(3), torch.tensor([0, 9, 4])
    expected = by_hand(model, images, classes, layer, tokens_to_grid)
    assert expected.count_nonzero() > 0
    torch.testing.assert_close(
        grad_cam(tiny.subject(model), images, classes, layer=layer), expected
    )


def test_default_layers_have_eight_by_eight_maps_that_are_not_degenerate():
    for kind in ("cnn", "vit"):
        subject, targets = tiny.subject(kind), torch.tensor([1, 2, 3, 4])
        maps = grad_cam(subject, tiny.images(4), targets)
        assert maps.shape == (4, 8, 8)
        assert maps.dtype == torch.float32
        expected = {"cnn": "stages.2", "vit": "blocks.1.norm1"}[kind]
        assert subject.default_layer == expected
        assert torch.equal(maps, grad_cam(subject, tiny.images(4), targets, layer=expected))
        assert degenerate_reasons(maps.numpy()).count(None) > 0


def test_after_the_last_block_patches_have_no_gradient_and_the_maps_are_degenerate():
    maps = grad_cam(tiny.subject("vit"), tiny.images(2), torch.tensor([1, 2]), layer="blocks.1")
    assert degenerate_reasons(maps.numpy()) == ["zero everywhere"] * 2


def test_at_the_last_stage_grad_cam_is_cam():
    """With the mean over the grid and a linear head: Zhou et al. 2016, divided by the cells."""
    model, images, classes = tiny.model("cnn"), tiny.images(3), torch.tensor([2, 5, 7])
    weights = model.head.weight[classes]
    cam = torch.einsum("nk,nkhw->nhw", weights, features(model, images)).relu() / 64
    maps = grad_cam(tiny.subject(model), images, classes, layer="stages.2")
    torch.testing.assert_close(maps, cam.detach())


class OneConvolution(nn.Module):
    """Two channels on a 2 x 2 grid, the means of red and of green, and a head that reads places."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 2, 16, stride=16, bias=False)
        self.head = nn.Linear(8, 2)
        with torch.no_grad():
            self.convolution.weight.zero_()
            self.convolution.weight[0, 0] = self.convolution.weight[1, 1] = 1 / 256
            self.head.weight.copy_(
                torch.tensor([[0.0] * 8, [4.0, 0, 0, 0, 0, -4, -4, 0]])  # red's 4, then green's
            )

    def forward(self, images):
        return self.head(self.convolution(images).flatten(1))


def test_one_convolution_computed_by_hand():
    red = torch.tensor([[1.0, 0.0], [0.5, 1.0]])
    green = torch.tensor([[0.25, 0.0], [0.5, 0.25]])
    image = torch.stack([red, green, torch.zeros(2, 2)])
    image = image.repeat_interleave(16, 1).repeat_interleave(16, 2)[None]
    # Mean gradients: red 4/4 = 1, green -8/4 = -2. So the map is relu(red - 2 green).
    subject = Subject(OneConvolution(), image.repeat(2, 1, 1, 1))
    found = grad_cam(subject, image, torch.tensor([1]), layer="convolution")
    torch.testing.assert_close(found, torch.tensor([[[0.5, 0.0], [0.0, 0.5]]]))
    assert not grad_cam(subject, image, torch.tensor([0]), layer="convolution").any()


@pytest.mark.parametrize("kind", ["cnn", "vit"])
def test_a_map_does_not_depend_on_the_batch_or_on_the_callers_mode(kind):
    model, images, classes = tiny.model(kind), tiny.images(5), torch.arange(5)
    expected = grad_cam(tiny.subject(model), images, classes)
    single = [
        grad_cam(tiny.subject(model), images[i : i + 1], classes[i : i + 1]) for i in range(5)
    ]
    torch.testing.assert_close(torch.cat(single), expected, atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        assert torch.equal(grad_cam(tiny.subject(model), images, classes), expected)
    with torch.inference_mode():
        assert torch.equal(grad_cam(tiny.subject(model), images.clone(), classes.clone()), expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(grad_cam(tiny.subject(model), images, classes), expected)


@pytest.mark.parametrize("kind", ["cnn", "vit"])
@pytest.mark.parametrize("error", [None, "class", "layer", "model"])
@pytest.mark.fault(35)
def test_the_model_is_left_as_it_was_found(kind, error, monkeypatch):
    model = tiny.model(kind).train()
    model.normalize.eval()  # a mixed state, as in fine-tuning
    model.head.bias.requires_grad_(False)
    subject = tiny.subject(model)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    classes = torch.tensor([0, 10 if error == "class" else 1])

    def fail(_features):
        raise IndexError("from inside the model")

    if error == "model":
        monkeypatch.setattr(model.head, "forward", fail)
    expected = {None: None, "class": ValueError, "layer": ValueError, "model": IndexError}[error]
    layer = "stages.7" if error == "layer" else None
    if expected is None:
        attribution.explain(subject, tiny.images(2), classes, "grad_cam", layer=layer)
    else:
        with pytest.raises(expected):
            attribution.explain(subject, tiny.images(2), classes, "grad_cam", layer=layer)
    assert tiny.hooks(model) == 0
    assert model.training
    assert model.head.training
    assert not model.normalize.training
    for parameter in model.parameters():
        assert parameter.requires_grad == (parameter is not model.head.bias)
        assert (parameter.grad is None) == (parameter is model.head.bias)
        assert parameter.grad is None or bool((parameter.grad == 1).all())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_coarser_grid_weighs_each_value_by_the_area_that_it_covers():
    maps = torch.arange(9.0).reshape(1, 3, 3)
    np.testing.assert_allclose(
        to_cells(maps, 2)[0].numpy(), [[4 / 3, 8 / 3], [16 / 3, 20 / 3]], rtol=1e-6
    )


def test_targets_out_of_range_are_errors():
    for classes in (torch.tensor([0, -1]), torch.tensor([10, 0]), torch.tensor([0])):
        with pytest.raises(ValueError, match="classes must be"):
            check_targets(10, tiny.images(2), classes)


@pytest.mark.parametrize("layer", ["head", "stages.9", "normalize.nothing"])
def test_a_layer_without_a_grid_is_an_error_that_names_it(layer):
    with pytest.raises(ValueError, match=f"layer {layer}"):
        grad_cam(tiny.subject("cnn"), tiny.images(2), torch.tensor([0, 1]), layer=layer)


def test_a_planted_patch_is_found_by_a_trained_model_and_not_by_an_untrained_one():
    images, labels, masks = tiny.planted(100, seed=999)
    model = tiny.taught("cnn", steps=20)
    assert (model(images).argmax(dim=1) == labels).float().mean() > 0.95
    images, labels, masks = images[labels == 1], labels[labels == 1], masks[labels == 1]
    maps = to_cells(grad_cam(tiny.subject(model), images, labels), 8).numpy()
    # The last stage sees most of the image from every cell, so its map is wider than the patch.
    assert localization.relevance_mass(maps, masks).mean() > 3 * masks.mean()
    peak = (maps == maps.max(axis=(1, 2), keepdims=True)).astype(np.float32)
    near = max_pool2d(torch.from_numpy(masks)[:, None], 3, stride=1, padding=1)[:, 0].numpy()
    assert localization.relevance_mass(peak, near).mean() > 0.9 > 3 * near.mean()

    shares = []
    for seed in range(8):
        untrained = to_cells(
            grad_cam(tiny.subject(tiny.model("cnn", seed=seed)), images, labels), 8
        ).numpy()
        good = np.array([reason is None for reason in degenerate_reasons(untrained)])
        shares += list(localization.relevance_mass(untrained[good], masks[good]))
    assert len(shares) > 200
    assert np.mean(shares) < 1.5 * masks.mean()
