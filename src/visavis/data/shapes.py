"""The built-in data set: ten shapes on cluttered backgrounds, each with its ground-truth mask.

Colours, sizes, positions and clutter are independent of the class, so only the outline determines
it. The same seed gives the same bytes on every machine: pixels are computed with + - * / and the
square root only (exact by IEEE 754), and all random numbers are uniform.

Each image can be drawn again with one thing changed: a prediction or a map that then moves does so
because of that thing alone.
"""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Float32
from numpy.random import Generator

from visavis.config import IMAGE_SIDE
from visavis.data.dataset import Change, Dataset, Labels, Pixels

TRAIN = 12_000
TEST = 2_000

CHUNK = 500
"""Images drawn at a time, which limits memory."""

Plane = Float32[np.ndarray, "n 32 32"]
Canvas = Float32[np.ndarray, "n 32 32 3"]
Masks = Bool[np.ndarray, "n 32 32"]

# Outlines. Each gives the distance to the outline in units of the shape's size, negative inside;
# the shape lies within the unit circle, y points down.


def _disc(x: Plane, y: Plane) -> Plane:
    return _length(x, y) - 0.9


def _ring(x: Plane, y: Plane) -> Plane:
    return np.abs(_length(x, y) - 0.76) - 0.2


def _square(x: Plane, y: Plane) -> Plane:
    return _box(x, y, 0.74, 0.74)


def _triangle(x: Plane, y: Plane) -> Plane:
    return _wedge(x, y, top=-1.0, bottom=0.68, half_width=0.96)


def _star(x: Plane, y: Plane) -> Plane:
    # Folding the plane along the star's axes leaves one edge (Quilez, "2D distance functions").
    cos, sin = math.cos(math.pi / 5), math.sin(math.pi / 5)
    x, y = np.abs(x), -y
    for side in (1, -1):
        over = np.maximum(side * cos * x - sin * y, 0)
        x, y = x - 2 * side * cos * over, y + 2 * sin * over
    x, y = np.abs(x), y - 1
    edge_x, edge_y = 0.46 * sin, 0.46 * cos - 1
    norm = math.hypot(edge_x, edge_y)
    return (x * -edge_y + y * edge_x) * (1 / norm)


def _plus(x: Plane, y: Plane) -> Plane:
    return np.minimum(_box(x, y, 0.95, 0.27), _box(x, y, 0.27, 0.95))


def _moon(x: Plane, y: Plane) -> Plane:
    x = x - 0.25  # centres it like the others
    bite = 0.69 - _length(x - 0.5, y)
    return np.maximum(_length(x, y) - 0.86, bite)


def _heart(x: Plane, y: Plane) -> Plane:
    # Two half discs on the upper edges of a square rotated by 45 degrees (Quilez).
    scale = 1.65
    x, y = np.abs(x) / scale, (0.9 - y) / scale
    lobe = _length(x - 0.25, y - 0.75) - math.sqrt(2) / 4
    fold = np.maximum(x + y, 0) / 2
    flank = np.minimum(_length(x, y - 1), _length(x - fold, y - fold)) * np.sign(x - y)
    return np.where(x + y > 1, lobe, flank) * scale


def _arrow(x: Plane, y: Plane) -> Plane:
    head = _wedge(x, y, top=-1.0, bottom=0.1, half_width=0.9)
    return np.minimum(head, _box(x, y - 0.45, 0.3, 0.5))


def _bars(x: Plane, y: Plane) -> Plane:
    return np.maximum(np.abs(np.abs(y) - 0.48) - 0.24, np.abs(x) - 0.85)


def _length(x: Plane, y: Plane) -> Plane:
    return np.sqrt(x * x + y * y)


def _box(x: Plane, y: Plane, half_width: float, half_height: float) -> Plane:
    return np.maximum(np.abs(x) - half_width, np.abs(y) - half_height)


def _wedge(x: Plane, y: Plane, *, top: float, bottom: float, half_width: float) -> Plane:
    """An upright isosceles triangle."""
    height = bottom - top
    norm = math.hypot(height, half_width)
    flank = np.abs(x) * (height / norm) + (top - y) * (half_width / norm)
    return np.maximum(flank, y - bottom)


_OUTLINES: tuple[Callable[[Plane, Plane], Plane], ...] = (
    *(_disc, _ring, _square, _triangle, _star),
    *(_plus, _moon, _heart, _arrow, _bars),
)
CLASS_NAMES = tuple(outline.__name__.removeprefix("_") for outline in _OUTLINES)

TILT_DEGREES = 20.0
"""Largest rotation either way: no square becomes a diamond."""

FAINT_FRACTION = 0.03
"""Fraction of images with a barely visible shape: even a good model has errors to explain."""

SIZE = (6.5, 10.5)
"""Smallest and largest radius of a shape, pixels."""


_row, _column = np.mgrid[:IMAGE_SIDE, :IMAGE_SIDE].astype(np.float32) + 0.5


def _uniform(
    generator: Generator, shape: tuple[int, ...], low: float, high: float
) -> Float32[np.ndarray, "..."]:
    return generator.random(shape, np.float32) * (high - low) + low


def _colours(generator: Generator, n: int, *, vivid: float) -> Float32[np.ndarray, "n 3"]:
    """Random colours of full range; the less `vivid`, the closer to grey."""
    colours = generator.random((n, 3), np.float32)
    low, high = colours.min(1, keepdims=True), colours.max(1, keepdims=True)
    colours = (colours - low) / np.maximum(high - low, 1e-3)
    darkest = _uniform(generator, (n, 1), 0.0, 0.45)
    brightest = _uniform(generator, (n, 1), 0.5, 1.0)
    colours = darkest + (brightest - darkest) * colours
    grey = (darkest + brightest) / 2
    return grey + (colours - grey) * vivid


def _luma(colours: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n"]:
    red, green, blue = colours[..., 0], colours[..., 1], colours[..., 2]
    return 0.299 * red + 0.587 * green + 0.114 * blue


def _contrasting(
    generator: Generator, surroundings: Float[np.ndarray, "n 3"]
) -> Float32[np.ndarray, "n 3"]:
    """For each image the first of several random colours with enough contrast, or the best."""
    n, tries = len(surroundings), 12
    candidates = _colours(generator, n * tries, vivid=1.0).reshape(n, tries, 3)
    contrast = np.abs(_luma(candidates) - _luma(surroundings)[:, None])
    choice = np.minimum(contrast, 0.36).argmax(1)  # ties go to the first
    return candidates[np.arange(n), choice]


def _other_ground(
    generator: Generator, ground: Float32[np.ndarray, "n 3"], shape: Float32[np.ndarray, "n 3"]
) -> Float32[np.ndarray, "n 3"]:
    """Of several random colours the one that contrasts with the shape most nearly as the ground."""
    n, tries = len(ground), 12
    candidates = _colours(generator, n * tries, vivid=0.4).reshape(n, tries, 3)
    contrast = np.abs(_luma(candidates) - _luma(shape)[:, None])
    wanted = np.abs(_luma(ground) - _luma(shape))
    choice = np.abs(contrast - wanted[:, None]).argmin(1)
    return candidates[np.arange(n), choice]


def _ground(generator: Generator, colours: Float32[np.ndarray, "n 3"]) -> Canvas:
    """A colour with a gradient across the image and a soft, coarse texture."""
    n = len(colours)
    slope = _uniform(generator, (2, n, 1, 1, 3), -0.14, 0.14)
    x, y = ((axis / 16 - 1)[None, :, :, None] for axis in (_column, _row))
    canvas = colours[:, None, None, :] + slope[0] * x + slope[1] * y
    canvas += _enlarge(_uniform(generator, (n, 9, 9, 1), -0.12, 0.12))
    return canvas


def _enlarge(coarse: Float32[np.ndarray, "n 9 9 1"]) -> Float32[np.ndarray, "n 32 32 1"]:
    """Bilinear interpolation by a factor of four."""
    cell, within = np.divmod(np.arange(IMAGE_SIDE), 4)
    weight = ((within + 0.5) / 4).astype(np.float32)
    down, across = weight[:, None, None], weight[:, None]
    rows = coarse[:, cell] * (1 - down) + coarse[:, cell + 1] * down
    return rows[:, :, cell] * (1 - across) + rows[:, :, cell + 1] * across


def _blob(generator: Generator, n: int) -> Plane:
    """Coverage by a soft spot without an outline."""
    x, y = (_uniform(generator, (n, 1, 1), 0.0, 32.0) for _ in range(2))
    radius = _uniform(generator, (n, 1, 1), 4.0, 9.0)
    squared = ((_column - x) ** 2 + (_row - y) ** 2) / (radius * radius)
    fade = np.maximum(1 - squared, 0)
    return fade * fade * _uniform(generator, (n, 1, 1), 0.3, 0.7)


def _stroke(generator: Generator, n: int) -> Plane:
    """Coverage by a thin straight line, 4 to 12 pixels long."""
    x, y = (_uniform(generator, (n, 1, 1), 0.0, 32.0) for _ in range(2))
    cos, sin = _directions(_uniform(generator, (n,), 0.0, 360.0))
    half_length = _uniform(generator, (n, 1, 1), 2.0, 6.0)
    half_width = _uniform(generator, (n, 1, 1), 0.3, 0.7)
    along = np.abs((_column - x) * cos + (_row - y) * sin)
    across = np.abs((_row - y) * cos - (_column - x) * sin)
    distance = np.maximum(along - half_length, across - half_width)
    return np.clip(0.5 - distance, 0, 1) * _uniform(generator, (n, 1, 1), 0.4, 0.9)


def _shape(generator: Generator, labels: Labels) -> Plane:
    """Fraction of each pixel that the shape covers; the shape lies within the image."""
    n = len(labels)
    size = _uniform(generator, (n, 1, 1), *SIZE)
    margin = size + 0.5
    x, y = (margin + generator.random((n, 1, 1), np.float32) * (32 - 2 * margin) for _ in range(2))
    cos, sin = _directions(_uniform(generator, (n,), -TILT_DEGREES, TILT_DEGREES))
    u = ((_column - x) * cos + (_row - y) * sin) / size
    v = ((_row - y) * cos - (_column - x) * sin) / size
    coverage = np.empty_like(u)
    for label, outline in enumerate(_OUTLINES):
        own = np.flatnonzero(labels == label)
        distance = outline(u[own], v[own]) * size[own]
        coverage[own] = np.clip(0.5 - distance, 0, 1)
    return coverage


def _directions(
    degrees: Float32[np.ndarray, " n"],
) -> tuple[Float32[np.ndarray, "n 1 1"], Float32[np.ndarray, "n 1 1"]]:
    """Cosine and sine, of whole degrees in double precision: libraries differ in the last bit."""
    radians = np.radians(np.rint(degrees).astype(np.float64))[:, None, None]
    return np.cos(radians).astype(np.float32), np.sin(radians).astype(np.float32)


def _paint(canvas: Canvas, coverage: Plane, colours: Float32[np.ndarray, "n 3"]) -> None:
    """Blend a colour into the canvas, in place."""
    canvas += coverage[..., None] * (colours[:, None, None, :] - canvas)


def _background(generator: Generator, ground: Float32[np.ndarray, "n 3"]) -> Canvas:
    """A ground of the given colours with clutter on it."""
    n, canvas = len(ground), _ground(generator, ground)
    for _ in range(3):
        _paint(canvas, _blob(generator, n), _colours(generator, n, vivid=0.8))
    for _ in range(5):
        _paint(canvas, _stroke(generator, n), _colours(generator, n, vivid=1.0))
    return canvas


def _draw_chunk(
    labels: Labels, generator: Generator, change: Change | None, other: Generator
) -> tuple[Pixels, Masks]:
    """Draw one image for each label.

    Args:
        generator: of all random numbers of the images without the change, whose sequence is the
            same with it.
        other: of those of the change.
    """
    n = len(labels)
    ground = _colours(generator, n, vivid=0.4)
    canvas = _background(generator, ground)
    coverage = _shape(generator, labels)
    faint = generator.random((n, 1, 1), np.float32) < FAINT_FRACTION
    opacity = np.where(faint, _uniform(generator, (n, 1, 1), 0.06, 0.2), np.float32(1))
    surroundings = canvas.mean(axis=(1, 2), dtype=np.float64)
    colours = _contrasting(generator, surroundings)
    if change == "clean_plate":
        coverage = np.zeros_like(coverage)
    elif change == "other_colour":
        colours = _contrasting(other, surroundings)
    elif change == "other_background":
        behind = _background(other, _other_ground(other, ground, colours))
        hidden = coverage * opacity == 1  # but for the rounding in `_paint`, so there it stays
        canvas = np.where(hidden[..., None], canvas, behind)
    _paint(canvas, coverage * opacity, colours)
    canvas += _uniform(generator, (*canvas.shape[:3], 1), -0.04, 0.04)  # grain
    canvas += _uniform(generator, canvas.shape, -0.025, 0.025)
    pixels = (np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8)
    return pixels, coverage >= 0.5


def draw(n: int, seed: int, change: Change | None = None) -> tuple[Pixels, Labels, Masks]:
    """Draw `n` images, or the same images with one thing changed.

    What the change does not touch is the same, byte for byte.

    Returns:
        Pixels; labels, without a change in random order and balanced as far as `n` allows; and
        ground-truth masks of the pixels that the shape covers. With other shapes, labels and masks
        are theirs; a clean plate has an empty mask and keeps the label of the missing shape.
    """
    generator, other = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    labels = np.arange(n, dtype=np.int64) % len(CLASS_NAMES)
    generator.shuffle(labels)
    if change == "other_shape":
        labels = (labels + other.integers(1, len(CLASS_NAMES), n)) % len(CLASS_NAMES)
    pixels = np.empty((n, IMAGE_SIDE, IMAGE_SIDE, 3), np.uint8)
    masks = np.empty((n, IMAGE_SIDE, IMAGE_SIDE), bool)
    for start in range(0, n, CHUNK):
        part = slice(start, start + CHUNK)
        pixels[part], masks[part] = _draw_chunk(labels[part], generator, change, other)
    return pixels, labels, masks


def draw_test(change: Change | None = None) -> tuple[Pixels, Labels, Masks]:
    """The test images of `dataset`, in its order, or the same with one thing changed."""
    return draw(TEST, seed=1, change=change)


def dataset(notice: str | None = None) -> Dataset:
    """The built-in training and test images, the same every time."""
    train_pixels, train_labels, _ = draw(TRAIN, seed=0)
    test_pixels, test_labels, test_masks = draw_test()
    return Dataset(
        source="shapes",
        description="built-in shapes, drawn by visavis",
        class_names=CLASS_NAMES,
        train_pixels=train_pixels,
        train_labels=train_labels,
        test_pixels=test_pixels,
        test_labels=test_labels,
        test_masks=test_masks,
        redraw=lambda change: draw_test(change)[0],
        notice=notice,
    )
