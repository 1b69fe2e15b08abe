"""Grad-CAM and LayerCAM with the pytorch-grad-cam library; nothing else imports it.

Three of its habits are avoided: it scales each map to [0, 1] (which would lose the magnitude and
hide a map of zeros), it changes the model, and its context manager swallows IndexError.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from visavis.attribution.frozen import frozen, with_gradient
from visavis.attribution.observation import batch_first, logits_of
from visavis.attribution.subject import Subject
from visavis.data.batches import Images, Targets


def grad_cam(
    subject: Subject, images: Images, targets: Targets, layer: str | None = None
) -> Float[Tensor, "n g g"]:
    """Raw Grad-CAM maps: ReLU of the channels' sum, weighted by each channel's mean gradient.

    Args:
        layer: name of a module whose output has a grid or tokens; the subject's `default_layer` if
            None.

    Returns:
        0 or more, in units of the logit, on the layer's own grid.

    Raises:
        ValueError: a layer that the model lacks or that has no grid.

    Source: Selvaraju et al. 2017, equations 1 and 2.
    """
    return signed_grad_cam(subject, images, targets, layer).clamp(min=0)


def signed_grad_cam(
    subject: Subject, images: Images, targets: Targets, layer: str | None = None
) -> Float[Tensor, "n g g"]:
    """`grad_cam` before its ReLU, which makes about half of the cells equal: what orders those."""
    from pytorch_grad_cam import GradCAM

    return _cam(GradCAM, subject, images, targets, layer)


def layer_cam(
    subject: Subject, images: Images, targets: Targets, layer: str | None = None
) -> Float[Tensor, "n g g"]:
    """Raw LayerCAM maps: as Grad-CAM, but each cell has its own positive gradient as weight.

    Source: Jiang et al. 2021 (IEEE TIP 30), equations 5 and 6.
    """
    from pytorch_grad_cam import LayerCAM

    return _cam(LayerCAM, subject, images, targets, layer).clamp(min=0)


def _cam(
    method: Any, subject: Subject, images: Images, targets: Targets, layer: str | None
) -> Float[Tensor, "n g g"]:
    name = subject.default_layer if layer is None else layer
    try:
        module = subject.model.get_submodule(name or "no layer")
    except AttributeError:
        raise ValueError(
            f"layer {name}: this model has no such layer; its default is {subject.default_layer}"
        ) from None

    def to_grid(output: Tensor) -> Tensor:
        on_grid = subject.on_grid(batch_first(output, len(images)))
        if on_grid is None:
            raise ValueError(f"layer {name}: its output has no grid that Grad-CAM could weigh")
        return on_grid

    with frozen(subject.model), with_gradient(images) as inputs:
        cam = method(subject.model, [module], reshape_transform=to_grid)
        recorded = cam.activations_and_grads
        try:
            logits = logits_of(recorded(subject.normalised(inputs)))
            logits.gather(1, targets.clone()[:, None]).sum().backward()
            activations, gradients = recorded.activations, recorded.gradients
            if len(activations) != 1 or len(gradients) != 1:
                raise ValueError(f"layer {name}: it is called more than once, or not at all")
            maps = cam.get_cam_image(
                inputs, module, [], activations[0].numpy(), gradients[0].numpy(), False
            )
        finally:
            recorded.release()
    return torch.from_numpy(maps).float().to(images.device)
