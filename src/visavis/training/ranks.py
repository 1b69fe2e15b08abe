"""One training in several processes, each with a device and a part of every batch (DDP).

torchrun starts them, and tells each its rank. Rank 0 alone writes files, logs and reports. Nothing
here imports torch before it is needed.
"""

import atexit
import contextlib
import datetime
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

from visavis.config import TrainConfig
from visavis.errors import ConfigError, EnvironmentFault

T = TypeVar("T")

TIMEOUT = datetime.timedelta(minutes=10)
"""How long a process waits for the others. What rank 0 alone does takes seconds, but for a download
of a model's weights before the training."""


class Ranks(NamedTuple):
    """Which of how many processes this one is."""

    rank: int
    world_size: int

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0


ALONE = Ranks(0, 1)


def started() -> Ranks:
    """What torchrun says of this process; the only one, if another program started it."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return ALONE
    return Ranks(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))


def check(config: TrainConfig, *, batch: int, validation: int) -> Ranks:
    """This process among as many as the training takes.

    Args:
        batch: number of images of a step.
        validation: number of validation images.

    Raises:
        ConfigError: another number of processes was started, or a step has no equal part for each.
    """
    ranks, n = started(), config.devices
    if ranks.world_size == 1 < n:
        raise ConfigError(
            f"--train.devices {n} takes {n} processes; start them with: torchrun --standalone "
            f"--nproc-per-node={n} -m visavis train … --train.devices {n}"
        )
    if ranks.world_size > 1 and not ranks.world_size == int(os.environ["LOCAL_WORLD_SIZE"]) == n:
        raise ConfigError(
            f"torchrun started {ranks.world_size} processes, but --train.devices is {n}; use the "
            "same number, on one machine"
        )
    if batch % n or validation < n:
        raise ConfigError(
            f"--train.devices {n} does not divide a batch of {batch} images evenly, or there are "
            f"fewer validation images ({validation}); use another number, or another "
            "--cnn.optim.batch-size, --vit.optim.batch-size or --optim.batch-size"
        )
    return ranks


@contextlib.contextmanager
def joined(ranks: Ranks, config: TrainConfig) -> Iterator[None]:
    """Connect the processes of one training. A process that is alone has nothing to connect.

    They stay connected, for a second training in them.

    Raises:
        EnvironmentFault: there are fewer GPUs than processes; or a process ended or did not answer
            in time, after which this one must end, too.
    """
    if ranks.world_size == 1:
        yield
        return
    import torch
    from torch import distributed

    from visavis.training import hardware

    device = hardware.select_device(config.device)
    if device.type == "cuda":
        if torch.cuda.device_count() < ranks.world_size:
            raise EnvironmentFault(
                f"--train.devices {ranks.world_size}: PyTorch finds {torch.cuda.device_count()} "
                "GPUs here; use at most as many"
            )
        torch.cuda.set_device(ranks.rank)
    elif device.type == "mps":
        raise ConfigError(f"--train.devices {ranks.world_size}: a Mac has one GPU; use 1")
    try:
        if not distributed.is_initialized():
            distributed.init_process_group(
                "nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT
            )
            if device.type == "cuda":  # as Lightning does; NCCL warns otherwise
                atexit.register(distributed.destroy_process_group)
        yield
    except RuntimeError as error:
        if not lost_another(error):
            raise
        raise EnvironmentFault(
            "another process of this training ended, or did not answer within "
            f"{TIMEOUT.total_seconds():.0f} s; repeat the command to resume from the last finished "
            "epoch"
        ) from error


def lost_another(error: Exception) -> bool:
    """Whether an error is that of a process that waits for another one, which may be gone."""
    from torch import distributed

    return isinstance(error, distributed.DistError) or (
        isinstance(error, RuntimeError) and "gloo" in str(error).lower()
    )


def from_first(ranks: Ranks, work: Callable[[], T]) -> T:
    """What `work`, which rank 0 alone does, returns."""
    if ranks.world_size == 1:
        return work()
    from torch import distributed

    found = [work() if ranks.first else None]
    distributed.broadcast_object_list(found, src=0)
    return found[0]  # type: ignore[return-value]
