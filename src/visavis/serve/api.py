"""The JSON API of the server (docs/api.md)."""

import asyncio
import contextlib
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from visavis.data.images import png
from visavis.errors import VisavisError
from visavis.run_folder import ROLES
from visavis.serve import requests
from visavis.serve.requests import Pixels

if TYPE_CHECKING:  # torch is loaded in the models' thread, so that the page opens at once
    from visavis.serve.inference import Models
    from visavis.serve.test_images import TestImages

UPLOADS = 16
"""Requests with an image at a time, being received or waiting for the models. So uploads use at
most UPLOADS times `requests.MAX_BYTES` of memory; any more requests get status 503."""
MAX_ROWS = 10_000

T = TypeVar("T")

PARAMETERS = {
    "predict": ("hidden",),
    "explain": ("model", "method", "class", "layer", "head", "hidden"),
    "images": ("bucket", "true", *ROLES, "offset", "limit"),
}


class Api:
    """The endpoints, and what they share: the models, the test images, and their threads."""

    def __init__(self, experiment: Path) -> None:
        self._experiment = experiment
        # One thread: hooks and gradients of two requests must not meet on one model.
        self._model_thread = ThreadPoolExecutor(1, thread_name_prefix="models")
        # Decoding a large image takes a second, during which the models can respond to others.
        self._decoding_threads = ThreadPoolExecutor(2, thread_name_prefix="decoding")
        # Reading all images takes a while, during which the models can already predict.
        self._image_thread = ThreadPoolExecutor(1, thread_name_prefix="test images")
        self._uploads = asyncio.Semaphore(UPLOADS)
        self.routes = [
            Route("/api/health", self.health),
            Route("/api/run", self.run),
            Route("/api/predict", self.predict, methods=["POST"]),
            Route("/api/explain", self.explain, methods=["POST"]),
            Route("/api/images", self.images),
            Route("/api/images/{index}.png", self.image),
        ]

    async def health(self, _: Request) -> Response:
        """Whether the server is up."""
        return JSONResponse({"status": "ok"})

    async def run(self, _: Request) -> Response:
        """Data and classes; for each model its accuracy, methods, their layers and checks."""
        return JSONResponse(await self._in_model_thread(lambda models: models.facts()))

    async def predict(self, request: Request) -> Response:
        """The three most probable classes of the image in the body, and its pixels, scaled."""
        requests.check_names(request, PARAMETERS["predict"])
        return await self._infer(
            request, lambda models, pixels: models.predict(pixels, request.query_params)
        )

    async def explain(self, request: Request) -> Response:
        """Raw heatmaps of the image in the body, higher meaning more evidence."""
        requests.check_names(request, PARAMETERS["explain"])
        return await self._infer(
            request, lambda models, pixels: models.explain(pixels, request.query_params)
        )

    async def images(self, request: Request) -> Response:
        """The test images with both models' predictions."""
        requests.check_names(request, PARAMETERS["images"])
        offset = requests.integer(request, "offset", 0, low=0, high=10**9)
        limit = requests.integer(request, "limit", 100, low=1, high=MAX_ROWS)
        tests = await self._test_images()
        rows = tests.rows
        for key, value in request.query_params.items():
            if key not in ("offset", "limit"):
                requests.one_of(value, tests.buckets if key == "bucket" else tests.classes, key)
                rows = [row for row in rows if row[key] == value]
        page = rows[offset : offset + limit]
        return JSONResponse(
            {"total": len(rows), "buckets": tests.buckets, "notice": tests.notice, "images": page}
        )

    async def image(self, request: Request) -> Response:
        """A test image, of the size that the models take."""
        tests = await self._test_images()
        index = request.path_params["index"]
        pixels = tests.pixels.get(int(index)) if index.isdecimal() and len(index) < 10 else None
        if pixels is None:
            raise HTTPException(404, "there is no such test image")
        return Response(png(pixels), media_type="image/png")

    async def warm_up(self) -> None:
        """Load what the first requests would have to wait for."""
        with contextlib.suppress(VisavisError, HTTPException):
            await self._in_model_thread(lambda models: models.explain(models.blank(), {}))
            await self._test_images()

    def close(self) -> None:
        """Stop without waiting for the threads."""
        for executor in (self._model_thread, self._image_thread, self._decoding_threads):
            executor.shutdown(wait=False, cancel_futures=True)

    async def _infer(
        self, request: Request, work: Callable[["Models", Pixels], dict[str, Any]]
    ) -> Response:
        """Run `work` on the uploaded image, unless too many uploads are waiting already."""
        if self._uploads.locked():
            raise HTTPException(503, "too many images at once; try again in a second")
        async with self._uploads:
            content = await requests.body(request)
            side = await self._in_model_thread(lambda models: models.side())
            loop = asyncio.get_running_loop()
            pixels = await loop.run_in_executor(
                self._decoding_threads, requests.image, content, side
            )
            found = await self._in_model_thread(lambda models: work(models, pixels))
        return JSONResponse(found)

    async def _in_model_thread(self, work: Callable[["Models"], T]) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._model_thread, lambda: work(self._models))

    @functools.cached_property
    def _models(self) -> "Models":
        from visavis.serve.inference import Models

        return Models(self._experiment)

    async def _test_images(self) -> "TestImages":
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._image_thread, lambda: self._read_test_images)

    @functools.cached_property
    def _read_test_images(self) -> "TestImages":
        from visavis.serve.test_images import read

        return read(self._experiment)
