"""Pooling and batch norm with GELU in one call, against what PyTorch makes of them in float64."""

import pytest
import torch
from torch import nn

from tiny import distance, requires_compiler
from visavis.models import compiled
from visavis.models.activation import normed_gelu, pooled
from visavis.models.cnn import Pooling

pytestmark = requires_compiler

BOTH_LAYOUTS = pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])


def backward(function, x, gradient, *others):
    """What it returns, and the gradients by x and the others, in float64."""
    variables = [v.detach().clone().requires_grad_() for v in (x, *others)]
    out = function(*variables)
    out.backward(gradient.to(out.dtype))
    return [out.detach().double(), *(v.grad.double() for v in variables)]


@BOTH_LAYOUTS
@pytest.mark.parametrize(("rows", "columns"), [(31, 31), (23, 7), (1, 5), (12, 12), (2, 6)])
def test_pooling_is_that_of_pytorch(rows, columns, layout):
    """Of equal pixels the first one gets the gradient, as PyTorch has it; few values, so many."""
    torch.manual_seed(0)
    x = torch.randint(-3, 3, (3, 32, rows, columns)).float().contiguous(memory_format=layout)
    usual = Pooling()
    gradient = torch.randn_like(usual(x)).contiguous(memory_format=layout)
    expected = backward(usual, x.double(), gradient.double())
    for found, right in zip(backward(pooled, x, gradient), expected, strict=True):
        torch.testing.assert_close(found, right, rtol=1e-6, atol=1e-6)


def test_pooling_in_bf16_chooses_the_same_pixels():
    torch.manual_seed(0)
    x = torch.randn(2, 16, 7, 7).bfloat16()
    gradient = torch.randn(2, 16, 4, 4).bfloat16()
    out, by_x = backward(pooled, x, gradient)
    expected, by_x_expected = backward(Pooling(), x.double(), gradient)
    assert torch.equal(out, expected)
    torch.testing.assert_close(by_x, by_x_expected, rtol=2**-8, atol=0)  # rounded once


@pytest.mark.parametrize("unlike", ["sides", "type"])
def test_pictures_that_it_does_not_take_are_pooled_as_usual(unlike):
    x = torch.rand(2, 16, 5, 6) if unlike == "sides" else torch.rand(2, 16, 5, 5).double()
    pooling = Pooling()
    usual = pooling(x)
    pooling.fused = True
    assert torch.equal(pooling(x), usual)


def test_what_would_be_read_past_its_end_is_refused():
    x, norm = torch.rand(2, 24, 5, 5), nn.BatchNorm2d(24)
    for function in (pooled, lambda x: normed_gelu(x, norm, None)):
        with pytest.raises(ValueError, match="cannot be"):
            function(x)
    with pytest.raises(ValueError, match="cannot be pooled"):
        pooled(torch.rand(2, 16, 5, 6))
    x, norm = torch.rand(2, 16, 5, 5), nn.BatchNorm2d(16)
    with pytest.raises(ValueError, match="cannot be activated"):
        normed_gelu(x, norm, x.bfloat16())
    with pytest.raises(ValueError, match="cannot take an array"):
        compiled.call("activation.cpp", "moments", x[:, :, ::2], torch.empty(2, 16), sizes=(30, 16))


@pytest.mark.parametrize("place", [(0, 0), (2, 2), (4, 1)])
def test_pooling_does_not_hide_nan(place):
    x = torch.rand(1, 16, 5, 5)
    x[0, 3, *place] = float("nan")
    out = pooled(x)
    assert out[0, 3, place[0] // 2, (place[1] + 1) // 2].isnan()
    assert out[0, :3].isfinite().all()


def usual(x, weight, bias, shortcut=None):
    normed = nn.functional.batch_norm(x, None, None, weight, bias, training=True)
    return nn.functional.gelu(normed if shortcut is None else normed + shortcut)


def fused(x, weight, bias, shortcut=None):
    norm = nn.BatchNorm2d(x.shape[1])
    del norm.weight, norm.bias  # parameters, in whose place a module takes no other tensor
    norm.weight, norm.bias = weight, bias
    return normed_gelu(x, norm, shortcut)


def inputs(n, side, *, mean=0.0, shortcut=True):
    torch.manual_seed(0)
    x = torch.randn(n, 32, side, side) * torch.rand(32, 1, 1) + mean
    weight, bias = torch.randn(32), torch.randn(32)
    others = (weight, bias, torch.randn_like(x)) if shortcut else (weight, bias)
    return x, torch.randn_like(x), others


@BOTH_LAYOUTS
@pytest.mark.parametrize("shortcut", [False, True])
@pytest.mark.parametrize(("n", "side"), [(50, 12), (3, 5), (2, 1)])
def test_norm_and_gelu_are_those_of_pytorch(n, side, shortcut, layout):
    x, gradient, others = inputs(n, side, shortcut=shortcut)
    x, gradient = (v.contiguous(memory_format=layout) for v in (x, gradient))
    expected = backward(usual, x.double(), gradient.double(), *(v.double() for v in others))
    for found, right in zip(backward(fused, x, gradient, *others), expected, strict=True):
        # Two values of a channel leave its norm without a slope: 0 but for rounding.
        torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-4 * right.abs().max().item())
        assert n * side == 2 or distance(found, right) < 2e-6


def test_a_large_mean_costs_no_digits():
    """A hundred deviations away, where the mean of squares less the square of the mean fails."""
    x, gradient, others = inputs(50, 12, mean=100.0)
    expected = backward(usual, x.double(), gradient.double(), *(v.double() for v in others))
    for found, right in zip(backward(fused, x, gradient, *others), expected, strict=True):
        assert distance(found, right) < 1e-5


def test_in_bf16_norm_and_gelu_are_at_least_as_exact_as_one_by_one():
    x, gradient, others = inputs(50, 12)
    x, gradient, others = x.bfloat16(), gradient.bfloat16(), (*others[:2], others[2].bfloat16())
    exact = backward(usual, x.double(), gradient.double(), *(v.double() for v in others))
    one_by_one = backward(usual, x, gradient, *others)
    for found, other, right in zip(
        backward(fused, x, gradient, *others), one_by_one, exact, strict=True
    ):
        assert distance(found, right) < min(0.01, 1.05 * distance(other, right))


def test_running_averages_move_as_usual():
    norm, other = nn.BatchNorm2d(16), nn.BatchNorm2d(16)
    for seed in range(3):
        torch.manual_seed(seed)
        x = torch.randn(4, 16, 3, 3) + seed
        other(x)
        normed_gelu(x, norm, None)
    for name, found in norm.state_dict().items():
        torch.testing.assert_close(found, other.state_dict()[name])


def test_nan_reaches_all_of_its_channel():
    x = torch.rand(2, 16, 3, 3)
    x[1, 3, 2, 2] = float("nan")
    out = normed_gelu(x, nn.BatchNorm2d(16), None)
    assert out[:, 3].isnan().all()
    assert out[:, 4].isfinite().all()


def test_threads_change_nothing(monkeypatch):
    def found(threads):
        monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
        x, gradient, others = inputs(7, 5)
        return backward(fused, x, gradient, *others) + backward(pooled, x, gradient[:, :, :3, :3])

    for a, b in zip(found(1), found(2), strict=True):
        assert torch.equal(a, b)
