import pytest
import torch
from torch import nn
from torch.nn import functional

from tiny import distance, requires_compiler
from visavis import models
from visavis.config import ViTConfig
from visavis.models.linear import PairedLinear


def drawn(width_in, width):
    torch.manual_seed(0)
    layer = PairedLinear(width_in, width)
    nn.init.normal_(layer.bias)
    return layer


def halves_exchanged(x):
    return x.roll(x.shape[-1] // 2, dims=-1)


def test_the_second_half_reads_as_the_first_with_the_halves_exchanged():
    layer = drawn(6, 4)
    first, second = layer.weights().chunk(2)
    assert torch.equal(second, halves_exchanged(first))
    assert layer.weight.numel() == first.numel()


def test_weights_by_hand():
    """Sums for sums 3, differences for differences 1: 2 for its own channel, 1 for the other."""
    layer = PairedLinear(2, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([3.0, 1.0]).view(2, 1, 1))
    assert layer.weights().tolist() == [[2, 1], [1, 2]]
    assert layer(torch.tensor([[[1.0, 0.0]]])).tolist() == [[[2, 1]]]


def test_blocks_are_the_weights_in_an_orthonormal_basis():
    """So they have the same length, and the same singular values."""
    layer = drawn(6, 10)
    of_weights = torch.linalg.svdvals(layer.weights())
    of_blocks = torch.linalg.svdvals(layer.weight).flatten()
    torch.testing.assert_close(of_blocks.sort().values, of_weights.sort().values)


@pytest.mark.parametrize("positions", ["learned", "sincos"])
@pytest.mark.parametrize("side", [24, 32])
def test_of_a_mirrored_picture_a_fresh_vit_has_the_mirrored_tokens(side, positions):
    """With halves exchanged; training moves biases, norms and positions of a pair apart."""
    torch.manual_seed(0)
    model = models.build(ViTConfig(width=32, depth=2, heads=4, positions=positions)).eval()
    models.fit_input(model, torch.rand(6, 3, 32, 32))
    with torch.no_grad():
        for block in model.blocks:  # no branch is empty, as it is at first
            nn.init.normal_(block.attention.offset_bias)
            nn.init.normal_(block.attention.output.weight, std=0.3)
            nn.init.normal_(block.feed_forward.contract.weight, std=0.3)
    images = torch.rand(2, 3, side, side)
    tokens, mirrored = model.features(images), halves_exchanged(model.features(images.flip(3)))
    patches = mirrored[:, 1:].unflatten(1, (side // 4, side // 4)).flip(2).flatten(1, 2)
    torch.testing.assert_close(tokens[:, 1:], patches, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(tokens[:, 0], mirrored[:, 0], rtol=1e-4, atol=1e-4)
    assert (tokens[:, 1:] - mirrored[:, 1:]).abs().max() > 0.1


def results(layer, tokens, gradient):
    """What it returns, and the gradients by tokens, weights and biases, in float64."""
    tokens = tokens.detach().clone().requires_grad_()
    layer.zero_grad()
    out = layer(tokens)
    out.backward(gradient.to(out.dtype))
    return [y.double() for y in (out.detach(), tokens.grad, layer.weight.grad, layer.bias.grad)]


@requires_compiler
@pytest.mark.parametrize(("width_in", "width"), [(64, 96), (16, 16), (6, 10)])
@pytest.mark.parametrize(("n", "t"), [(1, 1), (5, 37)])
def test_half_of_the_products_give_the_same(n, t, width_in, width):
    layer = drawn(width_in, width)
    exact = drawn(width_in, width).double()
    tokens, gradient = torch.randn(n, t, width_in), torch.randn(n, t, width)
    expected = results(exact, tokens.double(), gradient)
    layer.fused = True
    for found, right in zip(results(layer, tokens, gradient), expected, strict=True):
        assert found.shape == right.shape
        assert distance(found, right) < 1e-6


@requires_compiler
def test_in_bf16_half_of_the_products_are_about_as_exact_as_all():
    layer = drawn(64, 96)
    tokens, gradient = torch.randn(5, 37, 64), torch.randn(5, 37, 96)
    exact = results(layer, tokens, gradient)

    def in_bf16(fused):
        layer.fused = fused
        with torch.autocast("cpu", torch.bfloat16):
            return results(layer, tokens, gradient)

    for found, usual, right in zip(in_bf16(True), in_bf16(False), exact, strict=True):
        assert 0 < distance(found, right) < min(0.01, 2 * distance(usual, right))


@requires_compiler
def test_tokens_and_gradients_may_lie_in_any_order():
    layer = drawn(8, 6)
    tokens = torch.randn(3, 5, 8).transpose(0, 1)
    gradient = torch.ones(()).expand(5, 3, 6)  # as of a sum
    usual = results(layer, tokens, gradient)
    layer.fused = True
    for found, right in zip(results(layer, tokens, gradient), usual, strict=True):
        torch.testing.assert_close(found, right, rtol=1e-5, atol=1e-5)


@requires_compiler
def test_nan_is_not_hidden():
    layer = drawn(8, 8)
    layer.fused = True
    tokens = torch.zeros(2, 3, 8)
    tokens[1, 2, 0] = float("nan")
    assert layer(tokens)[1, 2].isnan().all()
    assert layer(tokens)[0].isfinite().all()


@pytest.mark.parametrize("autocast", [False, True])
def test_answers_and_other_types_take_all_products(monkeypatch, autocast):
    layer = drawn(8, 8).eval()
    tokens = torch.randn(2, 3, 8)
    before = layer(tokens)
    layer.fused = True
    monkeypatch.setattr("visavis.models.linear.call", None)  # fails where it is called
    assert torch.equal(layer(tokens), before)
    layer, tokens = layer.double().train(), tokens.double()
    usual = functional.linear(tokens, layer.weights(), layer.bias)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        assert torch.equal(layer(tokens), usual)


@requires_compiler
def test_a_bf16_layer_is_fused_too():
    layer = drawn(8, 6).bfloat16()
    tokens = torch.randn(2, 3, 8).bfloat16()
    usual = layer(tokens)
    layer.fused = True
    torch.testing.assert_close(layer(tokens), usual, rtol=0.05, atol=0.05)
    layer(tokens).sum().backward()
    assert layer.bias.grad.dtype == torch.bfloat16
