"""Stage: a web page on which both models can be asked about any image.

Reads an experiment folder and writes nothing. What is uploaded stays in memory and in no log.
"""

import asyncio
import contextlib
import secrets
import socket
import webbrowser
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from visavis.errors import CheckpointError, EnvironmentFault
from visavis.serve.app import create_app
from visavis.serve.guard import LOOPBACK

PORTS_TRIED = 50
HEAD_SECONDS = 10
LONGEST_ANSWER = 6
"""Times HEAD_SECONDS that an answer may take, the time in which the client reads it included."""
CONNECTIONS = 400
"""At a time; more are told to come again."""
FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"
    b"Connection: close\r\nContent-Length: 33\r\n\r\n"
    b'{"error": "too many connections"}'
)


class PatientProtocol(H11Protocol):
    """Patient, but not without end: a connection that asks nothing whole is closed."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            transport.write(FULL)
            transport.close()
            return
        self._watch(asked=None)

    def _watch(self, asked: object) -> None:
        """Close if no request began or went on since the last look."""
        if self.transport.is_closing():
            return
        answering = self.cycle is not None and not self.cycle.response_complete
        self._looks = self._looks + 1 if asked is self.cycle else 0
        if self._looks > (LONGEST_ANSWER if answering else 1):
            self.transport.abort()  # `close` would wait for a client that does not read
            return
        self.loop.call_later(HEAD_SECONDS, self._watch, self.cycle)

    _looks = 0


class Site:
    """A server that listens, and answers once it is run."""

    def __init__(self, experiment: Path, *, host: str, port: int) -> None:
        """Take the port, or the next free one.

        Raises:
            CheckpointError: no such folder.
            EnvironmentFault: the host is not of this machine, or no port is free.
        """
        if not experiment.is_dir():
            raise CheckpointError(
                f"there is no experiment folder {experiment}; make one with visavis run, in two "
                "minutes with --preset smoke --data.source shapes"
            )
        private = host in LOOPBACK or host == "::1"
        self._token = None if private else secrets.token_urlsafe(16)
        self._socket = _listen(host.strip("[]"), port)
        name, taken = self._socket.getsockname()[:2]
        name = _own_address() if name in ("0.0.0.0", "::") else name  # what others can open
        shown = f"[{name}]" if ":" in name else name
        self.url = f"http://{shown}:{taken}/" + (f"?token={self._token}" if self._token else "")
        settings: dict[str, Any] = {
            "http": PatientProtocol,
            "ws": "none",
            "lifespan": "on",
            "log_config": None,
            "access_log": False,
            "server_header": False,
            "timeout_keep_alive": 5,
            "timeout_graceful_shutdown": 1,
        }
        app = create_app(experiment, token=self._token)
        self.server = uvicorn.Server(uvicorn.Config(app, **settings))

    def run(self, *, open_browser: bool = False) -> None:
        """Answer until a signal asks for an end, or `server.should_exit` is set."""
        if open_browser:
            webbrowser.open(self.url)  # it listens already, so the page comes when it can
        with contextlib.closing(self._socket):
            self.server.run(sockets=[self._socket])


def _own_address() -> str:
    """This machine's address in its network; nothing is sent to find it."""
    with contextlib.suppress(OSError), socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])
    return "127.0.0.1"


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )[0]
    except OSError as error:
        raise EnvironmentFault(f"--host {host}: {error.strerror or error}") from error
    reason: OSError | None = None
    for number in range(port, min(port + PORTS_TRIED, 65_536)):
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address[0], number, *address[2:]))
            listener.listen(256)
            return listener
        except OSError as error:
            listener.close()
            reason = error
    raise EnvironmentFault(
        f"cannot listen on {host}, ports {port} and up: {reason.strerror if reason else 'none'}"
    )
