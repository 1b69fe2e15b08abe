"""C++ that training steps call, compiled on this machine for its own processor."""

import ctypes
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor

from visavis.errors import EnvironmentFault

Source = Literal["activation.cpp", "attention.cpp", "mirror.cpp", "planes.cpp", "winograd.cpp"]

PRODUCTS: tuple[Source, ...] = ("mirror.cpp", "winograd.cpp")
"""What spares products, on any processor with vectors; the rest is for AVX-512."""

VECTOR = 16
"""Numbers in a vector of AVX-512. All but mirror.cpp read and write channels by so many, in halves
where these come in pairs, and heads of attention.cpp are as long; mirror.cpp takes any number of
channels, but loses time between them."""


def wide_vectors() -> bool:
    """Whether the processor has vectors of 16 numbers (AVX-512)."""
    return torch.backends.cpu.get_cpu_capability().startswith("AVX512")


def has_vectors() -> bool:
    """Whether the processor has vectors of 8 numbers or more (AVX2, AVX-512)."""
    return wide_vectors() or torch.backends.cpu.get_cpu_capability() == "AVX2"


def compiler() -> str | None:
    """Where g++ is, if it is there: what it compiles shares its threads with PyTorch."""
    return shutil.which("g++")


@functools.cache
def library(source: Source) -> ctypes.CDLL:
    """The functions of a file beside this one, compiled (a few seconds) and loaded.

    Raises:
        EnvironmentFault: no compiler, or it fails, or what it made cannot be loaded.
    """
    if (command := compiler()) is None:
        raise EnvironmentFault("there is no C++ compiler (g++)")
    flags = ("-std=c++17", "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "-Wno-psabi")
    try:
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / "made.so"
            subprocess.run(
                [command, *flags, str(Path(__file__).with_name(source)), "-o", str(made)],
                check=True,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=120,
            )
            return ctypes.CDLL(str(made))
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip().splitlines() or ["it says nothing"]
        reason = next((line for line in said if "error" in line), said[-1])
        raise EnvironmentFault(f"{command} does not compile {source}: {reason}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnvironmentFault(f"{source} cannot be compiled and loaded: {error}") from error


def type_of(x: Tensor) -> torch.dtype | None:
    """The type in which a training step computes with `x`, if there are functions for it."""
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    types = (torch.float32, torch.bfloat16)  # autocast leaves float64 alone
    return dtype if x.device.type == "cpu" and {x.dtype, dtype} <= set(types) else None


def empty(like: Tensor, *shape: int) -> Float[Tensor, "n c h w"]:
    """Pictures of that shape, channels last, for a function to fill."""
    return torch.empty(shape, dtype=like.dtype, memory_format=torch.channels_last)


def call(source: Source, name: str, *arrays: Tensor | None, sizes: tuple[int, ...]) -> None:
    """Call the function of that name for the first array's type, with PyTorch's threads.

    Args:
        arrays: as the function has them; None is handed on as a null pointer.

    Raises:
        EnvironmentFault: see `library`.
        ValueError: an array that does not lie in the CPU's memory without gaps.
    """
    for array in arrays:
        if array is not None and not (array.device.type == "cpu" and _without_gaps(array)):
            raise ValueError(f"{name} cannot take an array of {array.shape}, {array.stride()}")
    dtype = str(cast(Tensor, arrays[0]).dtype).removeprefix("torch.")
    pointers = (ctypes.c_void_p(None if a is None else a.data_ptr()) for a in arrays)
    function = getattr(library(source), f"{name}_{dtype}")
    function(*pointers, *sizes, torch.get_num_threads())


def _without_gaps(array: Tensor) -> bool:
    pictures = array.ndim == 4
    return array.is_contiguous() or (
        pictures and array.is_contiguous(memory_format=torch.channels_last)
    )
