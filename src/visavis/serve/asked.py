"""What a request asks for, read from it; and why one is not answered."""

import asyncio
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from starlette.requests import ClientDisconnect, Request

from visavis.config import GRID
from visavis.data.images import read_image
from visavis.errors import DataError

MAX_BYTES = 20_000_000
"""Of an uploaded image."""
RECEIVE_SECONDS = 15


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which heatmap is asked for. None stands for the default of the model."""

    model: str | None = None
    """None: both, each by its own default method."""
    method: str | None = None
    class_name: str | None = None
    """None: the class that the model names."""
    layer: str | None = None
    """Of Grad-CAM a part's name; of attention the number of a block, from 1."""
    head: int | None = None
    """Of attention, from 1; None: the mean of all."""


class Refusal(Exception):  # noqa: N818 - it is no fault of ours
    """A request that is refused, with the status and one sentence for people."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


async def body(request: Request) -> bytes:
    """The uploaded file, never more than MAX_BYTES of it, in memory alone.

    Raises:
        Refusal: too large, too slow, empty, or not sent as a image.
    """
    media = request.headers.get("content-type", "application/octet-stream").partition(";")[0]
    if not (media.startswith("image/") or media == "application/octet-stream"):
        raise Refusal(415, "send the image file itself, with Content-Type: image/png or the like")
    too_large = Refusal(413, f"a image file may have up to {MAX_BYTES // 10**6} MB")
    length = request.headers.get("content-length", "0")
    if length.isdigit() and int(length) > MAX_BYTES:
        raise too_large
    content = bytearray()
    try:
        async with asyncio.timeout(RECEIVE_SECONDS):
            async for chunk in request.stream():
                content += chunk
                if len(content) > MAX_BYTES:
                    raise too_large
    except TimeoutError:
        raise Refusal(408, f"the image did not come within {RECEIVE_SECONDS} seconds") from None
    except ClientDisconnect:
        raise Refusal(400, "the image was cut off") from None
    if not content:
        raise Refusal(422, "no image was sent")
    return bytes(content)


def image(content: bytes) -> UInt8[np.ndarray, "32 32 3"]:
    """The pixels of an uploaded file; Refusal if it is no image."""
    try:
        return read_image(content)
    except DataError as error:
        raise Refusal(422, str(error)) from None


def known(request: Request, *names: str) -> None:
    """Refuse a misspelt parameter instead of answering another question."""
    for name in request.query_params:
        if name not in names:
            raise Refusal(422, f"there is no parameter {name[:80]!r} here; use {', '.join(names)}")


def hidden(request: Request) -> list[int]:
    """The cells to hide."""
    words = [word for word in request.query_params.get("hidden", "").split(",") if word]
    cells = GRID**2
    good = all(w.isascii() and w.isdigit() and len(w) < 3 and int(w) < cells for w in words)
    if len(words) > cells or not good:
        raise Refusal(422, f"hidden: cells are numbers from 0 to {cells - 1}, such as 0,1,8")
    return sorted({int(word) for word in words})


def wanted(request: Request) -> Wanted:
    """Which heatmap."""
    query = request.query_params
    return Wanted(
        model=query.get("model"),
        method=query.get("method"),
        class_name=query.get("class"),
        layer=query.get("layer"),
        head=number(request, "head", 1, low=1, high=10**6) if "head" in query else None,
    )


def number(request: Request, name: str, default: int, *, low: int, high: int) -> int:
    """A whole number between bounds."""
    word = request.query_params.get(name, str(default))
    if not (word.isascii() and word.isdigit() and len(word) < 12 and low <= int(word) <= high):
        raise Refusal(422, f"{name}: a number from {low} to {high}")
    return int(word)
