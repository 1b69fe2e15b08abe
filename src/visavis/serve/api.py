"""The JSON API of the server (docs/api.md)."""

import asyncio
import contextlib
import functools
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from visavis.data.images import png
from visavis.errors import VisavisError
from visavis.run_folder import ROLES, is_study
from visavis.serve import requests
from visavis.serve.pair import CHOICES, Shown, pair_of
from visavis.serve.requests import Pixels, Query

if TYPE_CHECKING:  # torch is loaded in the models' thread, so that the page opens at once
    from visavis.serve.browse import Browsed
    from visavis.serve.inference import Models

UPLOADS = 16
"""Requests with an image at a time, being received or waiting for the models. So uploads use at
most UPLOADS times `requests.MAX_BYTES` of memory; any more requests get status 503."""
MAX_ROWS = 500
"""Test images that one response lists."""
PAIRS = 4
"""Pairs of models whose predictions for all test images are kept in memory."""

T = TypeVar("T")

PARAMETERS = {
    "predict": ("hidden",),
    "explain": ("model", "method", "class", "layer", "head", "hidden"),
    "images": (
        *("bucket", "true", *ROLES, "either"),
        *("first_confidence", "second_confidence", "similarity"),
        *("sort", "offset", "limit"),
    ),
}


class Api:
    """The endpoints, and what they share: the models, the test images, and their threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
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
            Route("/api/images/counts", self.counts),
            Route("/api/images/{index}.png", self.image),
        ]

    async def health(self, _: Request) -> Response:
        """Whether the server is up."""
        return JSONResponse({"status": "ok"})

    async def run(self, request: Request) -> Response:
        """Data and classes; for each model its accuracy, methods, their layers and checks."""
        query = self._checked(request)
        return JSONResponse(await self._in_model_thread(lambda models: models.facts(query)))

    async def predict(self, request: Request) -> Response:
        """The three most probable classes of the image in the body, and its pixels, scaled."""
        query = self._checked(request, *PARAMETERS["predict"])
        return await self._infer(request, lambda models, pixels: models.predict(pixels, query))

    async def explain(self, request: Request) -> Response:
        """Raw heatmaps of the image in the body, higher meaning more evidence."""
        query = self._checked(request, *PARAMETERS["explain"])
        return await self._infer(request, lambda models, pixels: models.explain(pixels, query))

    async def images(self, request: Request) -> Response:
        """The test images with both models' predictions, a page at a time."""
        query = self._checked(request, *PARAMETERS["images"])
        offset = requests.number(query, "offset", 0, low=0, high=10**9)
        limit = requests.number(query, "limit", 100, low=1, high=MAX_ROWS)

        def listed(tests: "Browsed") -> dict[str, Any]:
            found = tests.matching(query)
            return {
                "total": len(found),
                "buckets": tests.buckets,
                "notice": tests.notice,
                "images": found[offset : offset + limit],
            }

        return JSONResponse(await self._with_test_images(query, listed))

    async def counts(self, request: Request) -> Response:
        """How many test images each filter leaves, and both confusion matrices."""
        query = self._checked(request)

        def counted(tests: "Browsed") -> dict[str, Any]:
            return {
                "total": len(tests.rows),
                "buckets": tests.buckets,
                "notice": tests.notice,
                "counts": tests.counts,
                "confusion": tests.confusion,
            }

        return JSONResponse(await self._with_test_images(query, counted))

    async def image(self, request: Request) -> Response:
        """A test image, of the size that the models take."""
        query = self._checked(request)
        index = request.path_params["index"]
        known = index.isdecimal() and len(index) < 10
        pixels = await self._with_test_images(
            query, lambda tests: tests.pixels.get(int(index)) if known else None
        )
        if pixels is None:
            raise HTTPException(404, "there is no such test image")
        return Response(png(pixels), media_type="image/png")

    async def warm_up(self) -> None:
        """Load what the first requests would have to wait for."""
        with contextlib.suppress(VisavisError, HTTPException):
            # Predictions first, so that requests come in between: explaining imports libraries that
            # take as long as all the rest.
            grey = await self._in_model_thread(lambda models: models.blank())
            await self._in_model_thread(lambda models: models.predict(grey, {}))
            await self._in_model_thread(lambda models: models.explain(grey, {}))
            await self._with_test_images({}, lambda _: None)

    def close(self) -> None:
        """Stop without waiting for the threads."""
        for executor in (self._model_thread, self._image_thread, self._decoding_threads):
            executor.shutdown(wait=False, cancel_futures=True)

    def _checked(self, request: Request, *names: str) -> Query:
        """The parameters of a request, none of them misspelt."""
        choices = CHOICES.values() if is_study(self._folder) else ()
        requests.check_names(request, (*names, *choices))
        return request.query_params

    async def _infer(
        self, request: Request, work: Callable[["Models", Pixels], dict[str, Any]]
    ) -> Response:
        """Run `work` on the uploaded image, unless too many uploads are waiting already."""
        if self._uploads.locked():
            raise HTTPException(503, "too many images at once; try again in a second")
        async with self._uploads:
            content = await requests.body(request)
            side = await self._in_model_thread(lambda models: models.side(request.query_params))
            pixels = await _in(self._decoding_threads, lambda: requests.image(content, side))
            found = await self._in_model_thread(lambda models: work(models, pixels))
        return JSONResponse(found)

    async def _in_model_thread(self, work: Callable[["Models"], T]) -> T:
        return await _in(self._model_thread, lambda: work(self._models))

    @functools.cached_property
    def _models(self) -> "Models":
        from visavis.serve.inference import Models

        return Models(self._folder)

    async def _with_test_images(self, query: Query, work: Callable[["Browsed"], T]) -> T:
        def run() -> T:
            return work(self._read_test_images(tuple(pair_of(self._folder, query).items())))

        return await _in(self._image_thread, run)

    @functools.cached_property
    def _read_test_images(self) -> Callable[[tuple[tuple[str, Shown], ...]], "Browsed"]:
        from visavis.serve import browse

        known: dict[str, Pixels] = {}
        return functools.lru_cache(PAIRS)(lambda pair: browse.read(dict(pair), known))


async def _in(executor: Executor, work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(executor, work)
