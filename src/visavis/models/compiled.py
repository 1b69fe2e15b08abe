"""C++ that training steps call, compiled on this machine for its own processor."""

import ctypes
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Literal

import torch

from visavis.errors import EnvironmentFault

Source = Literal["attention.cpp", "mirror.cpp"]


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
