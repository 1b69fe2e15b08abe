import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from visavis.data.images import read_image
from visavis.errors import DataError

HALVES = np.zeros((64, 64, 3), np.uint8)
HALVES[:, :32] = (200, 40, 90)
HALVES[:, 32:] = (10, 160, 220)


def saved(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("TIFF", {}, 0),
        ("GIF", {}, 2),
        ("WEBP", {"lossless": True}, 0),
        ("JPEG", {"quality": 95, "subsampling": 0}, 6),
    ],
)
def test_each_format_gives_its_pixels(tmp_path, kind, options, tolerance):
    path = tmp_path / "image"
    path.write_bytes(saved(Image.fromarray(HALVES), kind, **options))
    pixels = read_image(path)
    assert (pixels.dtype, pixels.shape) == (np.uint8, (32, 32, 3))
    expected = HALVES[::2, ::2].astype(int)
    assert np.abs(pixels[:, 2:14] - expected[:, 2:14]).max() <= tolerance
    assert np.abs(pixels[:, 18:30] - expected[:, 18:30]).max() <= tolerance


def test_the_central_square_is_averaged_to_32_pixels():
    wide = np.zeros((64, 128, 3), np.uint8)
    wide[:, :32] = wide[:, 96:] = 255  # outside the central square
    wide[::2, 32:96] = 100
    assert np.array_equal(read_image(saved(Image.fromarray(wide))), np.full((32, 32, 3), 50))


@pytest.mark.parametrize("side", [32, 64])
@pytest.mark.parametrize("size", [(1, 1), (1, 2_000), (31, 33), (32, 32), (1_000, 700)])
def test_any_size_becomes_the_one_asked_for(size, side):
    pixels = read_image(saved(Image.new("RGB", size, (12, 34, 56))), side)
    assert pixels.shape == (side, side, 3)
    assert np.array_equal(np.unique(pixels.reshape(-1, 3), axis=0), [[12, 34, 56]])


def test_exif_rotation():
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise: the left side becomes the top
    pixels = read_image(saved(Image.fromarray(HALVES), "PNG", exif=exif.tobytes()))
    assert np.array_equal(pixels[4, 16], HALVES[0, 0])
    assert np.array_equal(pixels[28, 16], HALVES[0, 63])


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_laid_over_white(mode):
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    image.paste((40, 40, 40, 255), (0, 0, 32, 64))
    content = saved(image.convert("LA") if mode == "LA" else image)
    if mode == "P":
        palette = Image.new("P", (64, 64), 1)
        palette.putpalette([40, 40, 40, 0, 0, 0])
        palette.paste(0, (0, 0, 32, 64))
        content = saved(palette, transparency=1)
    pixels = read_image(content)
    assert pixels[5, 5].tolist() == [40, 40, 40]
    assert pixels[5, 28].tolist() == [255, 255, 255]


def test_sixteen_bits_become_eight():
    steps = np.repeat(np.linspace(0, 65_535, 32).astype(np.uint16)[None], 32, axis=0)
    pixels = read_image(saved(Image.fromarray(steps)))
    assert pixels[0, [0, 31], 0].tolist() == [0, 255]
    assert np.abs(pixels[0, :, 0] - steps[0] / 257).max() <= 1
    floats = Image.fromarray(np.linspace(-3, 5, 32 * 32, dtype=np.float32).reshape(32, 32))
    pixels = read_image(saved(floats, "TIFF"))
    assert pixels[[0, 31], [0, 31], 0].tolist() == [0, 255]


def test_cmyk_becomes_rgb():
    pixels = read_image(saved(Image.new("CMYK", (40, 40), (0, 255, 255, 0)), "TIFF"))
    assert np.array_equal(pixels[0, 0], [255, 0, 0])
    jpeg = read_image(saved(Image.new("CMYK", (40, 40), (0, 255, 255, 0)), "JPEG", quality=95))
    assert np.abs(jpeg[0, 0].astype(int) - [255, 0, 0]).max() < 12


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "PNG"])
def test_an_animation_gives_its_first_frame(kind):
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue", "green")]
    options = {"lossless": True} if kind == "WEBP" else {}
    content = saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert np.abs(read_image(content)[9, 9].astype(int) - [255, 0, 0]).max() < 3


def png_of_size(width, height):
    """A PNG with a large size in its header and almost no content."""

    def chunk(kind, data):
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(bytes(1_000)))
    return b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(50_000, 50_000), (100_000, 1), (1, 100_000), (10_000, 10_000)])
@pytest.mark.fault(24)
def test_a_bomb_is_refused_before_it_is_decoded(size, monkeypatch):
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("it was decoded"))
    with pytest.raises(DataError, match=r"bomb\.png has too many pixels"):
        read_image(png_of_size(*size), name="bomb.png")


def test_a_jpeg_with_many_scans_is_refused_before_it_is_decoded(monkeypatch):
    progressive = saved(Image.fromarray(HALVES), "JPEG", progressive=True)
    assert read_image(progressive).shape == (32, 32, 3)
    large = saved(Image.new("RGB", (2000, 2000)), "JPEG", progressive=True)
    last = large[large.rfind(b"\xff\xda") : -2]
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("it was decoded"))
    with pytest.raises(DataError, match="slow has too many scans; save it again as a plain JPEG"):
        read_image(large[:-2] + 1000 * last + large[-2:], name="slow")


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.fault(35)
def test_an_image_without_a_finite_value_is_refused(value):
    empty = np.full((40, 40), value, dtype=np.float32)
    with pytest.raises(DataError, match="x holds no finite number"):
        read_image(saved(Image.fromarray(empty), "TIFF"), name="x")
    empty[:, 20:] = np.linspace(0, 1, 20, dtype=np.float32)
    assert np.ptp(read_image(saved(Image.fromarray(empty), "TIFF"))) == 255


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_an_image_that_is_transparent_throughout_is_refused(mode):
    with pytest.raises(DataError, match="x is transparent throughout"):
        read_image(saved(Image.new(mode, (40, 40))), name="x")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello, this is a text",
        b'<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"/>',
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n",
        b"SIMPLE  =                    T" + bytes(2_880),
        saved(Image.new("RGB", (40, 40)), "ICO"),
    ],
    ids=["empty", "text", "svg", "eps", "fits", "ico"],
)
def test_other_formats_and_other_content_are_refused(tmp_path, content):
    path = tmp_path / "holiday.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"holiday\.png is not an image in a supported format"):
        read_image(path)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_an_image_that_is_truncated_is_refused(kind, share):
    noise = np.random.default_rng(0).integers(0, 256, (80, 80, 3), np.uint8)
    content = saved(Image.fromarray(noise), kind)
    with pytest.raises(DataError, match=r"truncated is"):
        read_image(content[: int(len(content) * share)], name="truncated")


def test_an_image_with_trailing_data_is_read():
    content = saved(Image.fromarray(HALVES)) + b"PK\x03\x04 <script>alert(1)</script>"
    assert np.array_equal(read_image(content), HALVES[::2, ::2])


def test_a_path_that_is_no_file(tmp_path):
    with pytest.raises(DataError, match=r"no file .*nowhere\.png"):
        read_image(tmp_path / "nowhere.png")
    with pytest.raises(DataError, match="is not a file"):
        read_image(tmp_path)


def test_a_path_may_be_a_string(tmp_path):
    Image.new("RGB", (40, 40), "red").save(tmp_path / "a.png")
    np.testing.assert_array_equal(
        read_image(str(tmp_path / "a.png")), read_image(tmp_path / "a.png")
    )
