"""The Vision Transformer, from scratch (Dosovitskiy et al. 2021, arXiv 2010.11929).

Pre-norm encoder with a classification token. Where a gradient is wanted, attention is written out
as matrix products with the softmax as a module of its own. A hook on that softmax sees the
attention weights and their gradients, and no forward pass needs a flag for that. Only a training
step may have all of that in compiled calls, see `ViT.fuse`. A learned bias for each offset between
two patches lets every head start on the patch that it reads for or on one of the eight around it,
so that few epochs are enough.

Channels come in pairs that change places where the picture is mirrored (`PairedLinear`), and so do
heads, head h of the first half with head h of the second: what faces left need not be learned again
facing right.
"""

import math
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from visavis.config import NUM_CLASSES, ViTConfig
from visavis.models import planes
from visavis.models.attention import HEAD_SIZE, attend
from visavis.models.compiled import VECTOR, library, type_of
from visavis.models.linear import PairedLinear
from visavis.models.normalize import Normalize
from visavis.models.whitening import mirrored_whitening_filters


class SelfAttention(nn.Module):
    """Multi-head scaled dot-product self-attention, with a learned bias for each offset of patches.

    The bias is added to the scaled products of queries and keys; what the class token reads, and
    what is read of it, has none. `offset_bias` has those of the first half of the heads; the second
    half has them mirrored.

    Source: Vaswani et al. 2017, section 3.2; the bias as in Liu et al. 2021 (Swin, arXiv
    2103.14030), equation 4.
    """

    def __init__(self, width: int, heads: int, grid: int) -> None:
        super().__init__()
        self.heads = heads
        offsets = 2 * grid - 1
        self.offset_bias = nn.Parameter(torch.zeros(heads // 2, offsets, offsets))
        self.query_key_value = PairedLinear(width, 3 * width)
        self.softmax = nn.Softmax(dim=-1)
        self.output = PairedLinear(width, width)

    def forward(
        self, tokens: Float[Tensor, "n t width"], *, class_only: bool = False
    ) -> Float[Tensor, "n r width"]:
        """What each token reads, or what the class token alone does."""
        n, t, width = tokens.shape
        size = width // self.heads
        qkv = self.query_key_value(tokens)
        # Each half of the channels has queries, keys and values of half of the heads.
        qkv = qkv.view(n, t, 2, 3, self.heads // 2, size)
        q, k, v = qkv.permute(3, 0, 2, 4, 1, 5).flatten(2, 3)  # each: n heads t size
        if class_only:  # the class token has no bias
            weights = self.softmax(q[:, :, :1] @ k.mT * size**-0.5)
            return self.output((weights @ v).transpose(1, 2).flatten(2))
        if not (torch.is_grad_enabled() or self.softmax._forward_hooks):
            # Nobody asks for the weights. PyTorch's kernel is faster at answering, not at learning.
            bias = self.bias(t).to(q.dtype)[None]
            read = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
            return self.output(read.transpose(1, 2).flatten(2))
        # One call for bias + q k / sqrt(size): the t x t arrays are most of the memory traffic.
        products = torch.baddbmm(
            self.bias(t).to(q.dtype).repeat(n, 1, 1),
            q.flatten(0, 1),
            k.flatten(0, 1).mT,
            alpha=size**-0.5,
        )
        weights = self.softmax(products.view(n, self.heads, t, t))
        return self.output((weights @ v).transpose(1, 2).flatten(2))

    def bias(self, t: int) -> Float[Tensor, "heads t t"]:
        """The bias of each pair of tokens: row reads, column is read; the class token comes first.

        Args:
            t: tokens, those of a square of patches and the class token.
        """
        along = torch.arange(math.isqrt(t - 1), device=self.offset_bias.device)
        offsets = along[None] - along[:, None] + self.offset_bias.shape[-1] // 2
        biases = torch.cat([self.offset_bias, self.offset_bias.flip(2)])
        # From rows x rows and columns x columns to patches x patches, rows first. Gathered, since
        # the gradient of an index is added up in any order where there are many threads.
        places = offsets[:, None, :, None] * biases.shape[-1] + offsets[None, :, None, :]
        pairs = biases.flatten(1).gather(1, places.reshape(1, -1).expand(self.heads, -1))
        return functional.pad(pairs.view(self.heads, t - 1, t - 1), (1, 0, 1, 0))

    @torch.no_grad()
    def look_at_neighbours(self, first: int) -> None:
        """Let each head start on one of the patches around its own, or on its own.

        A new block can then do what a 3 x 3 convolution does, which is what pictures want first;
        every bias is free to change. On an 8 x 8 grid the patch gets about half of its head's
        attention at first.

        Args:
            first: where the first head of the first pair starts, 0 to 5: left of its patch, one
                row up, in its row and one down; then above the patch, on it and below. The other
                pairs follow by turns. The second head of a pair starts on the mirrored place.

        Source: the idea of d'Ascoli et al. 2021 (ConViT, arXiv 2103.10697), section 3.
        """
        centre = self.offset_bias.shape[-1] // 2
        nn.init.zeros_(self.offset_bias)
        for pair in range(self.heads // 2):
            column, row = divmod((first + pair) % 6, 3)
            self.offset_bias[pair, centre + row - 1, centre + column - 1] = 4


class FeedForward(nn.Module):
    """Two linear layers with a GELU between them, applied to each token."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.expand = PairedLinear(width, hidden)
        self.activation = nn.GELU()
        self.contract = PairedLinear(hidden, width)

    def forward(self, tokens: Float[Tensor, "n t width"]) -> Float[Tensor, "n t width"]:
        return self.contract(self.activation(self.expand(tokens)))


class Block(nn.Module):
    """A pre-norm encoder block: attention, then feed-forward, each added to its input."""

    def __init__(self, width: int, heads: int, hidden: int, grid: int) -> None:
        super().__init__()
        self.fused = False
        self.norm1 = nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads, grid)
        self.norm2 = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, hidden)

    def forward(
        self, tokens: Float[Tensor, "n t width"], *, class_only: bool = False
    ) -> Float[Tensor, "n r width"]:
        """All tokens after the block, or the class token alone."""
        if self.fused and self.training and (dtype := type_of(tokens)):
            return self._fused(tokens.to(dtype), class_only=class_only)
        residual = tokens[:, :1] if class_only else tokens
        residual = residual + self.attention(self.norm1(tokens), class_only=class_only)
        return residual + self.feed_forward(self.norm2(residual))

    def _fused(
        self, tokens: Float[Tensor, "n t width"], *, class_only: bool
    ) -> Float[Tensor, "n r width"]:
        """The same in calls of compiled functions, with half of the products."""
        qkv, output = self.attention.query_key_value, self.attention.output
        expand, contract = self.feed_forward.expand, self.feed_forward.contract
        normed, tokens = planes.normed(tokens, self.norm1.weight, self.norm1.bias)
        t = tokens.shape[1]
        if class_only:
            tokens, bias = tokens[:, :1], torch.zeros(self.attention.heads, 1, t)  # it has none
        else:
            bias = self.attention.bias(t)
        read = attend(planes.product(normed, qkv), qkv.bias, bias)
        read = planes.product(read, output)
        norm = (self.norm2.weight, self.norm2.bias)
        normed, tokens = planes.added_normed(read, output.bias, tokens, *norm)
        hidden = planes.activated(planes.product(normed, expand), expand.bias)
        return planes.added(planes.product(hidden, contract), contract.bias, tokens)


class PatchEmbedding(nn.Module):
    """One token per non-overlapping patch, rows first: a linear map of the patch's pixels.

    The second half of the channels has the filters of the first, mirrored.
    """

    def __init__(self, patch_size: int, width: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(3, width // 2, kernel_size=patch_size, stride=patch_size)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n patches width"]:
        filters, biases = self.projection.weight, cast(Tensor, self.projection.bias)
        patches = functional.conv2d(
            images,
            torch.cat([filters, filters.flip(3)]),
            torch.cat([biases, biases]),
            stride=self.projection.stride,
        )
        return patches.flatten(2).transpose(1, 2)


class ViT(nn.Module):
    """Images in [0, 1] to class logits."""

    def __init__(self, config: ViTConfig, classes: int = NUM_CLASSES) -> None:
        super().__init__()
        width, grid = config.width, config.grid
        self.grid = grid
        self.normalize = Normalize()
        self.patch_embedding = PatchEmbedding(config.patch_size, width)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        fixed = paired_positions(grid, width)
        if config.positions == "learned":  # from the fixed ones on, so that neighbours start alike
            self.positions = nn.Parameter(fixed)
        else:
            self.register_buffer("positions", fixed, persistent=False)
        self.blocks = nn.Sequential(
            *(Block(width, config.heads, config.hidden, grid) for _ in range(config.depth))
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)
        self._initialise()

    def _initialise(self) -> None:
        for number, block in enumerate(cast(list[Block], self.blocks)):
            block.attention.look_at_neighbours(number * block.attention.heads // 2)
            # Each block starts as the identity, so that depth costs nothing.
            nn.init.zeros_(block.attention.output.weight)
            nn.init.zeros_(block.feed_forward.contract.weight)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        token = nn.init.trunc_normal_(torch.empty(1, 1, self.head.in_features // 2), std=0.02)
        self.class_token.data = torch.cat([token, token], dim=2)

    def fuse(self, *, products_only: bool = False) -> None:
        """From now on, let training steps call what is compiled for them.

        The linear layers of the blocks take half of the products then. Attention is one call, and
        so are norm, GELU and adding.

        For a model in training mode on a CPU. Hooks inside of a block see nothing where it is made
        of such calls.

        Args:
            products_only: leave all else to PyTorch, which is faster at it on processors without
                AVX-512. So it is in any case with heads of another size than 16, or a hidden width
                that is no multiple of 32.

        Raises:
            EnvironmentFault: no C++ compiler, or one that fails.
        """
        blocks = cast(list[Block], self.blocks)
        heads_fit = self.head.in_features == HEAD_SIZE * blocks[0].attention.heads
        hidden_fits = blocks[0].feed_forward.expand.weight.shape[1] % VECTOR == 0
        if heads_fit and hidden_fits and not products_only:
            library("attention.cpp")
            library("planes.cpp")
            for block in blocks:
                block.fused = True
        else:
            library("mirror.cpp")
            for module in self.modules():
                if isinstance(module, PairedLinear):
                    module.fused = True

    @torch.no_grad()
    def whiten(self, images: Float[Tensor, "n 3 32 32"]) -> None:
        """Start the patch embedding from the whitening of `images`, in random directions.

        Of sums and differences of a pair of channels each gets directions of its own.
        """
        projection = self.patch_embedding.projection
        size = projection.kernel_size[0]
        filters, mirrored = mirrored_whitening_filters(
            self.normalize(images), size, stride=size, epsilon=1e-2
        ).chunk(2)
        sums, differences = (
            nn.init.orthogonal_(torch.empty(len(projection.weight), len(filters))) for _ in range(2)
        )
        mixed = (sums + differences) @ filters.flatten(1)
        mixed += (sums - differences) @ mirrored.flatten(1)
        projection.weight.copy_(mixed.view_as(projection.weight) / 2)
        nn.init.zeros_(cast(Tensor, projection.bias))

    def embed(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n t width"]:
        """Tokens before the first block; token 0 is the class token."""
        patches = self.patch_embedding(self.normalize(images))
        class_token = self.class_token.expand(len(images), -1, -1)
        positions = self.positions_of(math.isqrt(patches.shape[1]))
        tokens = torch.cat([class_token, patches], dim=1) + positions
        device = tokens.device.type
        if torch.is_autocast_enabled(device):
            # So is all that the blocks add to: to carry float32 between their bf16 products, and
            # cast at each of them, costs a CPU 4 to 16 % (docs/benchmarks.md).
            tokens = tokens.to(torch.get_autocast_dtype(device))
        return tokens

    def features(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n t width"]:
        """Tokens after the last block; token 0 is the class token."""
        return self.blocks(self.embed(images))

    def positions_of(self, grid: int) -> Float[Tensor, "1 t width"]:
        """The class token's position, and those of `grid` x `grid` patches in the middle.

        Of an odd number of rows left out, one more is below and to the right.
        """
        middle = slice((self.grid - grid) // 2, (self.grid + grid) // 2)
        class_token, patches = self.positions[:, :1], self.positions[:, 1:]
        inner = patches.unflatten(1, (self.grid, self.grid))[:, middle, middle].flatten(1, 2)
        return torch.cat([class_token, inner], dim=1)

    def pool(self, tokens: Float[Tensor, "n t width"]) -> Float[Tensor, "n width"]:
        """The class token, normalised."""
        return self.norm(tokens[:, 0])

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n classes"]:
        *earlier, last = cast(list[Block], self.blocks)
        # Explanations want the last block's attention whole.
        explained = torch.is_grad_enabled() or last.attention.softmax._forward_hooks
        if explained and not self.training:
            return self.head(self.pool(self.features(images)))
        # After the last block only the class token is read. To leave the patches out of it changes
        # neither the logits nor any gradient of a weight, and saves most of a block.
        tokens = self.embed(images)
        for block in earlier:
            tokens = block(tokens)
        return self.head(self.pool(last(tokens, class_only=True)))


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


def paired_positions(grid: int, width: int) -> Float[Tensor, "1 t width"]:
    """Sines and cosines, in the second half of the channels those of the mirrored place.

    So the tokens of a mirrored picture are the mirrored ones, with their halves exchanged.
    """
    first = sincos_positions(grid, width // 2)
    patches = first[:, 1:].unflatten(1, (grid, grid)).flip(2).flatten(1, 2)
    return torch.cat([first, torch.cat([first[:, :1], patches], dim=1)], dim=2)


def parameter_count(config: ViTConfig, classes: int = NUM_CLASSES) -> int:
    """Learnable parameters in closed form, for width d, hidden width h, t tokens, patches of p.

    (3 p^2 + 1) d / 2 + d + t d + depth (2 d^2 + d h + 9 d + h + heads / 2 o^2) + 2 d
    + (d + 1) classes, with o = 2 (32 / p) - 1 offsets along a side; the positions' t d only where
    they are learned.
    """
    d, h, tokens = config.width, config.hidden, 1 + config.grid**2
    patches = (3 * config.patch_size**2 + 1) * d // 2
    positions = tokens * d if config.positions == "learned" else 0
    biases = config.heads // 2 * (2 * config.grid - 1) ** 2
    blocks = config.depth * (2 * d * d + d * h + 9 * d + h + biases)
    return patches + d + positions + blocks + 2 * d + (d + 1) * classes
