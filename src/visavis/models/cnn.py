"""The CNN, from scratch: whitening, then three stages of three 3x3 convolutions, 31 > 16 > 8 > 4.

The last stage halves the grid only after its second activation, which is what Grad-CAM looks at:
its 8 x 8 cells are as fine as the ViT's patches. Its third convolution does that with a stride; a
max-pooling would hand the gradient to one cell in four. The head reads the mean over the 4 x 4 that
are left. The shape and the whitening first layer follow the line of fast CIFAR-10 networks by Page
(2018) and Jordan (2024, arXiv 2404.00498), whose airbench96 has the third convolution and the sum.

Channels come in pairs that change places where the picture is mirrored (`Convolution`): what faces
left need not be learned again facing right. The head weighs the two of a pair apart: where it read
their mean, Grad-CAM found its pixels less well (docs/benchmarks.md).
"""

from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from visavis.config import NUM_CLASSES, CNNConfig
from visavis.errors import EnvironmentFault
from visavis.models.activation import normed_gelu, pooled
from visavis.models.compiled import VECTOR, library, type_of
from visavis.models.convolution import Convolution
from visavis.models.normalize import Normalize
from visavis.models.whitening import mirrored_whitening_filters

WHITENING_CHANNELS = 24
"""12 directions of a 2x2 RGB patch and their negatives, in mirrored pairs."""


class Pooling(nn.Module):
    """Halves the grid of square pictures by the largest of 2 x 2 pixels.

    Of an odd grid it takes that of 3 x 3 around each second pixel, from the first to the last, so
    that left and right are alike: 31 pixels become 16.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fused = False

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h2 w2"]:
        alike = x.shape[2] % 2 == x.shape[3] % 2
        if self.fused and self.training and alike and type_of(x):
            return pooled(x)
        size, padding = (3, 1) if x.shape[3] % 2 else (2, 0)
        return F.max_pool2d(x, size, stride=2, padding=padding)


class Stage(nn.Module):
    """Three 3x3 convolutions with batch norm and GELU; the grid is halved once.

    What the first one leaves is added to what the third one makes of it.

    Args:
        strided: the third convolution halves the grid, not a max-pooling after the first.
    """

    def __init__(self, channels_in: int, channels: int, *, strided: bool) -> None:
        super().__init__()
        self.fused = False
        self.conv1 = Convolution(channels_in, channels)
        self.pool = nn.Identity() if strided else Pooling()
        self.norm1 = nn.BatchNorm2d(channels)
        self.activation1 = nn.GELU()
        self.conv2 = Convolution(channels, channels)
        self.norm2 = nn.BatchNorm2d(channels)
        self.activation2 = nn.GELU()
        self.conv3 = Convolution(channels, channels, stride=2 if strided else 1)
        self.norm3 = nn.BatchNorm2d(channels)
        self.shortcut = nn.AvgPool2d(2, ceil_mode=True) if strided else nn.Identity()
        self.activation3 = nn.GELU()

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h2 w2"]:
        x = self._activated(self.pool(self.conv1(x)), self.norm1, self.activation1)
        y = self._activated(self.conv2(x), self.norm2, self.activation2)
        return self._activated(self.conv3(y), self.norm3, self.activation3, self.shortcut(x))

    def _activated(
        self,
        x: Float[Tensor, "n d h w"],
        norm: nn.BatchNorm2d,
        activation: nn.GELU,
        shortcut: Float[Tensor, "n d h w"] | None = None,
    ) -> Float[Tensor, "n d h w"]:
        if self.fused and self.training and type_of(x):
            return normed_gelu(x, norm, shortcut)
        x = norm(x)
        return activation(x if shortcut is None else x + shortcut)


class CNN(nn.Module):
    """Images in [0, 1] to class logits."""

    def __init__(self, config: CNNConfig, classes: int = NUM_CLASSES) -> None:
        super().__init__()
        first, second, third = config.widths
        self.normalize = Normalize()
        self.whitening = nn.Conv2d(3, WHITENING_CHANNELS, kernel_size=2)
        self.activation = nn.GELU()
        self.stages = nn.Sequential(
            Stage(WHITENING_CHANNELS, first, strided=False),
            Stage(first, second, strided=False),
            Stage(second, third, strided=True),
        )
        self.head = nn.Linear(third, classes)

    def fuse(self, *, products_only: bool = False) -> None:
        """From now on, let training steps call what is compiled for them.

        Convolutions take half of the products then; pooling, and norm with GELU, are one call each.

        For a model in training mode on a CPU.

        Args:
            products_only: leave pooling, norm and GELU to PyTorch, which is faster at them on
                processors without AVX-512.

        Raises:
            EnvironmentFault: no C++ compiler, or one that fails; no stage of 32 channels or a
                multiple of that.
        """
        convolutions = [module for module in self.modules() if isinstance(module, Convolution)]
        worth_it = [convolution for convolution in convolutions if convolution.fits]
        if not worth_it:
            raise EnvironmentFault("no stage has a multiple of 32 channels")
        library("mirror.cpp")
        library("winograd.cpp")
        if not products_only:
            library("activation.cpp")
        for convolution in worth_it:
            convolution.fused = True
        for stage in cast(list[Stage], self.stages):
            stage.fused = not products_only and stage.norm1.num_features % VECTOR == 0
            if isinstance(stage.pool, Pooling):
                stage.pool.fused = stage.fused

    @torch.no_grad()
    def whiten(self, images: Float[Tensor, "n 3 32 32"]) -> None:
        """Start the first layer from the whitening of `images`: each direction and its negative."""
        filters = mirrored_whitening_filters(self.normalize(images), 2, stride=1, epsilon=5e-4)
        first, mirrored = filters.chunk(2)
        self.whitening.weight.copy_(torch.cat([first, -first, mirrored, -mirrored]))
        nn.init.zeros_(cast(Tensor, self.whitening.bias))

    def features(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c h8 w8"]:
        """The last stage's output, about an eighth of the pictures' height and width."""
        return self.stages(self.activation(self.whitening(self.normalize(images))))

    def pool(self, features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c"]:
        """The mean over the grid, which the head reads."""
        return features.mean(dim=(2, 3))

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n classes"]:
        return self.head(self.pool(self.features(images)))


def parameter_count(config: CNNConfig, classes: int = NUM_CLASSES) -> int:
    """Learnable parameters in closed form, for stages of a, b, c channels.

    13 x 24 + 9 / 2 (24 a + 2 a^2 + a b + 2 b^2 + b c + 2 c^2) + 6 (a + b + c)
    + (c + 1) classes.
    """
    a, b, c = config.widths
    whitening = 13 * WHITENING_CHANNELS
    pairs = WHITENING_CHANNELS * a + a * b + b * c + 2 * (a * a + b * b + c * c)
    return whitening + 9 * pairs // 2 + 6 * (a + b + c) + (c + 1) * classes
