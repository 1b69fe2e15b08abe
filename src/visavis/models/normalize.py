"""The first layer of both models, so that every caller passes images in [0, 1]."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Normalize(nn.Module):
    """Subtract the training images' mean colour and divide by their standard deviation.

    Both are buffers, kept with the weights; `models.fit_input` sets them.
    """

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((1, 3, 1, 1), 0.5))
        self.register_buffer("std", torch.full((1, 3, 1, 1), 0.25))

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
        return (images - self.mean) / self.std
