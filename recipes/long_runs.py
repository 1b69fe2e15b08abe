"""Memory and open files of long runs: about an hour on two cores.

    .venv/bin/python recipes/long_runs.py trainings OUT [TRAININGS] [IMAGES]
    .venv/bin/python recipes/long_runs.py server EXPERIMENT [SECONDS]

`trainings`: 50 trainings of the preset `smoke` in one process, the CNN and the ViT by turns, on
IMAGES of the built-in shapes, all by default. The memory of the process after the last ten, their
median, may be 5 % above that after the ten that follow the first five. `server`: `visavis serve`
under 8 clients for 10 minutes. At the end, its memory and open files may be 5 % above those after a
fifth of that. Exit code 1 if there is more.
"""

import http.client
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

GROWTH = 1.05
CLIENTS = 8


def used(process: int) -> dict[str, int]:
    """Memory in MB and open files of a process, on Linux."""
    status = Path(f"/proc/{process}/status").read_text()
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    files = len(list(Path(f"/proc/{process}/fd").iterdir()))
    return {"memory_mb": round(int(resident.split()[1]) / 1000), "open_files": files}


def verdict(early: dict[str, float], late: dict[str, float]) -> int:
    """0 unless one of the numbers has grown too much."""
    print(json.dumps({"early": early, "late": late}))
    return int(any(late[key] > GROWTH * early[key] + 2 for key in early))


def trainings(out: str, count: str = "50", images: str = "0") -> int:
    """Train again and again in this process."""
    import dataclasses

    from visavis import data, presets
    from visavis.config import DataConfig, TrackingConfig
    from visavis.stages.train import train

    dataset = data.resolve(DataConfig(source="shapes"))
    if n := int(images):
        few = {key: getattr(dataset, key)[:n] for key in ("train_pixels", "train_labels")}
        dataset = dataclasses.replace(dataset, **few)
    experiment = dataclasses.replace(
        presets.preset("smoke", "shapes"), tracking=TrackingConfig(wandb="off")
    )
    found = []
    for number in range(int(count)):
        name = ("cnn", "vit")[number % 2]
        train(Path(out) / f"{name}-{number}", experiment, name, dataset)
        found.append(used(os.getpid()))
        print(number + 1, json.dumps(found[-1]), flush=True)
    early, late = (
        {key: statistics.median(of[key] for of in ten) for key in ten[0]}
        for ten in (found[5:15], found[-10:])
    )
    return verdict(early, late)


def request(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """Status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request(method, path, body, {"Content-Type": "image/png"} if body else {})
    response = connection.getresponse()
    found = response.status, response.read()
    connection.close()
    return found


def server(experiment: str, seconds: str = "600") -> int:
    """Serve, with clients that ask for heatmaps, predictions, test images and the pages."""
    command = [sys.executable, "-m", "visavis", "serve", experiment]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = urlsplit(process.stdout.readline().strip()).port or 0
        _, image = request(port, "GET", "/api/images/0.png")
        end = time.monotonic() + float(seconds)
        statuses: list[int] = []

        def client(number: int) -> None:
            asked = number
            while time.monotonic() < end:
                asked += 1
                path = ("/api/explain", "/api/predict", "/api/images", "/")[asked % 4]
                posted = path in ("/api/explain", "/api/predict")
                body = image[: len(image) // (1 + asked % 3 // 2)] if posted else None
                statuses.append(request(port, "POST" if posted else "GET", path, body)[0])

        threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        time.sleep(float(seconds) / 5)
        early = used(process.pid)
        for thread in threads:
            thread.join()
        found = {status: statuses.count(status) for status in sorted(set(statuses))}
        print(json.dumps({"answers": found}))
        return verdict(early, used(process.pid)) or int(not set(found) <= {200, 422, 503})
    finally:
        process.terminate()
        process.wait(timeout=20)


if __name__ == "__main__":
    sys.exit({"trainings": trainings, "server": server}[sys.argv[1]](*sys.argv[2:]))
