"""Model parameter randomisation (MPRT): does a map depend on what the model has learnt?

Source: Adebayo et al. 2018 (arXiv 1810.03292), cascading from the head down. Each tensor's values
are permuted instead of drawn again: a newly drawn ViT head is zero, which would give no map.
"""

import copy

import numpy as np
import torch
from jaxtyping import Int
from torch import nn

from visavis.attribution.batched import grid_maps
from visavis.attribution.degenerate import Maps, without_degenerate
from visavis.attribution.subject import Subject
from visavis.data.batches import Images

FEWEST_PARTS = 5


def parts(model: nn.Module) -> list[str]:
    """The model's parts with parameters, from the head down to the image.

    In the order in which the model declares them, reversed; sequences are divided into their
    modules, and a model of very few parts further. Tensors that are in no module, such as a class
    token, come right before the first part.
    """
    found = _divided(model, "")
    while len(found) < FEWEST_PARTS:
        modules = {name: of for name, of in model.named_modules() if name in found}
        divided = {name: _divided(of, f"{name}.") for name, of in modules.items()}
        largest = max(
            (name for name, of in modules.items() if list(of.children())),
            key=lambda name: _parameters(modules[name]),
            default=None,
        )
        if largest is None:
            break
        at = found.index(largest)
        found[at : at + 1] = divided[largest]
    return found


def _divided(module: nn.Module, prefix: str) -> list[str]:
    """The parts of one module, as `parts` orders them."""
    names: list[str] = []
    for name, child in module.named_children():
        within = [n for n, of in child.named_children() if _parameters(of)]
        if isinstance(child, (nn.Sequential, nn.ModuleList)) and len(within) > 1:
            names += [f"{prefix}{name}.{part}" for part in within]
        elif _parameters(child):
            names.append(f"{prefix}{name}")
    own = [f"{prefix}{name}" for name, _ in module.named_parameters(recurse=False)]
    return [*reversed(names[1:]), *own, *names[:1]]


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@torch.no_grad()
def randomised(model: nn.Module, names: list[str], *, seed: int) -> nn.Module:
    """A copy of the model with the values of each tensor in the named parts permuted.

    A tensor is permuted alike whatever else is: in a cascade, what was randomised stays as it is.
    """
    other = copy.deepcopy(model)
    for place, (name, parameter) in enumerate(other.named_parameters()):
        generator = torch.Generator().manual_seed(seed + place)
        if any(name == part or name.startswith(f"{part}.") for part in names):
            order = torch.randperm(parameter.numel(), generator=generator)
            values = parameter.flatten()[order.to(parameter.device)]
            parameter.copy_(values.view(parameter.shape))
    return other


def maps_of_randomised(
    subject: Subject,
    images: Images,
    targets: Int[np.ndarray, " n"],
    method: str,
    names: list[str],
    *,
    layer: str | None = None,
) -> Maps:
    """The maps of the model with its named parts randomised; NaN throughout a degenerate map.

    A map that still ranks the cells as the original one does depends on nothing that these
    parameters have learnt.
    """
    other = subject.with_model(randomised(subject.model, names, seed=0))
    (found,) = grid_maps(other, images, [targets], method, layer=layer)
    return without_degenerate(found)
