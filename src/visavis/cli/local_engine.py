"""The local engine: the trainings of a study as processes of this machine, several at once.

How many, and what each gets (`environments`):

- with CUDA GPUs, one on each that is visible, which is the only one it sees; with another GPU, one;
- without a GPU, one on each core that this process may use, but no more than fit into the available
  memory at 2 GB each;
- or as many as --jobs says, which then share the GPUs;
- never more than the study has trainings. Each computes with an equal share of the cores, or with
  OMP_NUM_THREADS threads if that is set.
"""

import contextlib
import logging
import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from visavis import run_folder
from visavis.cli.progress import Progress, failure
from visavis.config import Device

log = logging.getLogger(__name__)

MEMORY_BYTES = 2_000_000_000
"""Of one process on a CPU; 1.3 GB on the shapes and 1.7 GB on CIFAR-10 were measured."""
POLL_SECONDS = 0.5
GRACE_SECONDS = 20.0
"""How long a process that is told to stop may take to finish what it is writing."""
PARENT = "VISAVIS_STUDY_PID"
CONTROL_GROUP = Path("/sys/fs/cgroup")


def environments(trainings: int, device: Device, jobs: int = 0) -> list[dict[str, str]]:
    """What is set in the environment of each process, for as many as run at once.

    Args:
        trainings: that the command names, finished ones, too, so that repeating it divides the
            cores as before, on the same machine with as much available memory. The number of
            threads changes the last digits of a training; OMP_NUM_THREADS fixes it.
        jobs: how many; 0: as many as the machine bears.
    """
    from visavis.training import hardware

    kind = hardware.select_device(device).type
    gpus = _gpus() if kind == "cuda" else []
    bearable = {"cuda": len(gpus), "cpu": min(cores(), available_memory() // MEMORY_BYTES)}
    n = max(1, min(jobs or bearable.get(kind, 1), trainings))
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, cores() // n))
    common = {"OMP_NUM_THREADS": threads, PARENT: str(os.getpid())}
    if not gpus:
        return [common] * n
    return [{**common, "CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} for i in range(n)]


def cores() -> int:
    """How many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _gpus() -> list[str]:
    """The visible GPUs, as CUDA_VISIBLE_DEVICES calls them."""
    import torch

    count = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",")[:count] if visible else list(map(str, range(count)))


def available_memory() -> int:
    """Memory that processes can still get, bytes: of the machine, or of the container."""
    with contextlib.suppress(OSError, ValueError):
        memory = Path("/proc/meminfo").read_text(encoding="ascii").partition("MemAvailable:")[2]
        available = 1024 * int(memory.split()[0])
        with contextlib.suppress(OSError, ValueError, KeyError):  # "max", or no control group
            return min(available, _left_in_container())
        return available
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2  # macOS


def _left_in_container() -> int:
    """The limit of the control group less what is used; cached files give way, so do not count."""
    limit, used = (
        int((CONTROL_GROUP / name).read_text(encoding="ascii"))
        for name in ("memory.max", "memory.current")
    )
    lines = (CONTROL_GROUP / "memory.stat").read_text(encoding="ascii").splitlines()
    cached = int(dict(line.split() for line in lines)["inactive_file"])
    return max(0, limit - used + cached)


def stop_with_parent() -> None:
    """Stop this process in good order when the engine that started it is gone, even by SIGKILL.

    A process that no engine started, such as one that a person typed, has nothing to watch.
    """
    parent = os.environ.get(PARENT)

    def watch() -> None:
        while str(os.getppid()) == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    if parent:
        threading.Thread(target=watch, daemon=True).start()


@dataclass
class _Job:
    """A training that is running."""

    progress: Progress
    process: subprocess.Popen[bytes]
    environment: dict[str, str]


def run(
    commands: Mapping[Path, Sequence[str]], environments: Sequence[dict[str, str]]
) -> dict[Path, str]:
    """Run the command of each run folder, as many at once as there are environments.

    What a command prints is appended to job.log in its folder. One that fails does not keep the
    others from running. If this process is stopped, so are all that it started.

    Returns:
        Why each of those that failed did.
    """
    waiting, running, failed = list(commands.items()), list[_Job](), dict[Path, str]()
    free = list(environments)
    if waiting:
        log.info("%d trainings to do, %d at once", len(waiting), min(len(free), len(waiting)))
    try:
        while waiting or running:
            while waiting and free:
                folder, command = waiting.pop(0)
                try:
                    running.append(_start(folder, command, free[0]))
                    del free[0]
                except OSError as error:  # no space, no permission, too many processes
                    failed[folder] = f"it cannot be started: {error}"
                    log.info("%s: %s", folder, failed[folder])
            time.sleep(POLL_SECONDS)
            for job in list(running):
                code = job.process.poll()
                job.progress.report()
                if code is not None:
                    running.remove(job)
                    free.append(job.environment)
                    folder = job.progress.folder
                    if reason := failure(folder, code):
                        failed[folder] = reason
                    left = len(waiting) + len(running)
                    log.info("%s: %s; %d left", job.progress.label, reason or "finished", left)
    finally:
        _stop([job.process for job in running])
    return failed


def _start(folder: Path, command: Sequence[str], environment: dict[str, str]) -> _Job:
    progress = Progress(folder)
    return _Job(progress, launch(folder, command, environment), environment)


def launch(
    folder: Path,
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    own_session: bool = True,
    directory: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start a command that appends what it prints to job.log in `folder`.

    Args:
        own_session: so that Ctrl-C is for the engine alone, which then stops all commands once.
        directory: where it starts; default: here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / run_folder.JOB_LOG).open("ab") as output:
        output.write(f"$ {shlex.join(command)}\n".encode())
        output.flush()
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env={**os.environ, **environment},
            start_new_session=own_session,
        )


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Let all finish what they are writing, then end those that do not stop."""
    for process in processes:
        process.terminate()
    end = time.monotonic() + GRACE_SECONDS
    for process in processes:
        try:
            process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
