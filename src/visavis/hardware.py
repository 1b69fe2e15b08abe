"""What this machine can do, found by asking it: device, precision, whether compiling pays."""

import contextlib
import functools
import time
from collections.abc import Callable

import torch

from visavis.config import Device, TrainConfig
from visavis.errors import EnvironmentFault
from visavis.models import Model
from visavis.models.compiled import compiler, has_vectors


def select_device(name: Device) -> torch.device:
    """The device to compute on; auto prefers a GPU.

    Raises:
        EnvironmentFault: the device asked for by name is not there.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    # TF32 would round the float32 arithmetic of tests and heatmaps to 10 bits; training has bf16.
    torch.backends.cudnn.allow_tf32 = False
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    if not available[name]:
        raise EnvironmentFault(
            f"device {name}: PyTorch finds no such device here; ask for cpu, or run "
            "`visavis doctor` to see why"
        )
    return torch.device(name)


def device_name(device: torch.device) -> str:
    """The name that the maker gave the device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return device.type


def clock(device: torch.device) -> float:
    """Seconds on a clock that is read when the device has done all that was handed to it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """How long `work` takes, to its end on the device."""
    start = clock(device)
    work()
    return clock(device) - start


def place(model: Model, device: torch.device) -> Model:
    """The model on the device, its `Conv2d` filters channels-last, which CPUs and GPUs prefer."""
    model.to(device)
    model.to(memory_format=torch.channels_last)
    return model


@functools.cache
def bf16_speedup() -> float:
    """How many times faster a bf16 matrix product is than a float32 one, on the CPU."""

    def ratio(side: int) -> float:
        def product(dtype: torch.dtype) -> float:
            matrix = torch.ones(side, side, dtype=dtype)
            return min(seconds(lambda: matrix @ matrix, torch.device("cpu")) for _ in range(4))

        return product(torch.float32) / product(torch.bfloat16)

    # A processor that lacks bf16 takes seconds for a large product, so a small one is asked first.
    small = ratio(128)
    return ratio(768) if small > 0.1 else small


def use_bf16(config: TrainConfig, device: torch.device) -> bool:
    """Whether the forward and backward pass run in bf16."""
    if config.precision != "auto":
        return config.precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bf16_speedup() > 1.3


def use_compile(config: TrainConfig, device: torch.device, name: str, *, pictures: int) -> bool:
    """Whether to compile for a model that will see `pictures` pictures, repeats included."""
    if device.type != "cpu" and name == "cnn":  # what is compiled for the CNN is for CPUs alone
        return False
    if config.compile != "auto":
        return config.compile == "on"
    if device.type == "cpu":
        return has_vectors() and compiler() is not None and pictures > 20_000
    return device.type == "cuda" and pictures > 200_000
