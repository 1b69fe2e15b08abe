"""The Ray engine: the trainings of a study as tasks of a Ray cluster, on all of its machines.

Each gets one GPU, if the cluster has any, or else an equal share of the cores; Ray queues what does
not fit. A task that is lost with its worker or its machine is run again elsewhere, and its training
goes on from its last finished epoch; one whose command fails is not.

Machines that see the folder of the study work in it. Others get its study.json, work in a temporary
folder, and hand back the run folder.
"""

import contextlib
import logging
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from visavis import run_folder
from visavis.cli import local_engine, ray_cluster, ray_task
from visavis.cli.progress import Progress, failure
from visavis.config import Device
from visavis.errors import EnvironmentFault

log = logging.getLogger(__name__)

RETRIES = 5
"""How often a training may lose its worker or its machine."""
PROBE_SECONDS = 120.0
"""How long a machine may take to start a worker and import visavis."""


def run(
    commands: Mapping[Path, Sequence[str]],
    address: str,
    *,
    trainings: int,
    device: Device,
    jobs: int = 0,
) -> dict[Path, str]:
    """Run Python with the arguments of each run folder, on the cluster at `address`.

    `ray_cluster.prepare` was called. What a command prints is appended to job.log in its folder.
    One that fails does not keep the others from running. If this process is stopped, so are all
    tasks.

    Args:
        commands: of run folders OUT/VARIANT/seed-N. Where a command names its run folder, it is
            given the path that the folder has on its machine.
        trainings: with `device` and `jobs`, as in `ray_cluster.share`.

    Returns:
        Why each of those that failed did.

    Raises:
        EnvironmentFault: the cluster cannot be joined, has no CPUs, or lets anyone in.
    """
    if not commands:
        return {}
    out = next(iter(commands)).absolute().parents[1]
    with ray_cluster.joined(address) as ray, _marker(out) as marker:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        each = ray_cluster.share([node["Resources"] for node in nodes], trainings, device, jobs)
        shared = _probe(ray, nodes, marker, address)
        train = ray.remote(ray_task.train).options(
            num_cpus=each.cpus,
            num_gpus=each.gpus,
            memory=each.memory or None,
            max_retries=RETRIES,
            retry_exceptions=[ray_task.StoppedThere],
            scheduling_strategy="SPREAD",
        )

        def start(folder: Path) -> Any:
            place = folder.absolute()
            name = str(place.relative_to(out))
            files = None if shared else ray_task.packed(out, (run_folder.STUDY, name))
            task = ray_task.Task(
                out,
                place,
                str(folder),
                commands[folder],
                Path.cwd(),
                each.threads,
                marker.name,
                files,
            )
            return train.remote(task)

        log.info("%d trainings to do, on %d Ray nodes", len(commands), len(nodes))
        return _follow(ray, start, list(commands), each.at_once)


@contextlib.contextmanager
def _marker(out: Path) -> Iterator[Path]:
    """A file by which a machine knows the folder of the study; its name is that of no other."""
    marker = out / f".visavis-{secrets.token_hex(8)}"
    marker.touch()
    try:
        yield marker
    finally:
        marker.unlink(missing_ok=True)


def _probe(ray: Any, nodes: Sequence[Mapping[str, Any]], marker: Path, address: str) -> bool:
    """Whether all nodes see the folder of the study.

    Raises:
        EnvironmentFault: they are no place for a study.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

    look = ray.remote(ray_task.look)
    places = [On(node["NodeID"], soft=True) for node in nodes]
    try:
        looks = [look.options(num_cpus=0, scheduling_strategy=at).remote(marker) for at in places]
        found = ray.get(looks, timeout=PROBE_SECONDS)
    except ray.exceptions.GetTimeoutError as error:
        raise EnvironmentFault(
            f"not all machines of the Ray cluster answered within {PROBE_SECONDS:.0f} seconds; see "
            "`ray status` on its head node, and repeat the command"
        ) from error
    except ray.exceptions.RayError as error:
        raise EnvironmentFault(
            f"a machine of the Ray cluster cannot run visavis ({str(error).splitlines()[-1]}); "
            "install the same version with its extra, visavis[ray], on all of them"
        ) from error
    secured = all(token for _, token in found)
    if address and ray_cluster.needs_token(address, nodes) and not secured:
        raise EnvironmentFault(
            f"the Ray cluster at {address} runs programs of anyone who can reach it; start all its "
            "nodes with RAY_AUTH_MODE=token"
        )
    shared = all(sees for sees, _ in found)
    if not shared:
        log.info("not all nodes see %s: they hand back their run folders", marker.parent)
    return shared


def _follow(
    ray: Any, start: Callable[[Path], Any], waiting: list[Path], at_once: int
) -> dict[Path, str]:
    """Start a task for each run folder, and report on all until they have ended."""
    running, failed = dict[Any, Progress](), dict[Path, str]()
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                folder = waiting.pop(0)
                progress = Progress(folder)
                running[start(folder)] = progress
            done, _ = ray.wait(list(running), timeout=local_engine.POLL_SECONDS)
            for progress in running.values():
                progress.report()
            for task in done:
                progress = running.pop(task)
                machine, reason = _ended(ray, task, progress.folder)
                if reason:
                    failed[progress.folder] = reason
                left = len(waiting) + len(running)
                log.info(f"{progress.label}: {reason or f'finished on {machine}'}; {left} left")
    finally:
        for task in running:
            ray.cancel(task)
        if running:
            patience = local_engine.GRACE_SECONDS + 5
            ray.wait(list(running), num_returns=len(running), timeout=patience)
    return failed


def _ended(ray: Any, task: Any, folder: Path) -> tuple[str, str | None]:
    """The machine of a task, and why it failed, if it did; its files are in `folder`."""
    try:
        outcome = ray.get(task)
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        return "", str(cause).partition("\n")[0] or type(cause).__name__
    if outcome.files is not None:
        try:
            ray_task.unpack(outcome.files, folder)
        except OSError as error:  # such as a full disk: the other trainings go on
            return outcome.machine, f"its files could not be written here: {error.strerror}"
    return outcome.machine, failure(folder, outcome.code)
