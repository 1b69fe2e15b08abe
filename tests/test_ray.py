"""The Ray engine, on a cluster of two nodes that are both this machine.

Its commands stand in for trainings; recipes/study_lost_node.py loses a node amid real ones.
"""

import contextlib
import hashlib
import importlib.util
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from visavis import run_folder
from visavis.cli import main, ray_cluster, ray_engine, ray_task
from visavis.errors import EnvironmentFault

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="ray is not installed (visavis[ray])"
)

EPOCHS = 5
TRAINING = f"""
import hashlib, json, os, sys, time
from pathlib import Path
from visavis.cli import local_engine
from visavis.cli.exit_codes import stoppable
from visavis.files import lock
folder = Path(sys.argv[1])
history, state = folder / "history.jsonl", folder / "state"
with stoppable():
    local_engine.stop_with_parent()
    with lock(folder):
        rows = history.read_text().splitlines() if history.exists() else []
        kept = state.read_text().splitlines()[:len(rows)] if rows else []
        weights = kept[-1] if kept else ""
        print("node", os.environ["RAY_RAYLET_PID"], "threads", os.environ["OMP_NUM_THREADS"],
              "from", len(rows), flush=True)
        for epoch in range(len(rows) + 1, {EPOCHS} + 1):
            time.sleep(0.1)
            while epoch == 3 and os.environ["RAY_RAYLET_PID"] == sys.argv[2]:
                time.sleep(0.1)
            weights = hashlib.sha256(f"{{weights}} {{epoch}}".encode()).hexdigest()
            kept.append(weights)
            state.write_text(chr(10).join(kept))  # of each epoch
            with history.open("a") as file:
                file.write(json.dumps({{"epoch": epoch, "val_accuracy": 0.5}}) + chr(10))
        (folder / "weights").write_text(weights)
"""
"""Finishes epochs as a training does, and goes on from the last one.

On the node of the second argument, it never gets beyond two.
"""

ENGINE = """
import contextlib, json, logging, sys
from pathlib import Path
from visavis.cli import ray_cluster, ray_engine
from visavis.cli.exit_codes import Stopped, stoppable
logging.basicConfig(level=logging.INFO, format="%(message)s")
commands, address, device, shared = json.loads(sys.argv[1])
if not shared:  # as if the folder were on another machine
    ray_engine._marker = lambda out: contextlib.nullcontext(out / "unseen")
commands = {Path(folder): words for folder, words in commands.items()}
ray_cluster.prepare(address)
try:
    with stoppable():
        failed = ray_engine.run(commands, address, trainings=len(commands), device=device)
except Stopped as stopped:
    sys.exit(stopped.exit_code)
print(json.dumps({str(folder): reason for folder, reason in failed.items()}))
"""


def expected_weights():
    weights = ""
    for epoch in range(1, EPOCHS + 1):
        weights = hashlib.sha256(f"{weights} {epoch}".encode()).hexdigest()
    return weights


@contextlib.contextmanager
def engine(commands, address="", *, device="cpu", shared=True):
    """The engine in a process of its own, since Ray can be set up only once in each."""
    by_name = {str(folder): words for folder, words in commands.items()}
    given = json.dumps([by_name, address, device, shared])
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", ENGINE, given], **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def epochs(folder):
    return len(run_folder.read_history(folder))


def logged(folder):
    log = folder / run_folder.JOB_LOG
    return log.read_text() if log.exists() else ""


@pytest.fixture(scope="module")
def cluster():
    """One node with one core, to which tests add another."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ray_cluster.SETTINGS.items():
            patch.setenv(name, value)
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", b"of the tests".hex() * 2)
        patch.setenv("RAY_health_check_period_ms", "500")  # else a lost node is noticed late
        patch.delenv("OMP_NUM_THREADS", raising=False)
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 1, "include_dashboard": False}
        running = Cluster(initialize_head=True, head_node_args=head)
        yield running
        raylets = children("raylet")
        assert raylets
        running.shutdown()
    assert not raylets & children("raylet")


def children(name, parent=None):
    """Processes of this name that a process has started, this one by default."""
    arguments = ["ps", "-o", "pid=,comm=", "--ppid", str(parent or os.getpid())]
    lines = subprocess.run(arguments, capture_output=True, text=True).stdout.splitlines()
    return {int(line.split()[0]) for line in lines if line.split()[1] == name}


@pytest.fixture
def second_node(cluster):
    """Add a node to the cluster, for one test; returns it and the address of the cluster."""
    added = []

    def add(**resources):
        ip = cluster.head_node.node_ip_address
        added.append(cluster.add_node(node_ip_address=ip, include_dashboard=False, **resources))
        return added[0], f"127.0.0.1:{cluster.address.rpartition(':')[2]}"

    yield add
    for node in added:
        if node in cluster.worker_nodes:
            cluster.remove_node(node)


def test_a_lost_node_and_a_failed_training_stop_no_other(tmp_path, cluster, second_node):
    node, address = second_node(num_cpus=1)
    raylet = node.all_processes["raylet"][0].process.pid
    good = [tmp_path / name / "seed-0" for name in ("a", "b", "d")]
    bad = tmp_path / "c" / "seed-0"
    commands = {
        each: ["-c", TRAINING, str(each), str(raylet)] for each in (*good[:2], bad, good[2])
    }
    commands[bad] = ["-c", "import sys; sys.exit('visavis: the loss became NaN')"]
    with engine(commands, address) as process:
        wait_for(lambda: any(f"node {raylet} " in logged(folder) for folder in good))
        (lost,) = (folder for folder in good if f"node {raylet} " in logged(folder))
        wait_for(lambda: epochs(lost) == 2)
        cluster.remove_node(node, allow_graceful=False)
        out, err = process.communicate(timeout=90)
    assert json.loads(out) == {str(bad): "the loss became NaN (exit code 1)"}, err
    for folder in good:
        assert (folder / "weights").read_text() == expected_weights()
        assert [row["epoch"] for row in run_folder.read_history(folder)] == [*range(1, EPOCHS + 1)]
        assert "threads 1" in logged(folder)
    assert re.findall(r"from (\d)", logged(lost)) == ["0", "2"]
    nodes = {each for folder in good for each in re.findall(r"node (\d+)", logged(folder))}
    assert len(nodes) == 2
    assert logged(bad).count("$ ") == 1
    label = f"{lost.parent.name}/seed-0"
    assert err.count(f"{label}: started") == 2 and err.count(f"{label}: started again") == 1
    assert f"{label}: finished on" in err
    assert err.count(f"{label}: epoch {EPOCHS}, validation accuracy 50.0 %") == 1
    assert "c/seed-0: the loss became NaN (exit code 1);" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c", "d"]


def test_each_training_has_a_gpu_of_its_own_and_hands_back_its_folder(tmp_path, second_node):
    _, address = second_node(num_cpus=2, num_gpus=2)
    folders = [tmp_path / name / "seed-0" for name in "ab"]
    meet = (
        "import os, sys, time; from pathlib import Path; folder, meeting = map(Path, sys.argv[1:]);"
        "gpu = os.environ['CUDA_VISIBLE_DEVICES']; (folder / 'gpu').write_text(gpu);"
        "(meeting / gpu).touch(); print(folder)\n"
        "while len(list(meeting.iterdir())) < 2: time.sleep(0.1)"
    )
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    commands = {each: ["-c", meet, str(each), str(meeting)] for each in folders}
    with engine(commands, address, device="auto", shared=False) as process:
        out, err = process.communicate(timeout=60)
    assert json.loads(out) == {}, err
    assert {(folder / "gpu").read_text() for folder in folders} == {"0", "1"}
    assert "not all nodes see" in err
    for folder in folders:
        there = Path(logged(folder).splitlines()[-1])
        assert there != folder and not there.exists()


def test_nothing_is_left_when_a_study_is_stopped(tmp_path, monkeypatch):
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "a" / "seed-0"
    stopping = "time.sleep(60)", "open(sys.argv[1] + '/ended', 'w').close()"
    code = TRAINING.partition("        rows =")[0] + (
        "        (folder / 'started').touch()\n        try: {}\n        finally: {}\n"
    ).format(*stopping)
    with engine({folder: ["-c", code, str(folder)]}) as process:
        wait_for((folder / "started").exists)
        raylets = children("raylet", process.pid)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert (folder / "ended").exists()
    assert len(raylets) == 1
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in raylets))
    assert not (Path.home() / ".ray").exists()


def test_a_machine_that_lacks_the_folder_hands_it_back(tmp_path, monkeypatch):
    there = tmp_path / "there"
    there.mkdir()
    monkeypatch.setattr(ray_task.tempfile, "gettempdir", lambda: str(there))
    here, name = tmp_path / "here", "cnn/seed-0"
    folder = here / name
    folder.mkdir(parents=True)
    run_folder.write_json(here / run_folder.STUDY, {"variants": {}})
    (folder / run_folder.HISTORY).write_text("1\n")
    code = (
        "import sys; from pathlib import Path; folder = Path(sys.argv[1]);"
        "assert (folder.parents[1] / 'study.json').exists();"
        "file = (folder / 'history.jsonl').open('a'); file.write('2\\n'); sys.exit('visavis: full')"
    )
    files = ray_task.packed(here, (run_folder.STUDY, name))
    out = Path("/nowhere/study")
    named = "study/cnn/seed-0"
    arguments = ["-c", code, named]
    task = ray_task.Task(out, out / name, named, arguments, out, 1, ".marker", files)
    outcome = ray_task.train(task)
    ray_task.unpack(outcome.files, folder)
    assert outcome.code == 1
    assert (folder / run_folder.HISTORY).read_text() == "1\n2\n"
    assert logged(folder).splitlines()[-1] == "visavis: full"
    assert list(there.iterdir()) == [] and [path.name for path in folder.parent.iterdir()] == [
        "seed-0"
    ]


def test_a_command_that_others_stop_is_run_again(tmp_path):
    code = "import os; os.kill(os.getpid(), 15)"
    task = ray_task.Task(tmp_path, tmp_path / "a", "", ["-c", code], tmp_path, 1, "", None)
    with pytest.raises(ray_task.StoppedThere):
        ray_task.train(task)


def shares(nodes, *arguments):
    found = ray_cluster.share([{"memory": 8e9, **node} for node in nodes], *arguments)
    return found.cpus, found.gpus, found.threads, found.at_once


def test_what_each_training_gets(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    two = [{"CPU": 4}, {"CPU": 2}]
    assert shares(two, 9, "auto") == (1, 0, 1, 9)
    assert shares(two, 2, "auto") == (2, 0, 2, 2)  # three would not fit into the smaller node
    assert shares(two, 9, "auto", 3) == (2, 0, 2, 3)
    assert shares(two, 20, "cpu", 12) == (0.5, 0, 1, 12)
    with_gpus = [{"CPU": 64}, {"CPU": 8, "GPU": 4}]
    assert shares(with_gpus, 9, "auto") == (0, 1, 2, 9)
    assert shares(with_gpus, 9, "auto", 6) == (0, 0.5, 1, 6)
    assert shares(with_gpus, 9, "cpu") == (8, 0, 8, 9)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert shares(two, 9, "auto") == (1, 0, 3, 9)
    with pytest.raises(EnvironmentFault, match="has no CPU"):
        shares([{}], 2, "auto")


@pytest.mark.parametrize(
    ("flags", "code", "expected"),
    [
        ("--address 10.0.0.1:6379", 2, "--address 10.0.0.1:6379 needs --engine ray"),
        ("--engine ray --address head", 2, "--address head: use HOST:PORT"),
        ("--engine ray --address 10.0.0.1:6379", 5, "--address 10.0.0.1:6379 needs a token"),
        ("--engine ray --address auto", 5, "--address auto needs a token"),
        ("--engine ray --address 127.0.0.1:9", 5, "no Ray cluster answers at 127.0.0.1:9"),
        ("--engine ray", 5, "install it with: pip install 'visavis[ray]'"),
    ],
)
def test_a_cluster_that_cannot_be_used_is_refused(
    flags, code, expected, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(os, "environ", os.environ.copy())
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        os.environ.pop(name, None)
    if flags == "--engine ray":
        monkeypatch.setitem(sys.modules, "ray", None)
    arguments = ["visavis", "study", "cnn", "--out", str(tmp_path / "s"), *shlex.split(flags)]
    monkeypatch.setattr(sys, "argv", arguments)
    assert main() == code
    err = capsys.readouterr().err
    assert expected in err and err.count("\n") == 1
    assert not (tmp_path / "s").exists()


def test_a_cluster_of_several_machines_needs_a_token_whatever_its_address():
    def needs(address, *machines):
        return ray_cluster.needs_token(
            address, [{"NodeManagerAddress": machine} for machine in machines]
        )

    assert not needs("127.0.0.1:6379", "10.0.0.1")
    assert not needs("127.0.0.1:6379", "10.0.0.1", "10.0.0.1")
    assert needs("127.0.0.1:6379", "10.0.0.1", "10.0.0.2")
    assert needs("10.0.0.1:6379", "10.0.0.1") and needs("auto", "127.0.0.1")


class SilentRay:
    """A cluster of two machines; `looked` is what they answer, if they do."""

    def __init__(self, looked):
        import ray.exceptions

        self.exceptions, self.looked = ray.exceptions, looked

    def nodes(self):
        resources = {"CPU": 1.0, "memory": 8e9}
        return [
            {"NodeID": "ab" * 28, "Alive": True, "NodeManagerAddress": ip, "Resources": resources}
            for ip in ("10.0.0.1", "10.0.0.2")
        ]

    def remote(self, _):
        return self

    def options(self, **_):
        return self

    def get(self, tasks, timeout):
        if self.looked is None:
            raise self.exceptions.GetTimeoutError
        return [self.looked] * len(tasks)


@pytest.mark.parametrize(
    ("looked", "expected"),
    [
        (None, "not all machines of the Ray cluster answered within 120 seconds"),
        ((True, False), "at 127.0.0.1:6379 runs programs of anyone who can reach it"),
    ],
)
def test_machines_that_are_silent_or_open_get_no_training(looked, expected, tmp_path, monkeypatch):
    joined = contextlib.nullcontext(SilentRay(looked))
    monkeypatch.setattr(ray_cluster, "joined", lambda _: joined)
    commands = {tmp_path / "cnn" / "seed-0": []}
    with pytest.raises(EnvironmentFault, match=expected):
        ray_engine.run(commands, "127.0.0.1:6379", trainings=1, device="cpu")
    assert list(tmp_path.iterdir()) == []
