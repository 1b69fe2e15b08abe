"""What this machine can do, found by asking it: device and precision."""

import contextlib
import functools
import time
from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from visavis.config import Device, TrainConfig
from visavis.errors import EnvironmentFault
from visavis.models import Model


def select_device(name: Device) -> torch.device:
    """The device to compute on; auto prefers a GPU. Turns TF32 off, on any device.

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
    """The model on the device, its filters channels-last where that is faster."""
    model.to(device)
    if device.type != "mps":
        model.to(memory_format=torch.channels_last)
    return model


def channels_last(images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """Images in the memory format that CPUs and CUDA prefer.

    On MPS they are left alone: its backward pass in that format is 12 to 30 times slower.
    """
    if images.device.type == "mps":
        return images
    return images.contiguous(memory_format=torch.channels_last)


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


Precision = Literal["bf16", "fp16", "float32"]

DTYPES: dict[Precision, torch.dtype] = {
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "float32": torch.float32,
}


def precision(config: TrainConfig, device: torch.device) -> Precision:
    """What the forward and backward pass of training run in; weights are float32 in any case.

    auto: bf16 where it is fast; fp16 on a CUDA card without it, such as a T4.

    Raises:
        EnvironmentFault: fp16 was asked for on a device that does not train in it.
    """
    if config.precision == "fp16" and device.type != "cuda":
        raise EnvironmentFault(
            f"--train.precision fp16 needs a CUDA GPU, but this runs on {device.type}; use auto"
        )
    if config.precision != "auto":
        return config.precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if device.type == "cpu" and bf16_speedup() > 1.3 else "float32"
