"""Which requests reach the application, and what a browser may do with its responses.

A page of another site can make a browser send requests here. So the Host must be a name of this
machine (against DNS rebinding), and requests from another origin are rejected. Beyond loopback
every request needs the token that was printed at the start.
"""

import asyncio
import http
import logging
import re
import secrets
from urllib.parse import urlencode

from jinja2 import ChoiceLoader, Environment, PackageLoader
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "geolocation=(), microphone=()",
    # The same address shows other images when another experiment is served.
    "cache-control": "no-store",
}


REPORT_POLICY = (
    "sandbox allow-scripts allow-popups; default-src 'none'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""A report is one file with its script inside. It may come from elsewhere, with its folder; so it
is treated as a page of another site, and can load nothing."""

FOLDERS = re.compile(r"(?<![\w.:/…])/(?:[^\s/'\"]+/)+")
"""The folders of an absolute path, which a message of a user's model may name."""

# The explorer is in the report, too.
LOADERS = [PackageLoader("visavis.serve"), PackageLoader("visavis.report", "static")]
TEMPLATES = Environment(loader=ChoiceLoader(LOADERS), autoescape=True)


def error_response(request: Request, error: HTTPException) -> Response:
    """One sentence, as JSON or as a page for a browser, with the headers of the status."""
    status, sentence = error.status_code, FOLDERS.sub("…/", error.detail)
    response: Response
    if "text/html" in request.headers.get("accept", ""):
        heading = http.HTTPStatus(status).phrase
        sentence = "There is no such page here." if sentence == heading else sentence
        page = TEMPLATES.get_template("error.html").render(heading=heading, sentence=sentence)
        response = HTMLResponse(page, status, error.headers)
    else:
        response = JSONResponse({"error": sentence}, status, error.headers)
    if error.status_code == 503:
        response.headers["retry-after"] = "1"
    if error.status_code in (408, 413, 503):  # the rest of the body is not read
        response.headers["connection"] = "close"
    return response


class Security:
    """Rejects unwanted requests, adds security headers, and turns exceptions into responses."""

    def __init__(self, app: ASGIApp, *, token: str | None) -> None:
        self.app, self.token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, or reject it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await (self._login(scope) or self.app)(scope, receive, send_with_headers)
            return
        except HTTPException as error:
            response = error_response(Request(scope), error)
        except asyncio.CancelledError:
            response = error_response(Request(scope), HTTPException(503, "visavis is stopping"))
        except Exception as error:
            log.error("a request failed: %s: %s", type(error).__name__, error)
            response = error_response(
                Request(scope), HTTPException(500, "the request failed: a bug in visavis")
            )
        if not started:
            await response(scope, receive, send_with_headers)

    def _login(self, scope: Scope) -> RedirectResponse | None:
        """The response to a visitor whose address has the token; None: pass the request on."""
        request = Request(scope)
        headers = request.headers
        host = headers.get("host", "")
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if self.token is None and name.lower() not in LOOPBACK:
            raise HTTPException(400, f"use http://localhost, not the name {host[:80]!r}")
        origin = headers.get("origin")
        foreign = origin is not None and origin.partition("://")[2] != host
        is_get = request.method == "GET"  # another site may link here
        if foreign or (headers.get("sec-fetch-site") == "cross-site" and not is_get):
            raise HTTPException(403, "requests from other sites are rejected")
        if self.token is None or scope["path"] == "/api/health":
            return None
        cookie = f"visavis_{(scope.get('server') or ('', 0))[1]}"  # all ports share their cookies
        if is_get and _same(request.query_params.get("token", ""), self.token):
            # One slash: two would be an address on another host.
            path = "/" + scope["path"].lstrip("/\\")
            rest = urlencode([x for x in request.query_params.multi_items() if x[0] != "token"])
            response = RedirectResponse(path + (f"?{rest}" if rest else ""), status_code=303)
            # Lax: the printed address may be followed from a message. A link can change nothing.
            response.set_cookie(cookie, self.token, httponly=True, samesite="lax")
            return response
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        bearer = bearer.strip() if scheme.lower() == "bearer" else ""
        if not any(_same(given, self.token) for given in (request.cookies.get(cookie, ""), bearer)):
            raise HTTPException(401, "open the address that visavis printed when it started")
        return None


def _same(given: str, token: str) -> bool:
    return secrets.compare_digest(given.encode(), token.encode())
