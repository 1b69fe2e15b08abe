import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import tiny
from tiny import distance, requires_compiler
from visavis import models
from visavis.config import ViTConfig
from visavis.models import attention
from visavis.presets import preset


def turned(x):
    """From halves of the channels to sums and differences of their pairs, or back."""
    one, other = x
    return torch.stack([one + other, one - other]) / 2**0.5


def written_out(qkv, added, bias):
    """softmax(q k^T / sqrt(16) + bias) v, heads beside one another, each half with its q, k, v."""
    heads, readers, t = bias.shape
    halves = turned(qkv) + added.view(2, 1, -1)
    q, k, v = halves.view(2, -1, t, 3, heads // 2, 16).permute(3, 1, 0, 4, 2, 5).flatten(2, 3)
    weights = (q[:, :, :readers] @ k.mT / 4 + bias).softmax(dim=-1)
    read = (weights @ v).unflatten(1, (2, -1))  # n 2 heads/2 t 16
    return turned(read.permute(1, 0, 3, 2, 4).flatten(3).flatten(1, 2))


def results(function, qkv, added, bias, gradient):
    """What it returns, and the gradients, in float64."""
    arrays = [x.detach().clone().requires_grad_() for x in (qkv, added, bias)]
    read = function(*arrays)
    read.backward(gradient.to(read.dtype))
    return [x.double() for x in (read.detach(), *(array.grad for array in arrays))]


def exact_results(qkv, added, bias, gradient):
    return results(written_out, qkv.double(), added.double(), bias.double(), gradient)


def drawn(n, t, heads, *, readers=None, scale=2.0):
    generator = torch.Generator().manual_seed(0)
    half, r = heads * 8, readers or t
    shapes = ((2, n * t, 3 * half), (6 * half,), (heads, r, t), (2, n * r, half))
    return [scale * torch.randn(shape, generator=generator) for shape in shapes]


def gradients(model):
    """All in one vector. The last block's offset bias has none: the class token alone reads."""
    found = [parameter.grad for parameter in model.parameters()]
    return torch.cat([gradient.flatten() for gradient in found if gradient is not None])


@requires_compiler
@pytest.mark.parametrize("readers", [1, 14, None])
@pytest.mark.parametrize(
    ("n", "t", "heads"),
    [(3, 37, 12), (17, 65, 4), (1, 1, 2), (33, 5, 2), (2, 16, 6), (2, 257, 2), (18, 50, 2)],
)
def test_the_kernel_agrees_with_float64(n, t, heads, readers):
    """The first tokens read, or all do."""
    arrays = drawn(n, t, heads, readers=min(readers or t, t))
    found, expected = results(attention.attend, *arrays), exact_results(*arrays)
    atol = 1e-5 * arrays[3].abs().max().item()
    for i in (0, 1, 3):
        torch.testing.assert_close(found[i], expected[i], rtol=1e-5, atol=atol)
    assert distance(found[2], expected[2]) < 1e-5  # a sum over all tokens, zero for keys


@requires_compiler
def test_in_bf16_the_kernel_is_as_exact_as_products_written_out():
    qkv, added, bias, gradient = drawn(8, 37, 4)
    qkv, gradient = qkv.bfloat16(), gradient.bfloat16()
    exact = exact_results(qkv, added, bias, gradient)
    usual = results(written_out, qkv, added.bfloat16(), bias.bfloat16(), gradient)
    found = results(attention.attend, qkv, added, bias, gradient)
    for one, other, expected in zip(found, usual, exact, strict=True):
        assert distance(one, expected) < min(0.01, distance(other, expected))


@requires_compiler
def test_large_scores_do_not_overflow_and_nan_is_not_hidden():
    qkv, added, bias, gradient = drawn(1, 5, 2, scale=300.0)
    exact = exact_results(qkv, added, bias, gradient)
    found = results(attention.attend, qkv, added, bias, gradient)
    for one, expected in zip(found, exact, strict=True):
        torch.testing.assert_close(one, expected, rtol=1e-5, atol=1e-3)
    qkv[0, 2, 3] = float("nan")  # in the queries of token 2
    read = attention.attend(qkv, added, bias)
    assert read[:, 2].isnan().all()
    assert read[:, [0, 1, 3, 4]].isfinite().all()


@requires_compiler
def test_threads_change_no_bit(monkeypatch):
    one, two = [], []
    for threads, kept in ((1, one), (2, two)):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        kept += results(attention.attend, *drawn(37, 17, 2))
    for a, b in zip(one, two, strict=True):
        assert torch.equal(a, b)


@requires_compiler
def test_what_the_kernel_does_not_have_is_written_out():
    model = tiny.model("vit", config=ViTConfig(width=32, depth=2, heads=2))
    images = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    plain = model.double()(images)
    model.fuse()
    torch.testing.assert_close(model.train()(images), plain)


def test_other_heads_are_refused():
    qkv, added, bias, _ = drawn(1, 5, 2)
    with pytest.raises(ValueError, match="heads of 16"):
        attention.attend(qkv, added, bias[:1])
    with pytest.raises(ValueError, match="heads of 16"):
        attention.attend(qkv[:, :, :24], added[:48], bias[:1])  # an odd number of heads
    for wrong in (bias[:, :, :4], torch.cat([bias, bias], dim=1)):  # of other tokens, or readers
        with pytest.raises(ValueError, match="tokens"):
            attention.attend(qkv, added, wrong)


@requires_compiler
@pytest.mark.parametrize(("bf16", "tolerances"), [(False, (1e-5, 1e-5)), (True, (0.02, 0.05))])
@pytest.mark.parametrize("side", [24, 32])
def test_a_compiled_step_agrees_with_the_plain_one_in_float32(bf16, tolerances, side):
    """Logits, and the gradients of all weights; the distance of two is a share of their length."""
    torch.manual_seed(0)
    model = models.build(ViTConfig(width=64, depth=3, heads=4))
    for parameter in model.parameters():  # no branch is empty, as it is at first
        torch.nn.init.trunc_normal_(parameter, std=0.1)
    images = torch.rand(9, 3, side, side)

    def step():
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=model.blocks[0].fused and bf16):
            logits = model(images).float()
        logits.square().sum().backward()
        return logits.detach(), gradients(model)

    plain = step()
    model.fuse()
    for found, expected, tolerance in zip(step(), plain, tolerances, strict=True):
        assert 0 < distance(found, expected) < tolerance


@requires_compiler
@pytest.mark.parametrize(
    ("heads", "mlp_ratio", "products_only"), [(4, 2.0, True), (2, 2.0, False), (4, 1.25, False)]
)
def test_without_the_kernel_products_are_halved_and_hooks_see_the_weights(
    heads, mlp_ratio, products_only
):
    """Asked to leave it, with heads that it does not have, and with a hidden width of 80."""
    torch.manual_seed(0)
    model = models.build(ViTConfig(width=64, depth=3, heads=heads, mlp_ratio=mlp_ratio))
    for parameter in model.parameters():
        torch.nn.init.trunc_normal_(parameter, std=0.1)
    seen = []
    softmax = model.blocks[0].attention.softmax
    softmax.register_forward_hook(lambda *call: seen.append(call[2].shape[1]))
    images = torch.rand(5, 3, 24, 24)

    def step():
        model.zero_grad()
        with FlopCounterMode(display=False) as counter:
            model(images).square().sum().backward()
        return gradients(model), counter.get_total_flops()

    plain, products = step()
    model.fuse(products_only=products_only)
    found, fewer = step()
    assert 0 < distance(found, plain) < 1e-5
    assert fewer < 0.7 * products
    assert seen == [heads, heads]


@requires_compiler
def test_answers_and_hooks_are_those_of_the_attention_written_out():
    def seen(fused):
        torch.manual_seed(0)
        model = models.build(ViTConfig(width=32, depth=2, heads=2))
        if fused:
            model.fuse()
        model.eval()
        weights = []
        softmax = model.blocks[0].attention.softmax
        softmax.register_forward_hook(lambda *call: weights.append(call[2]))
        images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
        return model(images), weights[0]

    torch.testing.assert_close(seen(fused=True), seen(fused=False))


@pytest.mark.parametrize("name", ["quick", "standard", "best"])
@requires_compiler
def test_the_vit_of_the_presets_can_be_fused(name):
    for source in ("cifar10", "shapes"):
        model = models.build(preset(name, source).vit)
        model.fuse()
        assert len(model.blocks) > 1  # the last one reads for the class token alone
        assert all(block.fused for block in model.blocks)
