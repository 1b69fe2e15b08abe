"""Convolutions of mirrored pairs in float32 that make four or six rows of a picture at once.

Of a column of pixels, six rows that come out of a 3 x 3 convolution take the products of 18 rows of
filters, and Winograd's minimal filtering gets along with 8, four rows with 6 in place of 12. Along
the rows of a picture mirrored pairs save half of the products already (`Convolution`). What stands
before and after the products, winograd.cpp takes.

Source: Winograd 1980, Arithmetic Complexity of Computations; Lavin & Gray 2016, arXiv 1509.09308,
section 4, here along one side of the picture. The points follow Barabasz, Anderson, Soodhalter &
Gregg 2020, arXiv 1803.10986, table 1. Rounding errors are about three (four rows) and five times
those of the usual order, which float32 can bear; in bf16 they would be too large.
"""

import functools
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from visavis.models.compiled import VECTOR, Source, call, empty

SOURCE: Source = "winograd.cpp"

TileRows = Literal[4, 6]
"""Rows of a picture that one tile makes."""

POINTS: dict[TileRows, tuple[float, ...]] = {
    4: (0, 1, -1, 0.5, -2),
    6: (0, 1, -1, 2, -2, 0.5, -0.5),
}
"""Where the polynomials are evaluated, besides infinity."""

PICTURES = 50
"""So many at a time: 10 and 250 take longer, and 250 much more memory (docs/benchmarks.md)."""


class Matrices(NamedTuple):
    """A column of rows y made of rows x with the three rows g of a filter: y = A (Gg * Bx)."""

    a: Float[Tensor, "made taps"]
    g: Float[Tensor, "taps 3"]
    b: Float[Tensor, "taps taps"]


@functools.cache
def matrices(made: TileRows) -> Matrices:
    """Those of the points, for tiles that make so many rows.

    The product of two polynomials of `made` and 3 coefficients is that of their values at all
    points, interpolated; x to y is the transpose of the first polynomial to that product.
    """
    points = np.array(POINTS[made])
    infinity = np.eye(made + 2)[-1:]  # there the value is the last coefficient
    others = [np.delete(points, i) for i in range(len(points))]
    norms = [np.prod(point - other) for point, other in zip(points, others, strict=True)]
    a = np.concatenate([np.vander(points, made, increasing=True), infinity[:, -made:]])
    g = np.vander(points, 3, increasing=True) / np.array(norms)[:, None]
    bases = [np.poly(other)[::-1] for other in others]  # 0 at all points but one
    b = np.concatenate([np.pad(bases, ((0, 0), (0, 1))), np.poly(points)[None, ::-1]])
    g = np.concatenate([g, infinity[:, -3:]])
    return Matrices(*(torch.tensor(m, dtype=torch.float32) for m in (a.T.copy(), g, b)))


def tile_rows(rows: int) -> TileRows:
    """How many rows to make at once, of pictures of so many.

    Six spare the most products, where no row of a tile lies below the picture.
    """
    return 6 if rows % 6 == 0 else 4


def convolved(
    x: Float[Tensor, "n c h w"], weight: Float[Tensor, "2 d2 k"]
) -> Float[Tensor, "n d h w"]:
    """The convolution of channels-last pictures with the blocks of `Convolution`.

    Raises:
        EnvironmentFault: winograd.cpp cannot be compiled.
        ValueError: channels that are no multiple of 32, going in or coming out.
    """
    made = tile_rows(x.shape[2])
    matrix = matrices(made)
    filters = torch.einsum("tr,gdkr->tgkd", matrix.g, weight.unflatten(2, (-1, 3)))
    filters = filters.flatten(0, 1).contiguous()
    out = empty(x, len(x), 2 * weight.shape[1], *x.shape[2:])
    for pictures, of_pictures in zip(x.split(PICTURES), out.split(PICTURES), strict=True):
        products = torch.bmm(_read(pictures, made), filters)
        _call("make_tiles", products, matrix.a, of_pictures, of_pictures.shape)
    return out


def by_weight(
    x: Float[Tensor, "n c h w"], gradient: Float[Tensor, "n d h w"]
) -> Float[Tensor, "2 d2 k"]:
    """The gradient by the blocks, of pictures as in `convolved`."""
    made = tile_rows(x.shape[2])
    matrix = matrices(made)
    sums = x.new_zeros(2 * len(matrix.g), 3 * x.shape[1] // 2, gradient.shape[1] // 2)
    for pictures, by_pictures in zip(x.split(PICTURES), gradient.split(PICTURES), strict=True):
        read = _read(pictures, made)
        by_products = x.new_empty(*read.shape[:2], sums.shape[2])
        _call("unmake_tiles", by_pictures, matrix.a, by_products, by_pictures.shape)
        sums.baddbmm_(read.transpose(1, 2), by_products)
    return torch.einsum("tr,tgkd->gdkr", matrix.g, sums.unflatten(0, (-1, 2))).flatten(2)


def _read(x: Float[Tensor, "n c h w"], made: TileRows) -> Float[Tensor, "t2 m k"]:
    """What the taps of all tiles read, B times their rows; s and a by turns."""
    n, channels, rows, columns = x.shape
    b = matrices(made).b
    tiles = n * -(-rows // made)
    read = x.new_empty(2 * len(b), tiles * columns, 3 * channels // 2)
    _call("read_tiles", x, b, read, x.shape)
    return read


def _call(name: str, array: Tensor, matrix: Tensor, to: Tensor, shape: torch.Size) -> None:
    """Fill `to` from `array`, one of which holds pictures of that shape."""
    n, channels, rows, columns = shape
    if channels % (2 * VECTOR):
        raise ValueError(f"{channels} channels are no multiple of {2 * VECTOR}")
    sizes = (matrix.shape[1], n, rows, columns, channels // 2)
    call(SOURCE, name, array, matrix, to, sizes=sizes)
