"""Grad-CAM with the pytorch-grad-cam library; nothing else imports it.

Its defects are kept out: maps are taken before it scales each one to [0, 1] (which would lose the
magnitude and hide a map of zeros), the model is left as it was found, and its context manager,
which swallows IndexError, is not used.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from visavis.attribution.frozen import check_classes, frozen, gradients_of
from visavis.models.cnn import CNN
from visavis.models.vit import ViT


def default_layer(model: CNN | ViT) -> str:
    """The last layer that has 8 x 8 cells and that the prediction depends on.

    For the CNN that is the output of the last stage. For the ViT, with patches of 4 pixels, it is
    the first norm of the last block: after that block only the class token is read, so the patches'
    gradient is zero.
    """
    if isinstance(model, CNN):
        return f"stages.{len(model.stages) - 1}"
    return f"blocks.{len(model.blocks) - 1}.norm1"


def grad_cam(
    model: CNN | ViT,
    images: Float[Tensor, "n 3 32 32"],
    classes: Int[Tensor, " n"],
    *,
    layer: str | None = None,
) -> Float[Tensor, "n g g"]:
    """Raw Grad-CAM maps: ReLU of the channels' sum, weighted by each channel's mean gradient.

    Args:
        classes: the class whose logit is explained, one for each image.
        layer: name of a sub-module whose output has a grid (CNN) or tokens (ViT);
            `default_layer` if None.

    Returns:
        0 or more, in units of the logit times the grid's cells, on the layer's own grid.

    Raises:
        ValueError: a class out of range, or a layer that the model lacks or that has no grid.

    Source: Selvaraju et al. 2017, equations 1 and 2.
    """
    from pytorch_grad_cam import GradCAM

    check_classes(model, images, classes)
    name = default_layer(model) if layer is None else layer
    target = _submodule(model, name)

    def to_grid(tokens: Float[Tensor, "n t width"]) -> Float[Tensor, "n width g g"]:
        return tokens[:, 1:].transpose(1, 2).unflatten(2, (model.grid, model.grid))

    reshape = to_grid if isinstance(model, ViT) else None
    if isinstance(model, CNN):  # the CPU's convolutions are twice as fast that way
        images = images.contiguous(memory_format=torch.channels_last)
    with frozen(model), gradients_of(images) as inputs:
        cam = GradCAM(model, [target], reshape_transform=reshape)
        try:
            logits = cam.activations_and_grads(inputs)
            logits.gather(1, classes.clone()[:, None]).sum().backward()
            activations = cam.activations_and_grads.activations
            gradients = cam.activations_and_grads.gradients
            if len(activations) != 1 or len(gradients) != 1 or activations[0].ndim != 4:
                raise ValueError(f"layer {name}: its output has no grid that Grad-CAM could weigh")
            maps = cam.get_cam_image(
                inputs, target, [], activations[0].numpy(), gradients[0].numpy()
            )
        finally:
            cam.activations_and_grads.release()
    return torch.from_numpy(maps).float().clamp(min=0).to(images.device)


def _submodule(model: CNN | ViT, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError:
        raise ValueError(
            f"layer {name}: this model has no such layer; its default is {default_layer(model)}"
        ) from None
