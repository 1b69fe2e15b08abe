"""The registry of methods, and the one call that runs any of them."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from visavis.attribution import attention
from visavis.attribution.frozen import check_targets
from visavis.attribution.grad_cam import grad_cam
from visavis.attribution.gradients import integrated_gradients
from visavis.attribution.perturbation import occlusion
from visavis.data.batches import Images, Targets
from visavis.models import Model
from visavis.models.cnn import CNN
from visavis.models.vit import ViT

Heatmaps = Float[Tensor, "n g g"]
"""Raw maps on the model's own grid: higher means more evidence; scales differ between methods."""


@dataclass(frozen=True)
class Method:
    """An attribution method."""

    label: str
    models: tuple[str, ...] = ("cnn", "vit")
    class_specific: bool = True
    """Whether the map depends on the target class. If not, it only shows where the model looks, not
    what the evidence for its prediction is."""
    signed: bool = False
    """Whether negative values occur, as evidence against the class."""


METHODS = {
    "grad_cam": Method("Grad-CAM"),
    "gradient_attention": Method("Gradient-weighted attention", ("vit",)),
    "attention": Method("Class-token attention, last block", ("vit",), class_specific=False),
    "rollout": Method("Attention rollout", ("vit",), class_specific=False),
    "integrated_gradients": Method("Integrated gradients", signed=True),
    "occlusion": Method("Occlusion", signed=True),
}

DEFAULT_METHOD = {"cnn": "grad_cam", "vit": "gradient_attention"}
"""Class-specific for both models, so that their maps compare."""


def kind_of(model: Model) -> str:
    """The architecture's name, "cnn" or "vit"."""
    return "cnn" if isinstance(model, CNN) else "vit"


def methods_for(model: Model) -> list[str]:
    """The methods that can explain `model`, its default first."""
    names = [name for name, method in METHODS.items() if kind_of(model) in method.models]
    return sorted(names, key=lambda name: name != DEFAULT_METHOD[kind_of(model)])


def explain(
    model: Model, images: Images, targets: Targets, method: str, *, layer: str | None = None
) -> Heatmaps:
    """Raw heatmaps of `images`, each for its target class. The model is left as it was found.

    Args:
        targets: one class for each image; a class-agnostic method gives the same map for all.
        method: a key of METHODS.
        layer: where Grad-CAM looks; `default_layer(model)` if None.

    Raises:
        ValueError: an unknown method, one that does not fit the model, a layer that the model
            lacks, or a target out of range.
    """
    if method not in methods_for(model):
        raise ValueError(
            f"method {method!r} cannot explain a {kind_of(model)}; "
            f"use {' or '.join(methods_for(model))}"
        )
    if layer is not None and method != "grad_cam":
        raise ValueError(f"method {method!r} reads no single layer; only grad_cam takes a layer")
    check_targets(model, images, targets)
    if method == "grad_cam":
        return grad_cam(model, images, targets, layer=layer)
    if method == "integrated_gradients":
        return integrated_gradients(model, images, targets)
    if method == "occlusion":
        return occlusion(model, images)[torch.arange(len(images)), targets]
    assert isinstance(model, ViT)  # the remaining methods are for the ViT alone
    if method == "gradient_attention":
        return attention.gradient_attention(model, images, targets)
    weights = attention.attention_weights(model, images)
    if method == "rollout":
        return attention.rollout(weights)
    return attention.class_attention(weights)[-1].mean(dim=1)
