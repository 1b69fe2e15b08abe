"""The web application: the pages, their static files, and the API under /api/."""

import asyncio
import contextlib
import logging
import mimetypes
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from visavis import run_folder
from visavis.errors import VisavisError
from visavis.run_folder import is_study
from visavis.serve.api import Api
from visavis.serve.pair import CHOICES, pair_of, together, trainings
from visavis.serve.security import REPORT_POLICY, TEMPLATES, Security, error_response

log = logging.getLogger(__name__)

# Windows may have another type in its registry, with which no browser runs a module.
mimetypes.add_type("text/javascript", ".js")


def create_app(folder: Path, *, token: str | None = None) -> Starlette:
    """The application for an experiment or a study.

    Args:
        token: what every request must show, if there is one.
    """
    folder = folder.resolve()
    api = Api(folder)

    async def unreadable(request: Request, error: Exception) -> Response:
        """The message names paths: the page may only show those inside the folder."""
        log.error("%s", error)
        sentence = str(error).replace(str(folder), folder.name)
        return error_response(request, HTTPException(409, sentence))

    def report(_: Request) -> Response:
        path = _report(folder)
        if not path.exists():
            raise HTTPException(404, f"there is no {path.name} here yet; visavis report writes it")
        return FileResponse(path, headers={"content-security-policy": REPORT_POLICY})

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        warming_up = asyncio.create_task(api.warm_up())
        yield
        warming_up.cancel()
        api.close()

    static = StaticFiles(packages=[("visavis.report", "static"), ("visavis.serve", "static")])
    return Starlette(
        routes=[
            _page(folder, "/", "index.html"),
            _page(folder, "/explore", "explore.html"),
            Route("/report", report),
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


def _page(folder: Path, path: str, template: str) -> Route:
    def page(request: Request) -> HTMLResponse:
        pair = pair_of(folder, request.query_params)
        study = is_study(folder)
        choice = {CHOICES[role]: "/".join(of.path.parts[-2:]) for role, of in pair.items()}
        html = TEMPLATES.get_template(template).render(
            path=path,
            pair=pair,
            names=together(pair),
            study=study,
            trainings=trainings(folder) if study else {},
            choices=CHOICES,
            choice=urlencode(choice) if study else "",
            report=_report(folder).exists(),
        )
        return HTMLResponse(html)

    return Route(path, page)


def _report(folder: Path) -> Path:
    return folder / (run_folder.STUDY_REPORT if is_study(folder) else run_folder.REPORT)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return error_response(request, error)
