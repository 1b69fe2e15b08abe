"""Grad-CAM with the pytorch-grad-cam library; nothing else imports it.

Three of its habits are avoided: it scales each map to [0, 1] (which would lose the magnitude and
hide a map of zeros), it changes the model, and its context manager swallows IndexError.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from visavis.attribution.frozen import check_targets, frozen, with_gradient
from visavis.data.batches import Images, Targets
from visavis.models import Model
from visavis.models.cnn import CNN
from visavis.models.vit import ViT


def default_layer(model: Model) -> str:
    """The last layer that has 8 x 8 cells and that the prediction depends on.

    For the CNN that is the output of the last stage. For the ViT, with patches of 4 pixels, it is
    the first norm of the last block: after that block only the class token is read, so the patches'
    gradient is zero.
    """
    if isinstance(model, CNN):
        return f"stages.{len(model.stages) - 1}"
    return f"blocks.{len(model.blocks) - 1}.norm1"


def grad_cam(
    model: Model, images: Images, targets: Targets, *, layer: str | None = None
) -> Float[Tensor, "n g g"]:
    """Raw Grad-CAM maps: ReLU of the channels' sum, weighted by each channel's mean gradient.

    Args:
        layer: name of a sub-module whose output has a grid (CNN) or tokens (ViT);
            `default_layer` if None.

    Returns:
        0 or more, in units of the logit times the grid's cells, on the layer's own grid.

    Raises:
        ValueError: a target out of range, or a layer that the model lacks or that has no grid.

    Source: Selvaraju et al. 2017, equations 1 and 2.
    """
    from pytorch_grad_cam import GradCAM

    check_targets(model, images, targets)
    name = default_layer(model) if layer is None else layer
    try:
        module = model.get_submodule(name)
    except AttributeError:
        raise ValueError(
            f"layer {name}: this model has no such layer; its default is {default_layer(model)}"
        ) from None

    def to_grid(tokens: Float[Tensor, "n t width"]) -> Float[Tensor, "n width g g"]:
        return tokens[:, 1:].transpose(1, 2).unflatten(2, (model.grid, model.grid))

    reshape = to_grid if isinstance(model, ViT) else None
    with frozen(model), with_gradient(images) as inputs:
        cam = GradCAM(model, [module], reshape_transform=reshape)
        recorded = cam.activations_and_grads
        try:
            recorded(inputs).gather(1, targets.clone()[:, None]).sum().backward()
            activations, gradients = recorded.activations, recorded.gradients
            if len(activations) != 1 or len(gradients) != 1 or activations[0].ndim != 4:
                raise ValueError(f"layer {name}: its output has no grid that Grad-CAM could weigh")
            maps = cam.get_cam_image(
                inputs, module, [], activations[0].numpy(), gradients[0].numpy()
            )
        finally:
            recorded.release()
    return torch.from_numpy(maps).float().clamp(min=0).to(images.device)
