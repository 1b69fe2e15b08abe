"""Throughput and latency of `visavis serve`: about 2 minutes.

    .venv/bin/python recipes/serving.py EXPERIMENT

Starts `visavis serve` on this machine and requests both models' predictions and default heatmaps of
one test image, with 1, 8 and 64 clients at once, 15 seconds each. A client that gets status 503
waits as long as Retry-After tells it to. Prints one line of JSON per number of clients.

In the end one client sends the images that take longest to decode, one after the other, while a
second one asks for predictions of the test image: the slowest answer to each.
"""

import http.client
import io
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

SECONDS = 15


def request(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes, str]:
    """Status, body, and Retry-After in seconds."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, body, {"Content-Type": "image/png"} if body else {})
    response = connection.getresponse()
    found = response.status, response.read(), response.getheader("Retry-After", "0")
    connection.close()
    return found


def load(port: int, clients: int, image: bytes, process: int) -> dict[str, float | int]:
    """Requests by so many clients at once."""
    seconds: list[float] = []
    statuses: list[int] = []
    end = time.perf_counter() + SECONDS

    def client() -> None:
        while time.perf_counter() < end:
            start = time.perf_counter()
            try:
                status, _, retry = request(port, "POST", "/api/explain", image)
            except OSError:
                status, retry = 0, "0"
            statuses.append(status)
            if status == 200:
                seconds.append(time.perf_counter() - start)
            time.sleep(float(retry))

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    health = []
    while any(thread.is_alive() for thread in threads):
        start = time.perf_counter()
        assert request(port, "GET", "/api/health")[0] == 200
        health.append(time.perf_counter() - start)
        time.sleep(0.5)
    status = Path(f"/proc/{process}/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]
    return {
        "clients": clients,
        "requests_per_second": round(len(seconds) / SECONDS, 1),
        "p50_ms": round(1000 * float(np.percentile(seconds, 50))),
        "p99_ms": round(1000 * float(np.percentile(seconds, 99))),
        "busy_503": statuses.count(503),
        "errors": sum(status not in (200, 503) for status in statuses),
        "slowest_health_ms": round(1000 * max(health)),
        "peak_memory_mb": round(int(peak) / 1000),
    }


def worst_images() -> dict[str, bytes]:
    """Large images of the kinds that take most work for each byte, as large as they are allowed."""
    side = 7000
    grey = Image.fromarray(np.zeros((side, side), np.float32))
    kinds: dict[str, tuple[Image.Image, str, dict[str, object]]] = {
        "JPEG": (grey.convert("RGB"), "JPEG", {"progressive": True}),
        "PNG": (grey.convert("RGBA"), "PNG", {}),
        "TIFF": (grey, "TIFF", {"compression": "tiff_deflate"}),
    }
    found = {}
    for name, (image, kind, options) in kinds.items():
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        found[name] = buffer.getvalue()
    jpeg = found["JPEG"]
    scan = jpeg[jpeg.rfind(b"\xff\xda") : -2]
    allowed, too_many = (20 - jpeg.count(b"\xff\xda")), 2000
    found["JPEG of 20 scans"], found["JPEG of 2,000 scans"] = (
        jpeg[:-2] + more * scan + jpeg[-2:] for more in (allowed, too_many)
    )
    return found


def beside_the_worst(port: int, image: bytes) -> dict[str, object]:
    """The slowest answers to whoever sends large images, and to somebody else meanwhile."""
    of_worst: dict[str, str] = {}
    images = worst_images()

    def send() -> None:
        for name, worst in images.items():
            start = time.perf_counter()
            status = request(port, "POST", "/api/predict", worst)[0]
            of_worst[name] = f"status {status} in {time.perf_counter() - start:.1f} s"

    sender = threading.Thread(target=send)
    sender.start()
    slowest = 0.0
    while sender.is_alive():
        start = time.perf_counter()
        assert request(port, "POST", "/api/predict", image)[0] == 200
        slowest = max(slowest, time.perf_counter() - start)
    return {"worst_images": of_worst, "slowest_second_client_s": round(slowest, 2)}


def main(experiment: str) -> None:
    """Serve, request, and stop."""
    start = time.perf_counter()
    server = subprocess.Popen(
        [sys.executable, "-m", "visavis", "serve", experiment], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        port = urlsplit(server.stdout.readline().strip()).port or 0
        request(port, "GET", "/")
        page = time.perf_counter() - start
        request(port, "GET", "/api/run")
        models = time.perf_counter() - start
        image = request(port, "GET", "/api/images/0.png")[1]
        tests = time.perf_counter() - start
        found = {"seconds_to": {"page": page, "models": models, "test_images": tests}}
        print(json.dumps(found, default=float))
        for clients in (1, 8, 64):
            print(json.dumps(load(port, clients, image, server.pid)), flush=True)
        print(json.dumps(beside_the_worst(port, image)))
    finally:
        server.terminate()
        server.wait(timeout=20)


if __name__ == "__main__":
    main(*sys.argv[1:])
