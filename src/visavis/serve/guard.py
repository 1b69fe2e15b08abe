"""What stands before the application: who may ask, and what a browser may do with the answer.

A page of another site can make a browser send requests here. So the Host must be a name of this
machine (against DNS rebinding), and a request that names another origin is refused. Beyond
loopback every request needs the token that was printed at the start.
"""

import asyncio
import json
import logging
import secrets
from urllib.parse import parse_qs, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from visavis.serve.asked import Refusal

log = logging.getLogger(__name__)

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")

POLICY = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "geolocation=(), microphone=()",
}


class Guard:
    """Refuses what should not come in, and answers for what went wrong inside."""

    def __init__(self, app: ASGIApp, *, token: str | None) -> None:
        self.app, self.token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = False

        async def guarded(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                for name, value in POLICY.items():
                    headers.setdefault(name, value)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        try:
            if location := self._admitted(scope):
                await _redirect(guarded, location, f"{_cookie(scope)}={self.token}")
            else:
                await self.app(scope, receive, guarded)
        except Refusal as refusal:
            await _refuse(guarded, refusal)
        except asyncio.CancelledError:  # the server stops
            if not begun:
                await _refuse(guarded, Refusal(503, "visavis is stopping"))
        except Exception as error:
            log.error("a request failed: %s: %s", type(error).__name__, error)
            if not begun:
                await _refuse(guarded, Refusal(500, "this is a bug in visavis; the request failed"))

    def _admitted(self, scope: Scope) -> str | None:
        """Where to send a visitor whose address still holds the token; None: go on.

        Raises:
            Refusal: not a request that is answered.
        """
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if self.token is None and name.lower() not in LOOPBACK:
            raise Refusal(400, f"use http://localhost, not the name {host[:80]!r}")
        origin = headers.get("origin")
        foreign = origin is not None and origin.partition("://")[2] != host
        followed = scope["method"] == "GET"  # a link on another page may be
        if foreign or (headers.get("sec-fetch-site") == "cross-site" and not followed):
            raise Refusal(403, "requests from other sites are not answered")
        if self.token is None or scope["path"] == "/api/health":
            return None
        query = parse_qs(scope["query_string"].decode("latin-1"))
        given = query.pop("token", [""])[0]
        if given and scope["method"] == "GET" and _same(given, self.token):
            left = urlencode(query, doseq=True)
            path: str = scope["path"]
            # One slash: two would be an address on another host.
            return "/" + path.lstrip("/\\") + (f"?{left}" if left else "")
        # By hand: SimpleCookie stops at the first cookie of somebody else's that it dislikes.
        pairs = [part.strip().partition("=") for part in headers.get("cookie", "").split(";")]
        held = [value for name, _, value in pairs if name == _cookie(scope)]
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            held.append(bearer.strip())
        if not any(_same(value, self.token) for value in held):
            raise Refusal(401, "open the address that visavis printed when it started")
        return None


def _same(given: str, token: str) -> bool:
    return secrets.compare_digest(given.encode(), token.encode())


def _cookie(scope: Scope) -> str:
    """Cookies are shared by all ports of a host, so each has a name of its own."""
    return f"visavis_{(scope.get('server') or ('', 0))[1]}"


async def _redirect(send: Send, location: str, held: str) -> None:
    # Lax: the address may be clicked in a message. What changes nothing is all that a link can ask.
    cookie = f"{held}; HttpOnly; SameSite=Lax; Path=/"
    headers = [(b"location", location.encode("latin-1")), (b"set-cookie", cookie.encode())]
    await send({"type": "http.response.start", "status": 303, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


async def _refuse(send: Send, refusal: Refusal) -> None:
    headers = [(b"content-type", b"application/json")]
    if refusal.status == 503:
        headers.append((b"retry-after", b"1"))
    if refusal.status in (408, 413, 503):  # what is left of the body is not read
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    body = json.dumps({"error": refusal.message}).encode()
    await send({"type": "http.response.body", "body": body})
