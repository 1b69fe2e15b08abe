"""A server in a thread, and a client, for tests."""

import contextlib
import http.client
import json
import threading
import time
from urllib.parse import urlsplit

from visavis.serve import Site


@contextlib.contextmanager
def serving(experiment, *, host="127.0.0.1"):
    """A running server."""
    site = Site(experiment, host=host, port=8000)
    thread = threading.Thread(target=site.run, daemon=True)
    thread.start()
    while not site.server.started:
        time.sleep(0.02)
    try:
        yield site
    finally:
        site.server.should_exit = True
        thread.join(timeout=20)
        assert not thread.is_alive()


class Response:
    def __init__(self, response):
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    @property
    def json(self):
        return json.loads(self.body)


def ask(site, path, body=None, *, method=None, **headers):
    """One request. Keyword arguments are headers, with _ for -."""
    port = urlsplit(site.url).port
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if body is not None:
        named.setdefault("content-type", "image/png")
    with contextlib.closing(connection):
        connection.request(method or ("GET" if body is None else "POST"), path, body, named)
        return Response(connection.getresponse())
