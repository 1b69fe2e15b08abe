"""kill -9 at random moments, and what is left in the end: half an hour on two cores.

    .venv/bin/python recipes/kill.py OUT [MOMENTS]

`visavis run` and `visavis study`, of small models on 600 of the built-in shapes, are each killed
at MOMENTS random moments, 20 by default, with all processes that they started, and repeated until
they end by themselves; if moments are left then, they begin anew. The moments are spread over the
time that the undisturbed command took, so that training, testing, explaining and writing are all
hit.

In the end each file must be that of the undisturbed command, by its SHA-256. What is measured or
dated is left out of JSON before: seconds, images per second, dates, how often a training was
resumed, and the checksums of files that hold such numbers. report.html, study.html and logs,
which hold them, too, are not compared.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from PIL import Image

from visavis.data import shapes

SHARED = [
    *("--preset", "smoke", "--data.source", "folder"),
    *("--cnn.optim.epochs", "4", "--vit.optim.epochs", "4", "--cnn.widths", "8", "8", "16"),
    *("--vit.width", "16", "--vit.depth", "2", "--vit.heads", "2", "--train.precision", "float32"),
    *("--explain.images", "20", "--explain.sweep-images", "20", "--train.device", "cpu"),
    *("--tracking.wandb", "off"),
]
COMMANDS = {"run": ["run", *SHARED], "study": ["study", "cnn", "vit", "--seeds", "1", *SHARED]}
MEASURED = ("seconds", "per_second", "sha256", "started", "finished", "resumed")
"""Parts of the names of what differs from run to run."""
LEFT_OUT = ("report.html", "study.html", "job.log", ".lock")


def main(out: Path, moments: int = 20) -> int:
    """Kill both commands, and compare their files with those of undisturbed ones."""
    _draw(out / "images")
    wrong = 0
    for name, command in COMMANDS.items():
        words = [*command, "--data.dir", str(out / "images")]
        undisturbed, disturbed = out / name / "undisturbed", out / name / "killed"
        start = time.monotonic()
        assert _run(words, undisturbed) == 0, undisturbed
        seconds, killed, ended = time.monotonic() - start, 0, 0
        while killed < moments or not ended:
            limit = random.uniform(0, seconds) if killed < moments else None
            code = _run(words, disturbed, limit)
            if code == -signal.SIGKILL:
                killed += 1
                continue
            found = _different(undisturbed, disturbed)
            print(f"{name}: killed {killed} times, exit {code}, {found or 'all files equal'}")
            wrong += bool(code or found)
            ended += 1
            if killed < moments:
                shutil.rmtree(disturbed)
                ended = 0
    return int(wrong > 0)


def _draw(folder: Path) -> None:
    pixels, labels, _ = shapes.draw(600, seed=0)
    for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        path = folder / shapes.CLASS_NAMES[label] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


def _run(command: list[str], out: Path, seconds: float | None = None) -> int:
    """The exit code; the command and all that it started are killed after so many seconds."""
    log = out.with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, "-m", "visavis", *command, "--out", str(out)]
    with (
        log.open("a") as file,
        subprocess.Popen(words, stdout=file, stderr=file, start_new_session=True) as process,
    ):
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return process.wait()


def _different(one: Path, other: Path) -> list[str]:
    """Files that only one of the two has, or that differ."""
    ours, theirs = _checksums(one), _checksums(other)
    return sorted(
        name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)
    )


def _checksums(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in LEFT_OUT:
            content = path.read_bytes()
            if path.suffix in (".json", ".jsonl"):
                rows = [content] if path.suffix == ".json" else content.splitlines()
                content = json.dumps([_unmeasured(json.loads(row)) for row in rows]).encode()
            found[str(path.relative_to(folder))] = hashlib.sha256(content).hexdigest()
    return found


def _unmeasured(values: Any) -> Any:
    if isinstance(values, list):
        return [_unmeasured(value) for value in values]
    if isinstance(values, dict):
        kept = (key for key in values if not any(part in key for part in MEASURED))
        return {key: _unmeasured(values[key]) for key in kept}
    return values


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *map(int, sys.argv[2:])))
