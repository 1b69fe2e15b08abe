"""Reading and checking what a request sends: its body and its query parameters."""

import asyncio
import contextlib
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

import numpy as np
from jaxtyping import UInt8
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from visavis.data.images import read_image
from visavis.errors import DataError

N = TypeVar("N", int, float)
Query = Mapping[str, str]
"""The parameters of a request."""

Pixels = UInt8[np.ndarray, "side side 3"]

MAX_BYTES = 20_000_000
"""Of an uploaded image."""
RECEIVE_SECONDS = 15


async def body(request: Request) -> bytes:
    """The uploaded file, in memory; reading stops after MAX_BYTES.

    Raises:
        HTTPException: too large, too slow, empty, or not sent as an image.
    """
    media = request.headers.get("content-type", "application/octet-stream")
    media = media.partition(";")[0].strip().lower()
    if not (media.startswith("image/") or media == "application/octet-stream"):
        raise HTTPException(415, "send the image file itself, with Content-Type: image/png or such")
    too_large = HTTPException(413, f"an image file may have up to {MAX_BYTES // 10**6} MB")
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
        raise HTTPException(408, f"no image arrived within {RECEIVE_SECONDS} seconds") from None
    except ClientDisconnect:
        raise HTTPException(400, "the image was cut off") from None
    if not content:
        raise HTTPException(422, "no image was sent")
    return bytes(content)


def image(content: bytes, side: int) -> Pixels:
    """The pixels of an uploaded file; status 422 if it is not an image."""
    try:
        return read_image(content, side)
    except DataError as error:
        raise HTTPException(422, str(error)) from None


def check_names(request: Request, known: Collection[str]) -> None:
    """Reject a misspelt parameter instead of ignoring it."""
    for name in request.query_params:
        one_of(name, known, "parameter")


def one_of(value: str, known: Collection[Any], what: str) -> str:
    """`value`, if it is among the `known` ones; else the error lists them."""
    if value not in known:
        use = ", ".join(known) or "none"
        raise HTTPException(422, f"there is no {what} {value[:80]!r} here; use {use}")
    return value


def hidden(query: Query, grid: int) -> list[int]:
    """The cells of the image to mask, on a grid with so many along a side."""
    try:
        cells = {int(word) for word in query.get("hidden", "").split(",") if word}
    except ValueError:
        cells = {-1}
    if not cells <= set(range(grid**2)):
        raise HTTPException(422, f"hidden: cells are numbers from 0 to {grid**2 - 1}, as in 0,1,8")
    return sorted(cells)


def number(query: Query, name: str, default: N, *, low: int, high: int) -> N:
    """A parameter between bounds, of the type of its default."""
    kind = type(default)
    with contextlib.suppress(ValueError):
        value = kind(query.get(name, default))
        if low <= value <= high:
            return value
    what = "a whole number" if kind is int else "a number"
    raise HTTPException(422, f"{name}: {what} from {low} to {high}")
