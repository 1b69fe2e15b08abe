"""C++ that training steps call, compiled on this machine for its own processor."""

import ctypes
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Literal, cast

import torch
from torch import Tensor

from visavis.errors import EnvironmentFault

Source = Literal["activation.cpp", "attention.cpp", "mirror.cpp"]


TYPES = (torch.float32, torch.bfloat16)
"""Of the numbers that the functions are compiled for."""


def wide_vectors() -> bool:
    """Whether the processor has vectors of 16 numbers (AVX-512)."""
    return torch.backends.cpu.get_cpu_capability().startswith("AVX512")


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


def known(x: Tensor) -> bool:
    """Whether there are functions for such an array."""
    return x.dtype in TYPES and x.device.type == "cpu"


def call(source: Source, name: str, *arrays: Tensor | None, numbers: tuple[int, ...]) -> None:
    """Call the function of that name for the first array's type, with PyTorch's threads.

    Args:
        arrays: `known`, and as they lie in memory: what is no whole array must not be handed over.
            None is handed on as a null pointer.

    Raises:
        EnvironmentFault: see `library`.
    """
    first = cast(Tensor, arrays[0])
    function = getattr(library(source), f"{name}_{str(first.dtype).removeprefix('torch.')}")
    pointers = (ctypes.c_void_p(None if a is None else a.data_ptr()) for a in arrays)
    function(*pointers, *numbers, torch.get_num_threads())
