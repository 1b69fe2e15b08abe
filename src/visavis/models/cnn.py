"""The CNN: a stem and three residual stages of 3 x 3 convolutions, on 32 > 16 > 8 > 8 pixels.

The last stage keeps its 8 x 8 grid, so that Grad-CAM sees cells as fine as the ViT's patches. With
larger images the stem's filters and their stride grow: from 64 pixels on by side // 32, after which
the grids are those of 32 pixels (up to 14 x 14 at the end where 32 does not divide the side). The
shape follows the line of fast CIFAR-10 networks by Page (2018) and Jordan (2024, arXiv 2404.00498).
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from visavis.config import IMAGE_SIDE, CNNConfig
from visavis.models.normalize import Normalize

STEM_CHANNELS = 24
"""A 2 x 2 RGB patch has 12 principal directions; the stem starts with each and its negative, or
with the 12 strongest of a larger patch."""


class Stage(nn.Module):
    """Three 3 x 3 convolutions with batch norm and GELU, and a shortcut past the last two.

    Args:
        pool: halve the grid after the first convolution.
    """

    def __init__(self, channels_in: int, channels: int, *, pool: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.conv3 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        # ceil_mode: the 31 pixels that the stem leaves become 16, and none are cut off.
        self.pool = nn.MaxPool2d(2, ceil_mode=True) if pool else nn.Identity()
        self.norm1, self.norm2, self.norm3 = (nn.BatchNorm2d(channels) for _ in range(3))
        # Modules of their own, so that Grad-CAM can look at each.
        self.activation1, self.activation2, self.activation3 = (nn.GELU() for _ in range(3))
        for conv in (self.conv1, self.conv2, self.conv3):
            nn.init.dirac_(conv.weight[: conv.in_channels])  # pass the input on, as far as it goes

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h2 w2"]:
        x = self.activation1(self.norm1(self.pool(self.conv1(x))))
        residual = self.norm3(self.conv3(self.activation2(self.norm2(self.conv2(x)))))
        return self.activation3(x + residual)


class CNN(nn.Module):
    """Images in [0, 1] to class logits."""

    def __init__(self, config: CNNConfig, classes: int, side: int = IMAGE_SIDE) -> None:
        super().__init__()
        first, second, third = config.widths
        stride = side // IMAGE_SIDE
        self.normalize = Normalize()
        self.stem = nn.Conv2d(3, STEM_CHANNELS, kernel_size=2 * stride, stride=stride)
        self.stages = nn.Sequential(
            Stage(STEM_CHANNELS, first, pool=True),  # 31 x 31 > 16 x 16
            Stage(first, second, pool=True),  # > 8 x 8
            Stage(second, third, pool=False),
        )
        self.head = nn.Linear(third, classes)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n classes"]:
        features = self.stages(F.gelu(self.stem(self.normalize(images))))
        return self.head(features.mean(dim=(2, 3)))
