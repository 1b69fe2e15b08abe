"""Stage: a web page that shows what two models predict for an image, and their heatmaps.

Reads the folder of an experiment or a study and writes nothing. Uploaded images stay in memory and
go into no log.
"""

import asyncio
import contextlib
import secrets
import socket
import webbrowser
from pathlib import Path

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from visavis.errors import CheckpointError, EnvironmentFault
from visavis.serve.app import create_app
from visavis.serve.security import LOOPBACK

PORTS_TRIED = 50
HEAD_SECONDS = 10
RESPONSE_CHECKS = 6
"""A response may take this many times HEAD_SECONDS, until the client has read all of it."""
CONNECTIONS = 400
"""At a time; any more get status 503."""
FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"
    b"Connection: close\r\nContent-Length: 33\r\n\r\n"
    b'{"error": "too many connections"}'
)


class TimeoutProtocol(H11Protocol):
    """Closes connections that send no complete request, or do not read their response."""

    _checks = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            transport.write(FULL)
            transport.close()
            return
        self._check(cycle=None)

    def _check(self, cycle: object) -> None:
        """Close if no request began or ended since the last check."""
        if self.transport.is_closing():
            return
        responding = self.cycle is not None and not self.cycle.response_complete
        self._checks = self._checks + 1 if cycle is self.cycle else 0
        if self._checks > (RESPONSE_CHECKS if responding else 1):
            self.transport.abort()  # `close` would wait for a client that does not read
            return
        self.loop.call_later(HEAD_SECONDS, self._check, self.cycle)


class Site:
    """A server that listens as soon as it is created, and responds while it runs."""

    def __init__(self, folder: Path, *, host: str, port: int) -> None:
        """Bind to the port, or to the next free one.

        Raises:
            CheckpointError: there is no such folder.
            EnvironmentFault: the host is not an address of this machine, or no port is free.
        """
        if not folder.is_dir():
            raise CheckpointError(
                f"there is no folder {folder}; make an experiment with visavis run, in two "
                "minutes with --preset smoke --data.source shapes"
            )
        private = host in LOOPBACK or host == "::1"
        token = None if private else secrets.token_urlsafe(16)
        self._socket = _listen(host.strip("[]"), port)
        address, bound = self._socket.getsockname()[:2]
        address = _own_address() if address in ("0.0.0.0", "::") else address
        shown = f"[{address}]" if ":" in address else address
        self.url = f"http://{shown}:{bound}/" + (f"?token={token}" if token else "")
        self.server = uvicorn.Server(
            uvicorn.Config(
                create_app(folder, token=token),
                http=TimeoutProtocol,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=5,
                timeout_graceful_shutdown=1,
            )
        )

    def run(self, *, open_browser: bool = False) -> None:
        """Respond to requests until a signal arrives or `server.should_exit` is set."""
        if open_browser:
            webbrowser.open(self.url)  # the socket listens already, so the browser will wait
        with contextlib.closing(self._socket):
            self.server.run(sockets=[self._socket])


def _own_address() -> str:
    """This machine's address in its network; no packet is sent to find it."""
    with contextlib.suppress(OSError), socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])
    return "127.0.0.1"


def _listen(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise EnvironmentFault(f"--host {host}: {error.strerror or error}") from error
    family, kind, protocol, _, address = found[0]
    reason = "there are none"
    for number in range(port, min(port + PORTS_TRIED, 65_536)):
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address[0], number, *address[2:]))
            listener.listen(256)
            return listener
        except OSError as error:
            listener.close()
            reason = error.strerror or str(error)
    raise EnvironmentFault(f"cannot listen on {host}, ports {port} and up: {reason}")
