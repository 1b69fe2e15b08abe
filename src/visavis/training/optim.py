"""Muon for the hidden matrices, AdamW for the rest, and one schedule for both."""

from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from visavis.config import OptimConfig

STEPS = 5
"""Newton-Schulz steps of Muon."""

QUINTIC = (3.4445, -4.775, 2.0315)
"""The factors of x, x^3 and x^5 in each of these."""


@torch.no_grad()
def orthogonalize(
    matrices: Float[Tensor, "*n rows columns"], *, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "*n rows columns"]:
    """Of each the nearest matrix whose singular values are all about 1 (between 0.7 and 1.2).

    STEPS Newton-Schulz steps.

    Args:
        dtype: of the products. bf16 and fp16 are enough.

    Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks".
    """
    # Normalised before the cast, since small gradients would vanish in fp16.
    x = (matrices / (matrices.norm(dim=(-2, -1), keepdim=True) + 1e-7)).to(dtype)
    wide = x.shape[-2] <= x.shape[-1]
    x = x if wide else x.mT
    a, b, c = QUINTIC
    for _ in range(STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x if wide else x.mT).to(matrices.dtype)


class MuonAdamW(torch.optim.AdamW):
    """Muon on the groups marked `muon`, AdamW on the others.

    Muon: Nesterov momentum, orthogonalised; the filters of a convolution count as the rows of one
    matrix, which torch.optim.Muon does not offer. The step is scaled by sqrt(max(1, rows /
    columns)), so that it changes outputs by about the learning rate whatever the shape. Matrices of
    one shape are updated together: one by one, a GPU spends most of a step on launching kernels.
    Their gradients are None after a step.

    Args:
        dtype: of Muon's matrix products; the weights and averages stay as they are.

    Source: Jordan et al. 2024 (Muon); Loshchilov & Hutter 2019, arXiv 1711.05101 (AdamW).
    """

    def __init__(self, groups: list[dict[str, Any]], *, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(groups, betas=(0.9, 0.99), eps=1e-8, foreach=True)
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update from the gradients; Lightning passes the closure that makes them."""
        with torch.enable_grad():
            loss = closure() if closure is not None else None
        for group in self.param_groups:
            if group["muon"]:
                self._muon([p for p in group["params"] if p.grad is not None], group)
        super().step()
        return loss

    def _muon(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        if not parameters:
            return
        gradients = [cast(Tensor, parameter.grad) for parameter in parameters]
        for parameter in parameters:
            parameter.grad = None  # AdamW leaves such parameters alone
            if not self.state[parameter]:
                self.state[parameter]["average"] = torch.zeros_like(parameter)
                self.state[parameter]["step"] = torch.tensor(0.0)  # AdamW's loading asks for it
        averages = [self.state[parameter]["average"] for parameter in parameters]
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_lerp_(averages, gradients, 1 - group["momentum"])
        directions = torch._foreach_lerp(gradients, averages, group["momentum"])
        by_shape: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
        for parameter, direction in zip(parameters, directions, strict=True):
            matrix = direction.flatten(1)
            by_shape.setdefault(matrix.shape, []).append((parameter, matrix))
        for (rows, columns), members in by_shape.items():
            matrices = torch.stack([matrix for _, matrix in members])
            updates = orthogonalize(matrices, dtype=self.dtype)
            rate = group["lr"] * max(1.0, rows / columns) ** 0.5
            for (parameter, _), update in zip(members, updates, strict=True):
                parameter.sub_(update.view_as(parameter), alpha=rate)


def optimizer(
    model: nn.Module, config: OptimConfig, *, dtype: torch.dtype = torch.float32
) -> MuonAdamW:
    """Muon for the weights inside `stages` (CNN) or `blocks` (ViT), AdamW for everything else."""
    matrices, decayed, plain = [], [], []
    for name, parameter in model.named_parameters():
        weight = parameter.ndim >= 2 and name.endswith("weight")
        if weight and config.muon_learning_rate and name.startswith(("stages.", "blocks.")):
            matrices.append(parameter)
        elif weight:
            decayed.append(parameter)
        else:  # biases, norms, class token, positions
            plain.append(parameter)
    adam = {"muon": False, "lr": config.learning_rate}
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
