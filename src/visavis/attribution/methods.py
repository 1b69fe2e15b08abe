"""The registry of methods, and the one call that runs any of them."""

from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from visavis.attribution.attention import gradient_attention, last_attention, rollout
from visavis.attribution.frozen import check_targets
from visavis.attribution.grad_cam import grad_cam, layer_cam, signed_grad_cam
from visavis.attribution.gradients import gradient_shap, integrated_gradients, smooth_grad
from visavis.attribution.perturbation import occlusion
from visavis.attribution.subject import Subject, device_of
from visavis.data.batches import Images, Targets
from visavis.errors import ModelError

Heatmaps = Float[Tensor, "n g g"]
"""Raw maps on the method's own grid: higher means more evidence; scales differ between methods."""


@dataclass(frozen=True)
class Method:
    """An attribution method."""

    label: str
    compute: Callable[..., Heatmaps]
    """Called with a subject, images and targets, and the layer if it needs layers."""
    needs: Literal["layers", "attention", "gradients", None]
    """What of a model: see `Subject.lacks`."""
    class_specific: bool = True
    """Whether the map depends on the target class. If not, it only shows where the model looks, not
    what the evidence for its prediction is."""
    signed: bool = False
    """Whether negative values occur, as evidence against the class."""
    before_relu: Callable[..., Heatmaps] | None = None
    """Called as `compute`, for a method whose map is the ReLU of a signed one: the latter orders
    the cells that the ReLU makes equal."""
    on_request: bool = False
    """Whether it is measured only if --explain.methods asks for it."""
    baseline: bool = False
    """Whether it compares the image with a baseline: the training images' mean colour."""


METHODS = {
    "grad_cam": Method("Grad-CAM", grad_cam, "layers", before_relu=signed_grad_cam),
    "gradient_attention": Method("Gradient-weighted attention", gradient_attention, "attention"),
    "attention": Method(
        "Attention, last block",
        lambda subject, images, targets: last_attention(subject, images),
        "attention",
        class_specific=False,
    ),
    "rollout": Method(
        "Attention rollout",
        lambda subject, images, targets: rollout(subject, images),
        "attention",
        class_specific=False,
    ),
    "integrated_gradients": Method(
        "Integrated gradients", integrated_gradients, "gradients", signed=True, baseline=True
    ),
    "occlusion": Method(
        "Occlusion",
        lambda subject, images, targets: occlusion(subject, images)[
            torch.arange(len(images)), targets
        ],
        None,
        signed=True,
        baseline=True,
    ),
    "layer_cam": Method("LayerCAM", layer_cam, "layers", on_request=True),
    "smooth_grad": Method("SmoothGrad", smooth_grad, "gradients", on_request=True),
    "gradient_shap": Method(
        "Gradient SHAP", gradient_shap, "gradients", signed=True, on_request=True, baseline=True
    ),
}
"""A new method is one function and one entry."""


def default_method(subject: Subject, *, without: Container[str] = ()) -> str:
    """The class-specific method that represents a model.

    The one with the highest SRG and contrast on the built-in shapes: Grad-CAM, but integrated
    gradients for models with attention. Maps made of attention are hardly about a class.

    Args:
        without: methods that are not valid on this model (`gates`).

    Raises:
        ModelError: no class-specific method is left.
    """
    first = "grad_cam" if "attention" in subject.lacks else "integrated_gradients"
    for name in (first, "integrated_gradients", "occlusion"):
        if METHODS[name].needs not in subject.lacks and name not in without:
            return name
    raise ModelError(
        "no method explains this model: the maps of one image are not the same twice, or depend on "
        "the other images of the batch; make its predictions repeatable in evaluation mode"
    )


def not_offered(subject: Subject) -> dict[str, str]:
    """The usual methods that cannot explain `subject`, with the reason."""
    return {
        name: subject.lacks[method.needs]
        for name, method in METHODS.items()
        if method.needs in subject.lacks and not method.on_request
    }


def methods_for(subject: Subject) -> list[str]:
    """The methods that can explain `subject`, its default first."""
    names = [name for name, method in METHODS.items() if method.needs not in subject.lacks]
    return sorted(names, key=lambda name: name != default_method(subject))


def explain(
    subject: Subject,
    images: Images,
    targets: Targets,
    method: str,
    *,
    layer: str | None = None,
    before_relu: bool = False,
) -> Heatmaps:
    """Raw heatmaps of `images`, each for its target class. The model is left as it was found.

    Args:
        targets: one class for each image; a class-agnostic method gives the same map for all.
        method: a key of METHODS.
        layer: where Grad-CAM looks; the subject's `default_layer` if None.
        before_relu: the signed map of a method that has one, `Method.before_relu`.

    Raises:
        ValueError: an unknown method, one that does not fit the model, a layer that the model
            lacks, images on another device than the model, or a target out of range.
    """
    if method not in METHODS:
        raise ValueError(f"there is no method {method!r}; use {' or '.join(METHODS)}")
    facts = METHODS[method]
    if facts.needs in subject.lacks:
        raise ValueError(f"{facts.label} cannot explain this model: {subject.lacks[facts.needs]}")
    if layer is not None and facts.needs != "layers":
        looking = " and ".join(name for name, of in METHODS.items() if of.needs == "layers")
        raise ValueError(f"method {method!r} reads no single layer; only {looking} take one")
    if images.device != (device := device_of(subject.model)):
        raise ValueError(
            f"the images are on {images.device} and the model is on {device}; "
            f"use images.to({str(device)!r})"
        )
    check_targets(subject.classes, images, targets)
    compute = facts.compute
    if before_relu:
        if facts.before_relu is None:
            raise ValueError(f"{facts.label} has no signed map behind a ReLU")
        compute = facts.before_relu
    if facts.needs == "layers":
        return compute(subject, images, targets, layer)
    return compute(subject, images, targets)
