"""Any image file as the 32 x 32 pixels that the models see."""

import base64
import io
import warnings
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from visavis.config import IMAGE_SIDE
from visavis.errors import DataError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""Pillow reads many more, some by running other programs; these are enough."""

MAX_PIXELS = 50_000_000
MAX_SIDE = 20_000


def _content(path: Path) -> bytes:
    """Of a reasonable file only: even 50 million uncompressed pixels have fewer bytes."""
    try:
        if path.stat().st_size > 10 * MAX_PIXELS:
            raise DataError(f"{path.name} has {path.stat().st_size / 1e6:.0f} MB; that is too much")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def _check_size(name: str, width: int, height: int) -> None:
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise DataError(
            f"{name} has {width} x {height} pixels; at most {MAX_PIXELS // 10**6} million in all "
            f"and {MAX_SIDE:,} on a side are read"
        )


def _eight_bits(image: Image.Image) -> Image.Image:
    """As RGB with 8 bits per channel, whatever the file holds."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):  # no fixed scale: black is the least value, white the greatest
        values = np.nan_to_num(np.asarray(image, np.float64), posinf=0, neginf=0)
        span = max(values.max() - values.min(), 1e-9)
        return Image.fromarray(np.uint8((values - values.min()) / span * 255)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _square(image: Image.Image) -> Image.Image:
    side = min(image.size)
    left, top = ((length - side) // 2 for length in image.size)
    return image.crop((left, top, left + side, top + side))


def _scaled(image: Image.Image) -> Image.Image:
    """Each pixel the mean of the area that it stands for; small images are enlarged smoothly."""
    larger = image.width >= IMAGE_SIDE
    method = Image.Resampling.BOX if larger else Image.Resampling.LANCZOS
    return image.resize((IMAGE_SIDE, IMAGE_SIDE), method)


def read_image(source: Path | str | bytes, name: str | None = None) -> UInt8[np.ndarray, "32 32 3"]:
    """Read a image, cut the largest square out of its middle and scale that down.

    Turned as its EXIF entry says; the first frame of several; transparency over white; 16 bits to
    8. Its size is read from the header, and one that is too large is never decoded.

    Args:
        source: A path, or the content of a file.
        name: What messages call the image; a path's own name unless given.

    Raises:
        DataError: not a image, of another format, too large, or damaged.
    """
    if isinstance(source, str):
        source = Path(source)
    if isinstance(source, Path):
        name = name or source.name
        if not source.is_file():
            raise DataError(f"{source} is not a file" if source.exists() else f"no file {source}")
        source = _content(source)
    name = name or "the image"
    try:
        with warnings.catch_warnings():  # Pillow warns of large sizes and odd metadata
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(source), formats=FORMATS) as image:
                _check_size(name, *image.size)
                return np.array(_scaled(_square(_eight_bits(ImageOps.exif_transpose(image)))))
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError(
            f"{name} is not a image that visavis reads; use {', '.join(FORMATS[:-1])} or "
            f"{FORMATS[-1]}"
        ) from None
    except Image.DecompressionBombError:
        raise DataError(f"{name} has more than {MAX_PIXELS // 10**6} million pixels") from None
    except Exception as error:  # a damaged file can raise almost anything, by format
        raise DataError(f"{name} is damaged or cut off: {error}") from error


def png(pixels: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """As a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def data_address(pixels: UInt8[np.ndarray, "h w 3"]) -> str:
    """As a PNG inside an address, for a page that loads nothing."""
    return "data:image/png;base64," + base64.b64encode(png(pixels)).decode()
