import pytest
import torch
from torch.nn import functional

from tiny import distance, requires_compiler
from visavis.models import planes

SHAPE = (5, 37, 64)


def parted(tokens):
    """Sums of pairs of channels and differences, of all tokens."""
    p, q = tokens.flatten(0, 1).chunk(2, dim=1)
    return torch.stack([p + q, p - q]) / 2**0.5


def joined(x):
    s, a = x / 2**0.5
    return torch.cat([s + a, s - a], dim=1).unflatten(0, SHAPE[:2])


def normed(tokens, weight, bias):
    return parted(functional.layer_norm(tokens, SHAPE[2:], weight, bias)), tokens


def activated(x, bias):
    return (parted(functional.gelu(joined(x) + bias)),)


def added(x, bias, tokens):
    return (joined(x) + bias + tokens,)


def added_normed(x, bias, tokens, weight, norm_bias):
    return normed(joined(x) + bias + tokens, weight, norm_bias)


def results(function, arrays, gradients):
    """What it returns, and the gradients by all arrays."""
    arrays = [array.detach().clone().requires_grad_() for array in arrays]
    out = function(*arrays)
    out = out if isinstance(out, tuple) else (out,)
    torch.autograd.backward(out, [gradient.to(out[0].dtype) for gradient in gradients])
    return [x.double() for x in (*(x.detach() for x in out), *(array.grad for array in arrays))]


def drawn(name):
    """Arrays for the functions of that name, and gradients; means and deviations far from 0, 1."""
    generator = torch.Generator().manual_seed(0)
    n, t, channels = SHAPE
    tokens, in_planes, width = SHAPE, (2, n * t, channels // 2), (channels,)
    shapes = {
        "normed": ([tokens, width, width], [in_planes, tokens]),
        "activated": ([in_planes, width], [in_planes]),
        "added": ([in_planes, width, tokens], [tokens]),
        "added_normed": ([in_planes, width, tokens, width, width], [in_planes, tokens]),
    }
    return tuple(
        [1 + 2 * torch.randn(shape, generator=generator) for shape in some] for some in shapes[name]
    )


NAMES = pytest.mark.parametrize("name", ["normed", "activated", "added", "added_normed"])


@requires_compiler
@NAMES
def test_one_call_agrees_with_pytorch_in_float64(name):
    arrays, gradients = drawn(name)
    exact = results(globals()[name], [array.double() for array in arrays], gradients)
    found_ones = results(getattr(planes, name), arrays, gradients)
    for found, expected in zip(found_ones, exact, strict=True):
        assert found.shape == expected.shape
        assert distance(found, expected) < 1e-6


@requires_compiler
@NAMES
def test_in_bf16_one_call_is_as_exact_as_pytorch(name):
    arrays, gradients = ([x.bfloat16() for x in some] for some in drawn(name))
    exact = results(globals()[name], [array.double() for array in arrays], gradients)
    usual = results(globals()[name], arrays, gradients)
    found = results(getattr(planes, name), arrays, gradients)
    for one, other, expected in zip(found, usual, exact, strict=True):
        assert distance(one, expected) <= min(0.01, 1.1 * distance(other, expected))


@requires_compiler
@NAMES
def test_threads_change_no_bit(monkeypatch, name):
    one, two = [], []
    for threads, kept in ((1, one), (2, two)):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        kept += results(getattr(planes, name), *drawn(name))
    for a, b in zip(one, two, strict=True):
        assert torch.equal(a, b)


@requires_compiler
@pytest.mark.parametrize(
    ("name", "of_each"), [("normed", 64), ("activated", 2), ("added", 2), ("added_normed", 64)]
)
def test_nan_is_not_hidden(name, of_each):
    """It reaches its token, or its pair of channels; nothing else."""
    arrays, _ = drawn(name)
    arrays[0].view(-1)[5] = float("nan")
    with torch.no_grad():
        found = getattr(planes, name)(*arrays)
    if name == "added_normed":
        assert found[1].isnan().sum() == 2
    found = found[0] if isinstance(found, tuple) else found
    assert found.isnan().sum() == of_each
    first = found[0, 0] if name == "added" else found[:, 0]
    assert first.isnan().sum() == of_each


@requires_compiler
def test_one_token_and_any_order():
    """The narrowest: 32 channels, of a class token that lies among others."""
    tokens = torch.randn(3, 5, 32)[:, :1]
    weight, bias = torch.rand(32), torch.rand(32)
    found, same = planes.normed(tokens, weight, bias)
    assert torch.equal(same, tokens)
    p, q = functional.layer_norm(tokens, (32,), weight, bias).flatten(0, 1).chunk(2, dim=1)
    torch.testing.assert_close(found, torch.stack([p + q, p - q]) / 2**0.5)
    torch.testing.assert_close(
        planes.added(found, torch.zeros(32), tokens).flatten(0, 1),
        torch.cat([p, q], dim=1) + tokens.flatten(0, 1),
    )


def test_channels_that_fill_no_vectors_and_other_types_are_refused():
    with pytest.raises(ValueError, match="multiple of 32"):
        planes.activated(torch.rand(2, 3, 20), torch.rand(40))
    arrays = (torch.rand(2, 3, 16).bfloat16(), torch.rand(32), torch.rand(1, 3, 32))
    with pytest.raises(ValueError, match="bfloat16"):
        planes.added(*arrays)
    with pytest.raises(ValueError, match="bfloat16"):
        planes.added_normed(*arrays, torch.rand(32), torch.rand(32))
