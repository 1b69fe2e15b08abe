"""What every explanation shares: the model is left as it was found, and the question is checked."""

import contextlib
from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from visavis.models.cnn import CNN
from visavis.models.vit import ViT


@contextlib.contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without parameter gradients; afterwards, also after an error, as before.

    Parameters that ask for no gradient get none written to `.grad`, and the backward pass costs
    half: an explanation needs the gradient of activations only.
    """
    modes = [(module, module.training) for module in model.modules()]
    asked = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        model.eval()
        for parameter, _ in asked:
            parameter.requires_grad_(False)
        yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, requires_grad in asked:
            parameter.requires_grad_(requires_grad)


@contextlib.contextmanager
def gradients_of(images: Float[Tensor, "n 3 h w"]) -> Iterator[Float[Tensor, "n 3 h w"]]:
    """Give a copy of `images` that asks for gradients, in float32, wherever the caller stands.

    Inside `no_grad`, `inference_mode` (Lightning's test loop) or autocast, an explanation would
    otherwise fail late or lose digits.
    """
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(images.device.type, enabled=False),
    ):
        yield images.clone().detach().requires_grad_()


def check_classes(model: CNN | ViT, images: Tensor, classes: Int[Tensor, " k"]) -> None:
    """One class in range for each image.

    Raises:
        ValueError: another number of classes, another type, or a class that the model lacks.
    """
    count = model.head.out_features
    if classes.shape != (len(images),) or classes.is_floating_point():
        raise ValueError(
            f"classes must be {len(images)} whole numbers, one for each image; "
            f"found {classes.dtype} of shape {tuple(classes.shape)}"
        )
    if len(classes) and not 0 <= int(classes.min()) <= int(classes.max()) < count:
        raise ValueError(
            f"classes must be from 0 to {count - 1}; found "
            f"{int(classes.min())} to {int(classes.max())}"
        )
