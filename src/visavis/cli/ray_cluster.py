"""A Ray cluster for a study: joining or starting one, and what each training gets of it."""

import contextlib
import importlib.util
import logging
import math
import os
import secrets
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from visavis.cli.exit_codes import Stopped
from visavis.cli.local_engine import MEMORY_BYTES, cores
from visavis.config import Device
from visavis.errors import ConfigError, EnvironmentFault

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_process_group_cleanup_enabled": "1",
    "RAY_worker_niceness": "0",  # else 15: trainings would yield to whatever else runs
}
"""What Ray reads from the environment when it is imported."""


class Share(NamedTuple):
    """What each training gets, in the units of Ray, and how many run at once at most."""

    cpus: float
    gpus: float
    memory: int
    threads: int
    at_once: int


def prepare(address: str) -> None:
    """Set what Ray reads from the environment, and see that a study can run at `address`.

    Args:
        address: HOST:PORT, "auto" for the cluster of this machine, or empty to start Ray here.

    Raises:
        ConfigError: `address` is none.
        EnvironmentFault: Ray is not installed, nothing answers at `address`, or it is beyond this
            machine and there is no token for it.
    """
    os.environ.update(SETTINGS)
    if importlib.util.find_spec("ray") is None:
        raise EnvironmentFault(
            "--engine ray needs the package ray; install it with: pip install 'visavis[ray]'"
        )
    path = os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token"
    token = bool(os.environ.get("RAY_AUTH_TOKEN")) or Path(path).is_file()
    host, _, port = address.rpartition(":")
    if not address:  # it will listen to the network, too
        os.environ["RAY_AUTH_MODE"] = "token"
        if not token:
            os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    elif address != "auto" and not (host and port.isdecimal()):
        raise ConfigError(f"--address {address}: use HOST:PORT, such as 10.0.0.1:6379, or auto")
    elif token:
        os.environ["RAY_AUTH_MODE"] = "token"
    elif not loopback(address):
        raise EnvironmentFault(
            f"--address {address} needs a token, since anyone who can reach a Ray cluster without "
            "token authentication can run programs on it; start its nodes with RAY_AUTH_MODE=token "
            "and the token that `ray get-auth-token --generate` writes to ~/.ray/auth_token, and "
            "copy that file here"
        )
    if host:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        except OSError as error:  # Ray itself would try for minutes
            raise EnvironmentFault(
                f"no Ray cluster answers at {address} ({error.strerror or error}); check the "
                "address, and `ray status` on its head node"
            ) from error


def loopback(address: str) -> bool:
    """Whether HOST:PORT is on this machine."""
    host = address.rpartition(":")[0].strip("[]")
    return host in ("localhost", "::1") or host.startswith("127.")


def needs_token(address: str, nodes: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a cluster is more than this machine, so that others can reach it.

    Args:
        nodes: as Ray lists them. On its head node, a cluster of many machines may be called
            127.0.0.1, too.
    """
    return not loopback(address) or len({node["NodeManagerAddress"] for node in nodes}) > 1


def share(
    nodes: Sequence[Mapping[str, float]], trainings: int, device: Device, jobs: int = 0
) -> Share:
    """Divide a cluster among the trainings of a study.

    Args:
        nodes: their resources, as Ray names them.
        trainings: that the command names, finished ones, too, so that repeating it divides the
            same cluster as before. The number of threads changes the last digits of a training;
            OMP_NUM_THREADS fixes it.
        jobs: at most so many at once; 0: as many as fit.

    Raises:
        EnvironmentFault: there is nothing to divide.
    """
    gpus = sum(int(node.get("GPU", 0)) for node in nodes) if device in ("auto", "cuda") else 0
    usable = [node for node in nodes if node.get("GPU" if gpus else "CPU", 0) >= 1]
    if not usable:
        raise EnvironmentFault("the Ray cluster has no CPU to run a task on; see `ray status`")
    cpus = sum(int(node.get("CPU", 0)) for node in usable)
    n = max(1, min(jobs or gpus or cpus, trainings))
    per_gpu = math.ceil(n / gpus) if gpus else 1
    # No task may need more than the smallest node has: it could not run there.
    smallest = min(node.get("CPU", 0) // (node["GPU"] * per_gpu if gpus else 1) for node in usable)
    threads = max(1, int(min(cpus // n, smallest)))
    memory = min(MEMORY_BYTES, max(node["memory"] for node in usable))
    return Share(
        cpus=0 if gpus else threads if n <= cpus else 1 / math.ceil(n / cpus),
        gpus=1 / per_gpu if gpus else 0,
        memory=0 if gpus or jobs else int(memory),
        threads=int(os.environ.get("OMP_NUM_THREADS") or threads),
        at_once=n if jobs else trainings,
    )


@contextlib.contextmanager
def joined(address: str) -> Iterator[Any]:
    """Ray, connected; in the end, what was started here is gone.

    Raises:
        EnvironmentFault: there is no joining it.
    """
    import ray

    # A thread of Ray prints pages about each node that is lost; `ray status` has them, too.
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        try:
            _connect(ray, address)
            yield ray
        except SystemError as error:  # what Ray makes of Ctrl-C or SIGTERM in its own code
            raise (error.__cause__ or error) from None
        finally:
            ray.shutdown()


def _connect(ray: Any, address: str) -> None:
    here = {"include_dashboard": False, "num_cpus": cores(), "object_store_memory": 100_000_000}
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        ray.init(
            address or "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            **({} if address else here),
        )
    except SystemExit:  # of Ray's own handler
        raise Stopped(signal.SIGTERM) from None
    except (ray.exceptions.RayError, OSError, RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        todo = "run the command on a machine of the cluster, with its versions and its token"
        raise EnvironmentFault(
            f"cannot join the Ray cluster at {address}: {reason}; {todo}"
            if address
            else f"cannot start Ray on this machine: {reason}"
        ) from error
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
