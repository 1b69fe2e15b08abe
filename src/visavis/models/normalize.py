"""The first layer of every model, so that every caller passes images in [0, 1]."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Normalize(nn.Module):
    """Subtract the training images' mean colour and divide by their standard deviation.

    Both are buffers, kept with the weights; `fit` sets them, or they are given with weights that
    were trained with them.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        self.fits_weights = mean is not None
        for name, values in (("mean", mean or (0.5,) * 3), ("std", std or (0.25,) * 3)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1))

    def fit(self, images: Float[Tensor, "n 3 h w"]) -> None:
        """Take the statistics of `images`; a channel that never changes becomes 0."""
        self.mean.copy_(images.mean(dim=(0, 2, 3), keepdim=True))
        self.std.copy_(images.std(dim=(0, 2, 3), keepdim=True).clamp(min=1 / 255))

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
        return (images - self.mean) / self.std


class Normalized(nn.Module):
    """A model that expects normalised images, with `Normalize` before it.

    Args:
        layers: where Grad-CAM may look; found by observation if None.
        tokens_to_grid: how its tokens lie in the image, where that cannot be observed.
    """

    def __init__(
        self,
        model: nn.Module,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        layers: Sequence[str] | None = None,
        tokens_to_grid: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.normalize = Normalize(mean, std)
        self.model = model
        self.layers, self.tokens_to_grid = layers, tokens_to_grid

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n classes"]:
        output = self.model(self.normalize(images))
        return getattr(output, "logits", output)
