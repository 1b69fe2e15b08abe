import pytest
import torch
from torch import nn

from visavis import models
from visavis.config import CNNConfig, OptimConfig, ViTConfig
from visavis.training.optim import MuonAdamW, learning_rate_factor, optimizer, orthogonalize


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(16, 48), (48, 16), (20, 20)])
def test_orthogonalize_keeps_directions_and_evens_singular_values(shape, dtype):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    result = orthogonalize(matrix, dtype=dtype)
    digits = 2**-8 if dtype == torch.bfloat16 else 0  # what bf16 keeps of a number
    exact = orthogonalize(matrix)
    assert (result - exact).abs().max() <= 16 * digits
    if dtype == torch.bfloat16:
        assert not torch.equal(result, exact), "the products were not in bf16"
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    values = (u.T @ result @ v.T).diagonal()  # in the singular directions of the input
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_orthogonalize_equals_its_steps_written_out():
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(40, 5, generator=generator) for _ in range(2))
    noise = torch.randn(40, 90, generator=generator)
    nearly_flat = left @ right.T @ noise[:40] + 1e-4 * noise  # five large singular values of forty
    for matrix in (noise, noise.T, nearly_flat, torch.zeros(3, 7)):
        x = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
        x = x / (x.norm() + 1e-7)
        for _ in range(5):
            x = 3.4445 * x - 4.775 * x @ x.T @ x + 2.0315 * x @ x.T @ x @ x.T @ x
        expected = x if matrix.shape[0] <= matrix.shape[1] else x.T
        torch.testing.assert_close(orthogonalize(matrix), expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize("shape", [(3, 8, 24), (2, 24, 8), (2, 9, 9)])
def test_matrices_in_a_stack_do_not_mix(shape):
    stack = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    stack[1] *= 1000
    alone = torch.stack([orthogonalize(matrix) for matrix in stack])
    torch.testing.assert_close(orthogonalize(stack), alone)


def test_adamw_equals_torchs():
    torch.manual_seed(0)
    ours, theirs = nn.Parameter(torch.randn(5, 4)), None
    theirs = nn.Parameter(ours.detach().clone())
    group = {"params": [ours], "muon": False, "lr": 0.01, "weight_decay": 0.1}
    a = MuonAdamW([group])
    b = torch.optim.AdamW([theirs], lr=0.01, weight_decay=0.1, betas=(0.9, 0.99), eps=1e-8)
    for _ in range(5):
        gradient = torch.randn(5, 4)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        a.step()
        b.step()
    torch.testing.assert_close(ours, theirs)


def test_a_step_of_muon_equals_one_written_out_for_each_matrix():
    torch.manual_seed(0)
    shapes = [(6, 3, 3, 3), (6, 3, 3, 3), (40, 18), (5, 8)]  # filters; a high one; a wide one
    parameters = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    expected = [p.detach().clone() for p in parameters]
    averages = [torch.zeros(shape) for shape in shapes]
    scales = [1, 1, (40 / 18) ** 0.5, 1]
    group = {"muon": True, "lr": 0.1, "weight_decay": 0.05, "momentum": 0.7}
    muon = MuonAdamW([{"params": parameters, **group}])
    for _ in range(3):
        for i, parameter in enumerate(parameters):
            gradient = torch.randn(parameter.shape)
            parameter.grad = gradient.clone()
            averages[i] = 0.7 * averages[i] + 0.3 * gradient
            nesterov = 0.3 * gradient + 0.7 * averages[i]
            update = orthogonalize(nesterov.flatten(1)).view(parameter.shape)
            expected[i] = (1 - 0.1 * 0.05) * expected[i] - 0.1 * scales[i] * update
        muon.step()
    torch.testing.assert_close([p.detach() for p in parameters], expected)


def test_muon_lowers_a_loss_whatever_the_gradients_scale():
    def after(scale):
        torch.manual_seed(0)
        layer = nn.Linear(8, 8, bias=False)
        x, y = torch.randn(64, 8), torch.randn(64, 8)
        muon = MuonAdamW(
            [
                {
                    "params": [layer.weight],
                    "muon": True,
                    "lr": 0.02,
                    "weight_decay": 0.0,
                    "momentum": 0.9,
                }
            ]
        )
        losses = []
        for _ in range(30):
            loss = (layer(x) - y).square().mean()
            losses.append(loss.item())
            (scale * loss).backward()
            muon.step()
            muon.zero_grad()
        return losses

    small, large = after(1e-3), after(1e3)
    assert small[-1] < 0.8 * small[0]
    assert small[-1] == pytest.approx(large[-1], rel=0.05)


@pytest.mark.parametrize("config", [CNNConfig(widths=(8, 8, 8)), ViTConfig(width=16, heads=2)])
def test_each_parameter_is_in_one_group_and_only_hidden_matrices_are_muons(config):
    model = models.build(config, 10)
    groups = optimizer(model, OptimConfig()).param_groups
    assert sum(len(g["params"]) for g in groups) == len(list(model.parameters()))
    names = {id(p): name for name, p in model.named_parameters()}
    muon = {names[id(p)] for g in groups if g["muon"] for p in g["params"]}
    assert muon
    assert all(name.endswith("weight") and "norm" not in name for name in muon)
    assert not muon & {"head.weight", "whitening.weight", "patch_embedding.projection.weight"}
    undecayed = {names[id(p)] for g in groups if not g["weight_decay"] for p in g["params"]}
    assert all("norm" in n or n.endswith(("bias", "class_token", "positions")) for n in undecayed)


def test_learning_rate_rises_then_falls_to_zero():
    factors = [learning_rate_factor(s, steps=100, warmup_fraction=0.2) for s in range(101)]
    assert factors[0] < 0.06
    assert max(factors) == pytest.approx(1, abs=0.05)
    assert factors.index(max(factors)) in (19, 20, 21)
    assert factors[100] == 0
    assert all(0 < f <= 1 for f in factors[:100])
