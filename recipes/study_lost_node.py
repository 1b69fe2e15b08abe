"""A Ray cluster loses a node amid trainings: they end with the weights of an undisturbed study.

    python recipes/study_lost_node.py OUT

Two nodes on this machine, with one core each, train a CNN and a ViT with two seeds on the shapes.
As soon as both nodes have finished an epoch, one is killed. The local engine then trains the same
study.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

from visavis import run_folder
from visavis.cli import ray_cluster
from visavis.files import file_sha256

EPOCHS = 4
FLAGS = [
    *("cnn", "vit", "--seeds", "2", "--preset", "smoke", "--data.source", "shapes"),
    *("--data.validation-fraction", "0.5"),  # fewer training images
    *("--cnn.optim.epochs", str(EPOCHS), "--vit.optim.epochs", str(EPOCHS)),
    *("--cnn.widths", "8", "8", "16", "--vit.width", "16", "--vit.depth", "2", "--vit.heads", "2"),
    *("--explain.images", "20", "--explain.sweep-images", "20", "--train.device", "cpu"),
    *("--tracking.wandb", "off"),
]


def main() -> None:
    """Train both studies and compare them; a failed assertion says what differs."""
    out = Path(sys.argv[1])
    os.environ.update(ray_cluster.SETTINGS, RAY_AUTH_MODE="token", OMP_NUM_THREADS="1")
    os.environ.setdefault("RAY_AUTH_TOKEN", os.urandom(32).hex())
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    node = cluster.add_node(num_cpus=1)
    address = f"127.0.0.1:{cluster.address.rpartition(':')[2]}"
    with _study(out / "ray", "--engine", "ray", "--address", address) as process:
        while len(_begun(out / "ray")) < 2:
            assert process.poll() is None, "the study ended before both nodes had worked"
            time.sleep(0.1)
        cluster.remove_node(node, allow_graceful=False)
    assert process.returncode == 0
    cluster.shutdown()
    with _study(out / "local", "--engine", "local", "--jobs", "2") as process:
        pass
    assert process.returncode == 0
    twice = 0
    for folder in sorted((out / "ray").glob("*/seed-*")):
        epochs = [row["epoch"] for row in run_folder.read_history(folder)]
        starts = (folder / run_folder.JOB_LOG).read_text().count("$ ")
        name = folder.relative_to(out / "ray")
        same = file_sha256(folder / run_folder.WEIGHTS)
        print(f"{name}: started {starts} times, weights {same[:12]}")
        assert epochs == [*range(1, EPOCHS + 1)]
        assert same == file_sha256(out / "local" / name / run_folder.WEIGHTS)
        twice += starts == 2
    assert twice == 1
    print("one training was moved; all weights are those of an undisturbed study")


def _study(out: Path, *engine: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "visavis", "study", *FLAGS, "--out", str(out), *engine]
    )


def _begun(out: Path) -> list[Path]:
    """Trainings with a finished epoch that still have some to go."""
    folders = out.glob("*/seed-*")
    return [each for each in folders if 0 < len(run_folder.read_history(each)) < EPOCHS - 1]


if __name__ == "__main__":
    main()
