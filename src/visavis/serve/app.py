"""The web application: the pages, their static files, and the API under /api/."""

import asyncio
import contextlib
import logging
import mimetypes
import re
from collections.abc import AsyncIterator
from pathlib import Path

from jinja2 import ChoiceLoader, Environment, PackageLoader
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from visavis.errors import VisavisError
from visavis.serve.api import Api
from visavis.serve.security import Security, error_response

log = logging.getLogger(__name__)

FOLDERS = re.compile(r"(?<![\w.:/…])/(?:[^\s/'\"]+/)+")
"""The folders of an absolute path, which a message of a user's model may name."""

# Windows may have another type in its registry, with which no browser runs a module.
mimetypes.add_type("text/javascript", ".js")


def create_app(experiment: Path, *, token: str | None = None) -> Starlette:
    """The application for one experiment; every request must show the `token`, if there is one."""
    experiment = experiment.resolve()
    api = Api(experiment)

    async def unreadable(request: Request, error: Exception) -> Response:
        """The message names paths: the page may only show those inside the experiment."""
        log.error("%s", error)
        sentence = FOLDERS.sub("…/", str(error).replace(str(experiment), experiment.name))
        return error_response(request, HTTPException(409, sentence))

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        warming_up = asyncio.create_task(api.warm_up())
        yield
        warming_up.cancel()
        api.close()

    static = StaticFiles(packages=[("visavis.report", "static"), ("visavis.serve", "static")])
    return Starlette(
        routes=[
            _page("/", "index.html"),
            _page("/explore", "explore.html"),
            *api.routes,
            Mount("/static", static),
        ],
        middleware=[
            Middleware(Security, token=token),
            Middleware(GZipMiddleware, minimum_size=2000),
        ],
        exception_handlers={VisavisError: unreadable, HTTPException: _http_error},
        lifespan=lifespan,
    )


def _page(path: str, template: str) -> Route:
    # The explorer is in the report, too.
    loaders = [PackageLoader("visavis.serve"), PackageLoader("visavis.report", "static")]
    environment = Environment(loader=ChoiceLoader(loaders), autoescape=True)
    html = environment.get_template(template).render(path=path)

    async def page(_: Request) -> HTMLResponse:
        return HTMLResponse(html)

    return Route(path, page)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return error_response(request, error)
