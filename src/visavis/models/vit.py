"""The Vision Transformer (Dosovitskiy et al. 2021, arXiv 2010.11929): a pre-norm encoder."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from visavis.config import IMAGE_SIDE, ViTConfig
from visavis.models.normalize import Normalize


class SelfAttention(nn.Module):
    """Multi-head scaled dot-product self-attention (Vaswani et al. 2017, section 3.2)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, tokens: Float[Tensor, "n t width"]) -> Float[Tensor, "n t width"]:
        qkv = self.query_key_value(tokens).unflatten(2, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each: n heads t width/heads
        read = F.scaled_dot_product_attention(q, k, v)
        return self.output(read.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """A pre-norm encoder block: attention, then feed-forward, each added to its input."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        last = nn.Linear(hidden, width)
        self.feed_forward = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), last)
        # Each block starts by adding no more than a bias, so that depth costs nothing at first.
        nn.init.zeros_(self.attention.output.weight)
        nn.init.zeros_(last.weight)

    def forward(self, tokens: Float[Tensor, "n t width"]) -> Float[Tensor, "n t width"]:
        tokens = tokens + self.attention(self.norm1(tokens))
        return tokens + self.feed_forward(self.norm2(tokens))


class ViT(nn.Module):
    """Images in [0, 1] to class logits, read from the class token."""

    def __init__(self, config: ViTConfig, classes: int, side: int = IMAGE_SIDE) -> None:
        super().__init__()
        width, patch = config.width, config.patch_size
        self.grid = side // patch
        self.normalize = Normalize()
        self.patch_embedding = nn.Conv2d(3, width, kernel_size=patch, stride=patch)
        self.class_token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        # Learned positions start from the fixed ones, so that neighbours start out alike.
        learned = config.positions == "learned"
        self.positions = nn.Parameter(sincos_positions(self.grid, width), requires_grad=learned)
        self.blocks = nn.Sequential(
            *(Block(width, config.heads, config.hidden) for _ in range(config.depth))
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n classes"]:
        patches = self.patch_embedding(self.normalize(images))
        grid = patches.shape[-1]
        class_token = self.class_token.expand(len(images), -1, -1)
        tokens = torch.cat([class_token, patches.flatten(2).transpose(1, 2)], dim=1)
        tokens = self.blocks(tokens + self.central_positions(grid))
        return self.head(self.norm(tokens[:, 0]))

    def central_positions(self, grid: int) -> Float[Tensor, "1 t width"]:
        """Positions of the class token and of the central `grid` x `grid` patches.

        Training on random crops, which have fewer patches than the full image, needs these.
        """
        first = (self.grid - grid) // 2
        patches = self.positions[:, 1:].unflatten(1, (self.grid, self.grid))
        patches = patches[:, first : first + grid, first : first + grid].flatten(1, 2)
        return torch.cat([self.positions[:, :1], patches], dim=1)


def sincos_positions(grid: int, width: int) -> Float[Tensor, "1 t width"]:
    """Fixed positions: sines and cosines of the row and of the column; zero for the class token.

    Each of the four quarters of the width holds width / 4 frequencies, from 1 down to 1 / 10,000.

    Source: Vaswani et al. 2017, section 3.5, in the two-dimensional form of Chen, Xie & He 2021
    (MoCo v3, arXiv 2104.02057).
    """
    quarter = width // 4
    frequencies = 10_000.0 ** -(torch.arange(quarter) / quarter)
    angles = torch.arange(grid)[:, None] * frequencies
    along = torch.cat([angles.sin(), angles.cos()], dim=1)  # grid x width/2
    rows = along[:, None].expand(grid, grid, -1)
    columns = along[None].expand(grid, grid, -1)
    patches = torch.cat([rows, columns], dim=2).reshape(1, grid**2, width)
    return torch.cat([torch.zeros(1, 1, width), patches], dim=1)
