"""Downloads from hosts that misbehave, simulated by small servers on this machine."""

import contextlib
import hashlib
import http.server
import socket
import threading
import time

import numpy as np
import pytest

from visavis.data import download
from visavis.data.download import File
from visavis.errors import DataError, EnvironmentFault

CONTENT = np.random.default_rng(0).bytes(400_000)
FILE = File("cifar.bin", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
HALF = len(CONTENT) // 2


class Host(http.server.ThreadingHTTPServer):
    """Serves one file as `behave(handler, start)` does; records where each request starts."""

    daemon_threads = True

    def __init__(self, behave):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behave, self.asked = behave, []
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/"


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        wanted = self.headers.get("Range", "bytes=0-")
        start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        self.server.asked.append(start)
        self.server.behave(self, start)

    def head(self, status, length, kind="application/gzip"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, *args):
        pass


def good(handler, start):
    handler.head(206 if start else 200, len(CONTENT) - start)
    handler.wfile.write(CONTENT[start:])


def dropping(upto):
    """Ends the connection early, once."""

    def behave(handler, start):
        handler.head(206 if start else 200, len(CONTENT) - start)
        first = len(handler.server.asked) == 1
        handler.wfile.write(CONTENT[start : upto if first else None])

    return behave


def without_range(handler, start):
    handler.head(200, len(CONTENT))
    handler.wfile.write(CONTENT)


def another_file(handler, start):
    handler.head(206 if start else 200, len(CONTENT) - start)
    handler.wfile.write(bytes(len(CONTENT) - start))


def error_page(handler, start):
    handler.head(200, 30, "text/html")
    handler.wfile.write(b"<html>Too many requests</html>")


def nothing(handler, start):
    handler.head(200, None)


def forbidden(handler, start):
    handler.send_error(403)


def dripping(size):
    """Sends `size` bytes fifty times a second."""

    def behave(handler, start):
        handler.head(206 if start else 200, len(CONTENT) - start)
        with contextlib.suppress(OSError):  # the other side went away
            for at in range(start, len(CONTENT), size):
                handler.wfile.write(CONTENT[at : at + size])
                time.sleep(0.02)

    return behave


def stalling(handler, start):
    handler.head(206 if start else 200, len(CONTENT) - start)
    time.sleep(1.2)


@pytest.fixture
def host():
    hosts = []

    def start(behave):
        hosts.append(Host(behave))
        return hosts[-1]

    yield start
    for each in hosts:
        each.shutdown()
        each.server_close()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "visavis"


@pytest.fixture
def fetch(cache, monkeypatch):
    def run(*hosts):
        sources = {"cifar10": {getattr(host, "url", host): (FILE,) for host in hosts}}
        monkeypatch.setattr(download, "SOURCES", sources)
        return download.fetch()

    return run


def visible(cache):
    return sorted(path.name for path in cache.iterdir() if not path.name.startswith("."))


def test_a_file_is_fetched_once(host, fetch, cache):
    one = host(good)
    assert fetch(one) == cache
    assert (cache / FILE.name).read_bytes() == CONTENT
    assert visible(cache) == [FILE.name]
    one.shutdown()
    assert fetch(one) == cache
    assert one.asked == [0]


@pytest.mark.fault(16)
def test_a_connection_that_drops_at_80_percent_is_resumed(host, fetch, cache):
    at = len(CONTENT) * 8 // 10
    one = host(dropping(at))
    fetch(one)
    assert one.asked == [0, at]
    assert (cache / FILE.name).read_bytes() == CONTENT


def test_a_part_left_by_an_earlier_run_is_resumed_from_another_host(host, fetch, cache):
    cache.mkdir()
    (cache / "cifar.bin.part").write_bytes(CONTENT[:HALF])
    one = host(good)
    fetch(one)
    assert one.asked == [HALF]
    assert visible(cache) == [FILE.name]


def test_a_host_that_cannot_resume_sends_all_again(host, fetch, cache):
    cache.mkdir()
    (cache / "cifar.bin.part").write_bytes(CONTENT[:HALF])
    fetch(host(without_range))
    assert (cache / FILE.name).read_bytes() == CONTENT


@pytest.mark.parametrize("left", [b"x" * HALF, b"x" * len(CONTENT), b"x" * (len(CONTENT) + 5)])
def test_a_damaged_part_does_not_spoil_a_good_host(host, fetch, cache, left):
    cache.mkdir()
    (cache / "cifar.bin.part").write_bytes(left)
    fetch(host(good))
    assert (cache / FILE.name).read_bytes() == CONTENT
    assert visible(cache) == [FILE.name]


@pytest.mark.parametrize(
    ("behave", "why"),
    [
        (another_file, "another file .the SHA-256 differs"),
        (error_page, "announced 30 bytes, not 400000"),
        (nothing, "ended at 0 of 400000 bytes"),
        (forbidden, "HTTP Error 403: Forbidden"),
    ],
)
@pytest.mark.fault(15)
def test_a_bad_host_leaves_nothing_and_the_next_is_tried(host, fetch, cache, behave, why):
    bad = host(behave)
    with pytest.raises(DataError, match=why):
        fetch(bad)
    assert not (cache / FILE.name).exists()
    assert download.cached() is None
    fetch(bad, host(good))
    assert (cache / FILE.name).read_bytes() == CONTENT


@pytest.mark.fault(16)
def test_a_slow_host_is_left_for_the_next_which_resumes(host, fetch, cache, monkeypatch):
    monkeypatch.setattr(download, "WATCH_SECONDS", 0.2)
    slow, quick = host(dripping(50)), host(good)
    began = time.monotonic()
    fetch(slow, quick)
    assert time.monotonic() - began < 8
    assert quick.asked[0] > 0
    assert (cache / FILE.name).read_bytes() == CONTENT


def test_if_all_hosts_are_slow_the_first_is_used(host, fetch, cache, monkeypatch):
    monkeypatch.setattr(download, "WATCH_SECONDS", 0.05)
    monkeypatch.setattr(download, "MIN_SPEED", 10**12)
    first, second = host(dripping(20_000)), host(dripping(20_000))
    fetch(first, second)
    assert (len(first.asked), len(second.asked)) == (2, 1)
    assert (cache / FILE.name).read_bytes() == CONTENT


@pytest.mark.fault(16)
def test_a_host_that_stalls_is_left_for_the_next(host, fetch, cache, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 0.3)
    fetch(host(stalling), host(good))
    assert (cache / FILE.name).read_bytes() == CONTENT


@pytest.mark.fault(15)
def test_all_attempts_are_listed(host, fetch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        gone = f"http://127.0.0.1:{closed.getsockname()[1]}/"
        with pytest.raises(DataError) as caught:
            fetch(gone, "http://no.such.host.invalid/", host(forbidden), host(error_page))
    message = str(caught.value)
    for part in ("Connection refused", "no.such.host.invalid", "403", "announced 30", "--data.dir"):
        assert part in message


def test_a_file_that_changed_in_the_cache_is_fetched_again(host, fetch, cache):
    one = host(good)
    fetch(one)
    content = bytearray(CONTENT)
    content[77] ^= 1
    (cache / FILE.name).write_bytes(content)
    fetch(one)
    assert (cache / FILE.name).read_bytes() == CONTENT


def test_a_source_of_two_files_counts_only_when_both_are_there(host, cache, monkeypatch):
    other = np.random.default_rng(1).bytes(1_000)
    second = File("second.bin", len(other), hashlib.sha256(other).hexdigest())

    def serve_second(handler, start):
        handler.head(200, len(other))
        handler.wfile.write(other)

    one = host(
        lambda handler, start: (good if "cifar" in handler.path else forbidden)(handler, start)
    )
    monkeypatch.setattr(download, "SOURCES", {"cifar10": {one.url: (FILE, second)}})
    with pytest.raises(DataError, match="403"):
        download.fetch()
    assert download.cached() is None
    one.behave = serve_second
    download.fetch()
    assert visible(cache) == [FILE.name, "second.bin"]
    assert one.asked == [0, 0, 0]


def test_one_data_set_in_the_cache_is_not_taken_for_the_other(host, fetch, cache, monkeypatch):
    fetch(host(good))
    other = host(good)
    hundred = FILE._replace(name="hundred.bin")
    sources = {**download.SOURCES, "cifar100": {other.url: (hundred,)}}
    monkeypatch.setattr(download, "SOURCES", sources)
    assert download.cached("cifar100") is None
    assert download.fetch("cifar100") == cache
    assert visible(cache) == [FILE.name, "hundred.bin"]


def test_too_little_disk_space_is_reported_before_downloading(host, fetch, cache, monkeypatch):
    usage = type("Usage", (), {"free": 100_000})
    monkeypatch.setattr(download.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(EnvironmentFault, match="0 MB free, 0 MB needed"):
        fetch(host(good))


def test_a_cache_that_cannot_be_created_is_reported(tmp_path, host, fetch, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(EnvironmentFault, match="cannot write"):
        fetch(host(good))


@pytest.mark.fault(33)
def test_cache_folder_without_home(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/somewhere")
    assert str(download.cache_folder()) == "/somewhere/.cache/visavis"
    monkeypatch.delenv("HOME")
    assert download.cache_folder().is_absolute()


@pytest.mark.parametrize("source", ["cifar10", "cifar100"])
def test_sources_end_with_the_official_host_and_are_all_encrypted(source):
    assert "www.cs.toronto.edu" in list(download.SOURCES[source])[-1]
    for base, files in download.SOURCES[source].items():
        assert base.startswith("https://") and base.endswith("/")
        assert all(len(file.sha256) == 64 for file in files)
