import pytest
import torch
import torch.nn.functional as F
from torch import nn

import small
from tiny import distance, requires_compiler
from visavis import models
from visavis.config import CNNConfig
from visavis.errors import EnvironmentFault
from visavis.loader import to_images
from visavis.models.convolution import Convolution, _as_filters, _Fused, transposed
from visavis.presets import preset


def halves_exchanged(x):
    return x.roll(x.shape[1] // 2, dims=1)


def test_the_second_half_of_the_filters_mirrors_the_first():
    convolution = Convolution(4, 6)
    nn.init.normal_(convolution.weight)
    first, second = convolution.filters().chunk(2)
    assert first.shape == (3, 4, 3, 3)
    assert torch.equal(second, halves_exchanged(first.flip(3)))
    assert convolution.weight.numel() == first.numel()


def test_filters_by_hand():
    """The part of a sum's row that reads differences: r - l of p less r - l of q, over 2 root 2."""
    convolution = Convolution(2, 2)
    nn.init.zeros_(convolution.weight)
    with torch.no_grad():
        convolution.weight.view(2, 3, 3)[0, 2, 1] = 8**0.5
    edge, other = [[-1, 0, 1], [1, 0, -1]]
    torch.testing.assert_close(
        convolution.filters()[:, :, 1], torch.tensor([[edge, other], [edge, other]]).float()
    )
    assert not convolution.filters()[:, :, 0].any()


def test_blocks_are_the_filters_in_an_orthonormal_basis():
    """So they have the same length, and the same singular values."""
    convolution = Convolution(6, 10)
    nn.init.normal_(convolution.weight)
    of_filters = torch.linalg.svdvals(convolution.filters().flatten(1))
    of_blocks = torch.linalg.svdvals(convolution.weight).flatten()
    torch.testing.assert_close(of_blocks.sort().values, of_filters.sort().values)


@pytest.mark.parametrize("side", [24, 32])
def test_of_a_mirrored_picture_the_cnn_sees_the_mirror_image(side):
    torch.manual_seed(0)
    model = models.build(CNNConfig(widths=(8, 16, 16)))
    models.fit_input(model, torch.rand(6, 3, 32, 32))
    images = torch.rand(6, 3, side, side)
    random_filters(model)

    def seen(images):
        x = model.activation(model.whitening(model.normalize(images)))
        return model.stages[1](model.stages[0](x))

    expected = halves_exchanged(seen(images)).flip(3)
    torch.testing.assert_close(seen(images.flip(3)), expected, rtol=1e-3, atol=1e-3)


def results(convolution, x, gradient):
    """What it returns, and the gradients by the pictures and the weights, in float64."""
    x = x.detach().clone().requires_grad_()
    convolution.zero_grad()
    out = convolution(x)
    out.backward(gradient.to(out.dtype))
    return [y.double() for y in (out.detach(), x.grad, convolution.weight.grad)]


@requires_compiler
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("n", "stride", "rows", "columns"),
    [
        (1, 1, 6, 4),
        (3, 1, 1, 1),
        (53, 1, 2, 3),
        (100, 1, 4, 4),
        (2, 1, 7, 5),
        (2, 1, 12, 3),
        (6, 2, 6, 4),
        (6, 2, 5, 7),
        (3, 2, 1, 3),
        (3, 2, 2, 4),
    ],
)
def test_half_of_the_products_give_the_same_convolution(n, stride, rows, columns, layout):
    torch.manual_seed(0)
    convolution = Convolution(32, 64, stride=stride)
    exact = Convolution(32, 64, stride=stride).double()
    exact.load_state_dict(convolution.state_dict())
    x = torch.randn(n, 32, rows, columns).contiguous(memory_format=layout)
    gradient = torch.randn_like(convolution(x)).contiguous(memory_format=layout)
    expected = results(exact, x.double(), gradient)
    convolution.fused = True
    for found, right in zip(results(convolution, x, gradient), expected, strict=True):
        assert found.shape == right.shape
        assert distance(found, right) < 1e-6


@requires_compiler
@pytest.mark.parametrize(("n", "rows", "columns"), [(1, 6, 4), (3, 1, 1), (53, 2, 3), (2, 7, 5)])
def test_so_they_do_in_one_strip_which_bf16_takes(n, rows, columns):
    """Without a stride float32 takes rows together; here it goes the way of bf16."""
    torch.manual_seed(0)
    convolution = Convolution(32, 64)
    exact = Convolution(32, 64).double()
    exact.load_state_dict(convolution.state_dict())
    x, gradient = torch.randn(n, 32, rows, columns), torch.randn(n, 64, rows, columns)
    expected = results(exact, x.double(), gradient)

    def in_one_strip(x):
        weight = convolution.weight
        back = _as_filters(transposed(weight.detach()))
        return _Fused.apply(x, _as_filters(weight), back, 1)

    x.requires_grad_()
    out = in_one_strip(x)
    out.backward(gradient)
    for found, right in zip((out.detach(), x.grad, convolution.weight.grad), expected, strict=True):
        assert distance(found.double(), right) < 1e-6


@requires_compiler
@pytest.mark.parametrize("stride", [1, 2])
def test_in_bf16_half_of_the_products_are_about_as_exact_as_all(stride):
    torch.manual_seed(0)
    convolution = Convolution(64, 64, stride=stride)
    x = torch.randn(10, 64, 8, 8)
    gradient = torch.randn_like(convolution(x))
    exact = results(convolution, x, gradient)

    def in_bf16(fused):
        convolution.fused = fused
        with torch.autocast("cpu", torch.bfloat16):
            return results(convolution, x, gradient)

    for found, usual, right in zip(in_bf16(True), in_bf16(False), exact, strict=True):
        assert 0 < distance(found, right) < min(0.01, 2 * distance(usual, right))


@requires_compiler
@pytest.mark.parametrize(("stride", "side"), [(1, 5), (2, 3)])
def test_threads_change_nothing(monkeypatch, stride, side):
    def found(threads):
        monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
        torch.manual_seed(0)
        convolution = Convolution(32, 32, stride=stride)
        convolution.fused = True
        return results(convolution, torch.randn(7, 32, 5, 5), torch.randn(7, 32, side, side))

    for a, b in zip(found(1), found(2), strict=True):
        assert torch.equal(a, b)


def random_filters(model):
    """Filters that pass pictures on leave equal pixels, of which max-pooling may take either."""
    for module in model.modules():
        if isinstance(module, Convolution):
            nn.init.uniform_(module.weight, -1, 1)


@requires_compiler
@pytest.mark.parametrize("products_only", [False, True])
@pytest.mark.parametrize("side", [24, 32])
def test_a_compiled_step_agrees_with_the_plain_one(side, products_only):
    """Logits, and the gradients of all weights; the distance of two is a share of their length."""
    torch.manual_seed(0)
    model = models.build(CNNConfig(widths=(32, 64, 64)))
    images = to_images(small.dataset().train_pixels[:50])
    models.fit_input(model, images)
    random_filters(model)

    def step(*, bf16):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = model(images[:, :, :side, :side]).float()
        F.cross_entropy(logits, torch.arange(50) % 10).backward()
        return logits.detach(), torch.cat([p.grad.flatten() for p in model.parameters()])

    exact, usual = step(bf16=False), step(bf16=True)
    model.fuse(products_only=products_only)
    assert [stage.fused for stage in model.stages] == 3 * [not products_only]
    for found, right, tolerance in zip(step(bf16=False), exact, (1e-5, 1e-3), strict=True):
        assert 0 < distance(found, right) < tolerance
    for found, other, right in zip(step(bf16=True), usual, exact, strict=True):
        assert distance(found, right) < min(0.1, 1.5 * distance(other, right))


@requires_compiler
@pytest.mark.parametrize("bf16", [False, True])
def test_nan_is_not_hidden_and_other_types_take_all_products(bf16):
    convolution = Convolution(32, 32)
    convolution.fused = True
    x = torch.zeros(2, 32, 5, 5)
    x[1, 3, 2, 2] = float("nan")
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        out = convolution(x)
    assert out[0].isfinite().all()
    assert out[1, :, 1:4, 1:4].isnan().all()
    assert convolution.double()(x.double()).dtype == torch.float64


@pytest.mark.parametrize("name", ["quick", "standard", "best"])
def test_all_but_the_first_convolution_of_the_presets_are_wide_enough(name):
    for source in ("cifar10", "shapes"):
        stages = models.build(preset(name, source).cnn).stages
        first, *others = [c for c in stages.modules() if isinstance(c, Convolution)]
        assert [first.fits, *(c.fits for c in others)] == [False] + 8 * [True]


def test_a_fresh_convolution_passes_channels_on_in_their_places():
    cnn = models.build(CNNConfig(widths=(8, 32, 32)))
    wider, same = cnn.stages[1].conv1, cnn.stages[1].conv2
    x = torch.rand(2, 32, 4, 4)
    assert torch.equal(same(x), x)
    narrow = torch.rand(2, 8, 4, 4)
    out = wider(narrow)
    assert torch.equal(out[:, :4], narrow[:, :4])
    assert torch.equal(out[:, 16:20], narrow[:, 4:])


@requires_compiler
def test_answers_are_those_of_all_products():
    torch.manual_seed(0)
    model = models.build(CNNConfig(widths=(32, 32, 32))).eval()
    images = torch.rand(2, 3, 32, 32)
    before = model(images)
    model.fuse()
    assert torch.equal(model(images), before)


def test_a_cnn_too_narrow_for_vectors_is_refused():
    with pytest.raises(EnvironmentFault, match="multiple of 32"):
        models.build(CNNConfig(widths=(8, 16, 48))).fuse()
