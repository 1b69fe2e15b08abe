"""Read any image file as the square of pixels that the models receive, and write PNG files."""

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
"""Pillow reads many more, some by running other programs."""

MAX_PIXELS = 50_000_000
MAX_SIDE = 20_000
MAX_SCANNED = 20 * MAX_PIXELS
"""Pixels of a progressive JPEG times its scans, each of which goes over all of them; usual are 10.
About a second; without a limit, a file of a megabyte takes minutes."""
SCAN = b"\xff\xda"
"""The marker of a scan; nothing else in a JPEG's image data has these bytes."""


def _content(path: Path, name: str) -> bytes:
    if not path.is_file():
        raise DataError(f"{name} is not a file" if path.exists() else f"no file {name}")
    try:
        if (size := path.stat().st_size) > 10 * MAX_PIXELS:  # more than any encoding needs
            raise DataError(f"{name} is too large: {size / 1e6:.0f} MB")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {name}: {error.strerror or error}") from error


def _eight_bits(image: Image.Image) -> Image.Image:
    """RGB with 8 bits per channel, from any mode."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):  # no fixed range: from the minimum to the maximum
        return Image.fromarray(_stretched(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() == (0, 0):
            raise DataError("is transparent throughout")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _stretched(values: np.ndarray) -> UInt8[np.ndarray, "h w"]:
    """Numbers from 0 at the minimum to 255 at the maximum; what is not finite counts as 0."""
    if values.dtype == np.float32:
        finite = np.isfinite(values)
        if not finite.any():
            raise DataError("holds no finite number")
        values = np.where(finite, values, 0)
    low, high = float(values.min()), float(values.max())
    wide = values.dtype if values.dtype == np.float32 else np.float64
    shares = np.subtract(values, low, dtype=wide)
    shares *= 255 / max(high - low, 1e-9)
    return shares.astype(np.uint8)


def _scans(image: Image.Image, content: bytes) -> int:
    """How often the decoder goes over all pixels."""
    jpeg = image.format == "JPEG" or image.info.get("compression") == "jpeg"  # TIFF may hold one
    return content.count(SCAN) if jpeg else 1


def _scaled(image: Image.Image, side: int) -> Image.Image:
    """The central square, resized by area averaging, or enlarged with a smooth filter."""
    shorter = min(image.size)
    left, top = ((length - shorter) // 2 for length in image.size)
    method = Image.Resampling.BOX if shorter >= side else Image.Resampling.LANCZOS
    square = image.crop((left, top, left + shorter, top + shorter))
    return square.resize((side, side), method)


def read_image(
    source: Path | str | bytes, side: int = IMAGE_SIDE, *, name: str | None = None
) -> UInt8[np.ndarray, "side side 3"]:
    """Read an image, crop its largest central square, and resize that to `side` x `side`.

    EXIF rotation is applied, animations give their first frame, transparency is laid over white,
    and 16 bits become 8. The size is read from the header; too large an image is never decoded.

    Args:
        source: A path, or the content of a file.
        side: Of the images that the model was trained on, pixels.
        name: The name in error messages; the file's own by default.

    Raises:
        DataError: not an image, of another format, too large, damaged, or without any content.
    """
    if not isinstance(source, bytes):
        path = Path(source)
        source, name = _content(path, name or str(path)), name or path.name
    name = name or "the image"
    try:
        with (
            warnings.catch_warnings(action="ignore"),  # of large sizes and odd metadata
            Image.open(io.BytesIO(source), formats=FORMATS) as image,
        ):
            if image.width * image.height > MAX_PIXELS or max(image.size) > MAX_SIDE:
                raise Image.DecompressionBombError
            if _scans(image, source) * image.width * image.height > MAX_SCANNED:
                raise DataError("has too many scans; save it again as a plain JPEG")
            return np.array(_scaled(_eight_bits(ImageOps.exif_transpose(image)), side))
    except UnidentifiedImageError:
        raise DataError(
            f"{name} is not an image in a supported format: {', '.join(FORMATS)}"
        ) from None
    except Image.DecompressionBombError:  # from Pillow for the largest
        raise DataError(
            f"{name} has too many pixels; at most {MAX_PIXELS // 10**6} million in all and "
            f"{MAX_SIDE:,} on a side are read"
        ) from None
    except DataError as error:
        raise DataError(f"{name} {error}") from None
    except Exception as error:  # a damaged file can raise almost anything, by format
        raise DataError(f"{name} is damaged or truncated: {error}") from error


def png(pixels: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """The content of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def data_address(pixels: UInt8[np.ndarray, "h w 3"]) -> str:
    """A PNG as a data URL, for a page that makes no requests."""
    return "data:image/png;base64," + base64.b64encode(png(pixels)).decode()
