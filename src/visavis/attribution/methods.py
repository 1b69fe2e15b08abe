"""The methods of explanation, and the one call that all of them stand behind."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from visavis.attribution.attention import (
    attention_weights,
    class_attention,
    gradient_attention,
    rollout,
)
from visavis.attribution.frozen import check_classes
from visavis.attribution.grad_cam import grad_cam
from visavis.attribution.perturbation import integrated_gradients, occlusion
from visavis.models.cnn import CNN
from visavis.models.vit import ViT

Heatmaps = Float[Tensor, "n g g"]
"""Raw maps on the model's own grid: higher means more evidence; scales differ between methods."""


@dataclass(frozen=True)
class Method:
    """One way to explain."""

    label: str
    models: tuple[str, ...]
    class_specific: bool
    """Whether the map depends on the class asked about. If not, it only says where the model
    looks, not what speaks for its answer."""
    signed: bool
    """Whether negative values occur, as evidence against the class."""


METHODS = {
    "grad_cam": Method("Grad-CAM", ("cnn", "vit"), class_specific=True, signed=False),
    "gradient_attention": Method(
        "Gradient-weighted attention", ("vit",), class_specific=True, signed=False
    ),
    "attention": Method(
        "Class-token attention, last block", ("vit",), class_specific=False, signed=False
    ),
    "rollout": Method("Attention rollout", ("vit",), class_specific=False, signed=False),
    "integrated_gradients": Method(
        "Integrated gradients", ("cnn", "vit"), class_specific=True, signed=True
    ),
    "occlusion": Method("Occlusion", ("cnn", "vit"), class_specific=True, signed=True),
}

DEFAULT_METHOD = {"cnn": "grad_cam", "vit": "gradient_attention"}
"""The method shown where there is room for one: class-specific for both, so that they compare."""


def kind_of(model: CNN | ViT) -> str:
    """The architecture's name, "cnn" or "vit"."""
    return "cnn" if isinstance(model, CNN) else "vit"


def methods_for(model: CNN | ViT) -> list[str]:
    """The methods that can explain `model`, its default first."""
    names = [name for name, method in METHODS.items() if kind_of(model) in method.models]
    return sorted(names, key=lambda name: name != DEFAULT_METHOD[kind_of(model)])


def explain(
    model: CNN | ViT,
    images: Float[Tensor, "n 3 32 32"],
    classes: Int[Tensor, " n"],
    method: str,
    *,
    layer: str | None = None,
) -> Heatmaps:
    """Raw heatmaps of `images`, each for its class. The model is left as it was found.

    Args:
        classes: the class asked about; a class-agnostic method gives the same map for all.
        method: a key of METHODS.
        layer: where Grad-CAM looks; `default_layer(model)` if None.

    Raises:
        ValueError: an unknown method, one that does not fit the model, a layer that the model
            lacks, or a class out of range.
    """
    if method not in methods_for(model):
        raise ValueError(
            f"method {method!r} cannot explain a {kind_of(model)}; "
            f"use {' or '.join(methods_for(model))}"
        )
    if layer is not None and method != "grad_cam":
        raise ValueError(f"method {method!r} reads no single layer; only grad_cam takes a layer")
    check_classes(model, images, classes)
    if method == "grad_cam":
        return grad_cam(model, images, classes, layer=layer)
    if method == "integrated_gradients":
        return integrated_gradients(model, images, classes)
    if method == "occlusion":
        return occlusion(model, images)[torch.arange(len(images)), classes]
    assert isinstance(model, ViT)  # what is left is for it alone
    if method == "gradient_attention":
        return gradient_attention(model, images, classes)
    weights = attention_weights(model, images)
    return rollout(weights) if method == "rollout" else class_attention(weights)[-1].mean(dim=1)
