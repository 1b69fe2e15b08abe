"""The web application: pages, and the API under /api/ that they stand on (docs/api.md)."""

import asyncio
import contextlib
import functools
import importlib.metadata
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from visavis.compare.gallery import BUCKETS
from visavis.config import IMAGE_SIDE
from visavis.data.images import png
from visavis.errors import VisavisError
from visavis.serve import asked
from visavis.serve.asked import Refusal, Wanted
from visavis.serve.guard import Guard

if TYPE_CHECKING:
    from visavis.serve.answers import Models
    from visavis.serve.test_images import TestImages

PLACES = 16
"""Requests with a image at a time, being received or waiting for the models. So uploads hold at
most PLACES times `asked.MAX_BYTES` of memory; who comes when all are taken is to come again."""
MOST_ROWS = 10_000

MEDIA = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
PAGES = {"/": "index.html", "/explore": "explore.html"}

ENDPOINTS = [
    {"method": "GET", "path": "/api/", "what": "this list"},
    {"method": "GET", "path": "/api/health", "what": "whether the server is up"},
    {
        "method": "GET",
        "path": "/api/run",
        "what": "data, classes, and of each model its accuracy, methods, layers and their checks",
    },
    {
        "method": "POST",
        "path": "/api/predict",
        "what": "the three most probable classes by each model, and the 32 x 32 pixels it saw",
        "body": "a image file",
        "query": {"hidden": "cells to hide, 0 to 63 by rows, such as 0,1,8"},
    },
    {
        "method": "POST",
        "path": "/api/explain",
        "what": "raw heatmaps, higher meaning more evidence, and where they are highest",
        "body": "a image file",
        "query": {
            "model": "cnn or vit; both unless given",
            "method": "one of the model's methods in /api/run; its default unless given",
            "class": "the class asked about; the one that the model names unless given",
            "layer": "one of the method's layers in /api/run",
            "head": "of attention, from 1; the mean of all unless given",
            "hidden": "as above",
        },
    },
    {
        "method": "GET",
        "path": "/api/images",
        "what": "the test images with both models' answers",
        "query": {
            "bucket": "one of " + ", ".join(BUCKETS),
            "true": "a class",
            "cnn": "the class that the CNN names",
            "vit": "the class that the ViT names",
            "offset": "first row, from 0",
            "limit": f"rows, at most {MOST_ROWS}; 100 unless given",
        },
    },
    {"method": "GET", "path": "/api/images/{index}.png", "what": "a test image, 32 x 32"},
]

T = TypeVar("T")

log = logging.getLogger(__name__)


class Server:
    """What the requests share: the models, the test images, and the thread that uses them."""

    def __init__(self, experiment: Path) -> None:
        self._experiment = experiment
        # One thread: hooks and gradients of two requests must not meet on one model.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="models")
        # Reading all images takes a while, in which the models can already answer.
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="test images")
        self._taken = 0

    async def do(self, work: Callable[["Models"], T]) -> T:
        """Run `work` in the models' thread."""
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, lambda: work(self._models)
        )

    @functools.cached_property
    def _models(self) -> "Models":
        from visavis.serve.answers import Models

        return Models(self._experiment)

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """One of the places for a request with a image.

        Raises:
            Refusal: all are taken.
        """
        if self._taken >= PLACES:
            raise Refusal(503, "too many images at once; try again in a second")
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1

    async def tests(self) -> "TestImages":
        """The test images, read once."""
        return await asyncio.get_running_loop().run_in_executor(self._reader, lambda: self._tests)

    @functools.cached_property
    def _tests(self) -> "TestImages":
        from visavis.serve.test_images import read

        return read(self._experiment)

    async def warm_up(self) -> None:
        """Load what the first requests would have to wait for."""
        blank = np.full((IMAGE_SIDE, IMAGE_SIDE, 3), 128, dtype=np.uint8)
        with contextlib.suppress(VisavisError, Refusal):
            await self.do(lambda models: models.explain(blank, [], Wanted()))
            await self.tests()

    def close(self) -> None:
        """Leave the threads to end by themselves."""
        for executor in (self._thread, self._reader):
            executor.shutdown(wait=False, cancel_futures=True)


def create_app(experiment: Path, *, token: str | None = None) -> Starlette:
    """The application for one experiment folder.

    Args:
        token: what every request must show; None for loopback.
    """
    server = Server(experiment)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        warming = asyncio.create_task(server.warm_up())
        yield
        warming.cancel()
        server.close()

    async def describe(_: Request) -> Response:
        version = importlib.metadata.version("visavis")
        return JSONResponse({"name": "visavis", "version": version, "endpoints": ENDPOINTS})

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def run(_: Request) -> Response:
        return JSONResponse(await server.do(lambda models: models.facts()))

    async def predict(request: Request) -> Response:
        asked.known(request, "hidden")
        hidden = asked.hidden(request)
        with server.place():
            content = await asked.body(request)
            return JSONResponse(
                await server.do(lambda models: models.predict(asked.image(content), hidden))
            )

    async def explain(request: Request) -> Response:
        asked.known(request, "hidden", "model", "method", "class", "layer", "head")
        hidden, wanted = asked.hidden(request), asked.wanted(request)
        with server.place():
            content = await asked.body(request)
            return JSONResponse(
                await server.do(lambda models: models.explain(asked.image(content), hidden, wanted))
            )

    async def images(request: Request) -> Response:
        asked.known(request, "bucket", "true", "cnn", "vit", "offset", "limit")
        offset = asked.number(request, "offset", 0, low=0, high=10**9)
        limit = asked.number(request, "limit", 100, low=1, high=MOST_ROWS)
        found = await server.tests()
        allowed = {"bucket": list(BUCKETS), **dict.fromkeys(("true", "cnn", "vit"), found.classes)}
        filters = {k: v for k, v in request.query_params.items() if k in allowed}
        for key, value in filters.items():
            if value not in allowed[key]:
                named = ", ".join(allowed[key])
                raise Refusal(422, f"{key}: there is no {value[:80]!r} here; use {named}")
        rows = [row for row in found.rows if all(row[k] == v for k, v in filters.items())]
        return JSONResponse(
            {
                "total": len(rows),
                "buckets": BUCKETS,
                "notice": found.notice,
                "images": rows[offset : offset + limit],
            }
        )

    async def image(request: Request) -> Response:
        found = await server.tests()
        index = request.path_params["index"]
        pixels = found.pixels.get(int(index)) if index.isdecimal() and len(index) < 10 else None
        if pixels is None:
            raise Refusal(404, "there is no such test image")
        # Not to be kept: the same address has other images when another experiment is served.
        return Response(png(pixels), media_type="image/png")

    return Starlette(
        routes=[
            Route("/api/", describe),
            Route("/api/health", health),
            Route("/api/run", run),
            Route("/api/predict", predict, methods=["POST"]),
            Route("/api/explain", explain, methods=["POST"]),
            Route("/api/images", images),
            Route("/api/images/{index}.png", image),
            *_files(),
        ],
        middleware=[
            Middleware(Guard, token=token),
            Middleware(GZipMiddleware, minimum_size=2000),
        ],
        exception_handlers={VisavisError: _fault, HTTPException: _http_fault},
        lifespan=lifespan,
    )


def _files() -> list[Route]:
    """The pages and what they load, read once: no address is ever made into a path."""
    folders = [
        resources.files(package) / "static" for package in ("visavis.report", "visavis.serve")
    ]
    files = [file for folder in folders for file in folder.iterdir() if file.is_file()]
    content = {file.name: file.read_bytes() for file in files}
    explorer = content.pop("explorer.html")  # the report has it too
    content["explore.html"] = content["explore.html"].replace(b"<!-- explorer -->", explorer)

    def route(path: str, name: str) -> Route:
        media = MEDIA[name[name.rindex(".") :]]

        async def answer(_: Request) -> Response:
            return Response(content[name], media_type=media, headers={"cache-control": "no-cache"})

        return Route(path, answer)

    loaded = [route(f"/static/{name}", name) for name in content if not name.endswith(".html")]
    return [*(route(path, name) for path, name in PAGES.items()), *loaded]


async def _fault(_: Request, error: Exception) -> Response:
    """What is wrong with the run folder is told to who runs the server: it names paths."""
    log.error("%s", error)
    raise Refusal(409, "the run folder cannot be read; the terminal says why") from error


async def _http_fault(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    told = {404: "there is nothing at this address", 405: "another method is needed here"}
    return JSONResponse(
        {"error": told.get(error.status_code, error.detail)}, status_code=error.status_code
    )
