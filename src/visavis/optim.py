"""Muon for the hidden matrices, AdamW for the rest, and one schedule for both."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from visavis.config import OptimConfig

STEPS = 5
"""Newton-Schulz steps of Muon."""


@torch.no_grad()
def orthogonalize(
    matrix: Float[Tensor, "rows columns"], *, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "rows columns"]:
    """The nearest matrix whose singular values are all about 1 (between about 0.7 and 1.2).

    STEPS Newton-Schulz steps of the quintic 3.4445 x - 4.775 x^3 + 2.0315 x^5.

    Args:
        dtype: of the products. bf16 is enough, where the processor has it.

    Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks".
    """
    x = matrix.to(dtype)
    wide = matrix.shape[0] <= matrix.shape[1]
    x = x if wide else x.T
    x = x / (x.norm() + 1e-7)
    small = dtype == torch.float32 and x.shape[1] >= 2 * x.shape[0]
    x = _in_small_products(x) if small else _step_by_step(x)
    return (x if wide else x.T).to(matrix.dtype)


def _step_by_step(x: Float[Tensor, "r c"]) -> Float[Tensor, "r c"]:
    for _ in range(STEPS):
        gram = x @ x.T
        x = 3.4445 * x + (-4.775 * gram + 2.0315 * gram @ gram) @ x
    return x


def _in_small_products(x: Float[Tensor, "r c"]) -> Float[Tensor, "r c"]:
    """The same with two products of x in place of ten: all steps are polynomials of x x^T, times x.

    A third of the work where a matrix is nine times as wide as it is high. The eigenvalues of x x^T
    are the squares of x's singular values, for which bf16 is too coarse: rounding makes the
    smallest ones negative, and the steps then let them grow.
    """
    gram = x @ x.T
    one = torch.eye(len(x), device=x.device, dtype=x.dtype)
    factors = one
    for step in range(STEPS):
        factor = 3.4445 * one - 4.775 * gram + 2.0315 * gram @ gram
        factors = factor @ factors if step else factor
        if step < STEPS - 1:  # nobody asks for the last one
            gram = gram @ factor @ factor
    return factors @ x


class MuonAdamW(torch.optim.Optimizer):
    """Muon on the groups marked `muon`, AdamW on the others.

    Muon: Nesterov momentum, orthogonalised; each filter counts as one row of a matrix. The step is
    scaled by sqrt(max(1, rows / columns)), so that it changes outputs by about the learning rate
    whatever the shape.

    Args:
        dtype: of Muon's matrix products; the weights and averages stay as they are.

    Source: Jordan et al. 2024 (Muon); Loshchilov & Hutter 2019, arXiv 1711.05101 (AdamW).
    """

    def __init__(self, groups: list[dict[str, Any]], *, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(groups, {"betas": (0.9, 0.99), "epsilon": 1e-8})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update from the gradients; Lightning passes the closure that makes them."""
        with torch.enable_grad():
            loss = closure() if closure is not None else None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    update = self._muon if group["muon"] else self._adamw
                    update(parameter, self.state[parameter], group)
        return loss

    def _muon(self, parameter: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        gradient, momentum = parameter.grad, group["momentum"]
        assert gradient is not None
        average = state.setdefault("average", torch.zeros_like(parameter))
        average.lerp_(gradient, 1 - momentum)
        direction = gradient.lerp(average, momentum).flatten(1)
        scale = max(1.0, direction.shape[0] / direction.shape[1]) ** 0.5
        update = orthogonalize(direction, dtype=self.dtype).view(parameter.shape)
        parameter.add_(update, alpha=-group["lr"] * scale)

    def _adamw(self, parameter: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        gradient, (beta1, beta2) = parameter.grad, group["betas"]
        assert gradient is not None
        first = state.setdefault("first", torch.zeros_like(parameter))
        second = state.setdefault("second", torch.zeros_like(parameter))
        step = state["step"] = state.get("step", 0) + 1
        first.lerp_(gradient, 1 - beta1)
        second.lerp_(gradient.square(), 1 - beta2)
        denominator = (second / (1 - beta2**step)).sqrt_().add_(group["epsilon"])
        parameter.addcdiv_(first, denominator, value=-group["lr"] / (1 - beta1**step))


def optimizer(
    model: nn.Module, config: OptimConfig, *, dtype: torch.dtype = torch.float32
) -> MuonAdamW:
    """The optimiser of a model: Muon for the weights inside `stages` (CNN) or `blocks` (ViT)."""
    matrices, decayed, plain = [], [], []
    for name, parameter in model.named_parameters():
        weight = parameter.ndim >= 2 and name.endswith("weight")
        if weight and name.startswith(("stages.", "blocks.")):
            matrices.append(parameter)
        elif weight:
            decayed.append(parameter)
        else:  # biases, those of offsets too, norms, class token, positions
            plain.append(parameter)
    adam = {"muon": False, "lr": config.learning_rate, "momentum": 0.0}
    return MuonAdamW(
        [
            {
                "params": matrices,
                "muon": True,
                "lr": config.muon_learning_rate,
                "momentum": config.momentum,
                "weight_decay": config.weight_decay,
            },
            {"params": decayed, "weight_decay": config.weight_decay, **adam},
            {"params": plain, "weight_decay": 0.0, **adam},
        ],
        dtype=dtype,
    )


def learning_rate_factor(step: int, *, steps: int, warmup_fraction: float) -> float:
    """Share of the peak learning rate at `step` of `steps`: up from 0, then down to 0, linearly."""
    warmup = max(1.0, steps * warmup_fraction)
    return min((step + 1) / (warmup + 1), (steps - step) / max(1.0, steps - warmup))
