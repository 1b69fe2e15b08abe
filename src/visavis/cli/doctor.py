"""Checks whether this machine is ready. Each check reports what it found and, if needed, a fix.

Reads and writes no files.
"""

import contextlib
import importlib
import importlib.metadata
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from visavis.config import TrackingConfig

Status = Literal["ok", "warn", "fail"]

MEMORY_GB = 5.0
"""No command needs more than this."""
DISK_GB = 1.0
"""For CIFAR-10, its archive, and a few experiments."""
REINSTALL = "pip install --force-reinstall torch torchvision"


@dataclass(frozen=True)
class Check:
    """The result of one check."""

    name: str
    status: Status
    found: str
    advice: str = ""
    """How to fix what is wrong; empty if nothing is."""


def doctor() -> list[Check]:
    """Run all checks. One that raises counts as failed, and the others still run."""
    checks = []
    for name, check in CHECKS.items():
        try:
            checks.append(check(name))
        except Exception as error:
            found = " ".join(f"{type(error).__name__}: {error}".split())
            checks.append(Check(name, "fail", found, "the check itself failed"))
    return checks


def _python(name: str) -> Check:
    return Check(name, "ok", f"{platform.python_version()} in {sys.prefix}")


def _torch(name: str) -> Check:
    """Torch and torchvision must be of matching releases."""
    try:
        torch, torchvision = (importlib.metadata.version(p) for p in ("torch", "torchvision"))
    except importlib.metadata.PackageNotFoundError as error:
        return Check(name, "fail", f"{error.name} is missing", "pip install torch torchvision")
    found = f"{torch}, torchvision {torchvision}"
    try:
        importlib.import_module("torchvision")
    except Exception as error:  # "operator torchvision::nms does not exist", for one
        reason = str(error).splitlines()[0]
        return Check(name, "fail", f"{found}: {reason}", f"releases do not match; {REINSTALL}")
    return Check(name, "ok", found)


def _package(module: str, package: str) -> Callable[[str], Check]:
    def check(name: str) -> Check:
        try:
            importlib.import_module(module)
        except Exception as error:
            found = " ".join(str(error).split()) or type(error).__name__
            return Check(name, "fail", found, f"pip install '{package}'")
        return Check(name, "ok", importlib.metadata.version(re.split("[<>=]", package)[0]))

    return check


def _cpu(name: str) -> Check:
    import torch

    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    flags = ""
    with contextlib.suppress(OSError):
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    bf16 = [flag for flag in ("avx512_bf16", "amx_bf16") if flag in flags]
    features = ", ".join([torch.backends.cpu.get_cpu_capability(), *bf16])
    return Check(name, "ok", f"{cores} core{'s' if cores > 1 else ''}, {features}")


def _bf16(name: str) -> Check:
    import torch

    from visavis.config import TrainConfig
    from visavis.training.hardware import bf16_speedup, precision

    ratio = bf16_speedup()
    used = "used" if precision(TrainConfig(), torch.device("cpu")) == "bf16" else "not used"
    return Check(name, "ok", f"{ratio:.2g} times the speed of float32 on the CPU: {used}")


def _gpu(name: str) -> Check:
    import torch

    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 1e9
        return Check(name, "ok", f"{torch.cuda.get_device_name(0)}, {memory:.0f} GB")
    if torch.backends.mps.is_available():
        return Check(name, "ok", "Apple GPU (mps)")
    return Check(name, "ok", "none; everything runs on the CPU")


def _memory(name: str) -> Check:
    available = _available_memory()
    if available is None:
        return Check(name, "ok", "unknown on this system")
    if available < MEMORY_GB:
        advice = f"close other programs: some commands need {MEMORY_GB:.0f} GB"
        return Check(name, "warn", f"{available:.1f} GB available", advice)
    return Check(name, "ok", f"{available:.1f} GB available")


def _available_memory() -> float | None:
    """In GB; at most what a container's limit leaves."""
    amounts = []
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable:"))
        amounts.append(int(line.split()[1]) * 1024 / 1e9)
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        limit, used = (int((group / f"memory.{k}").read_text()) for k in ("max", "current"))
        amounts.append((limit - used) / 1e9)
    return min(amounts, default=None)


def _disk(name: str) -> Check:
    here = Path.cwd()
    free = shutil.disk_usage(here).free / 1e9
    found = f"{free:.1f} GB free in {here}"
    if not os.access(here, os.W_OK):
        return Check(name, "fail", f"no permission to write to {here}", "use a folder of your own")
    if free < DISK_GB:
        return Check(name, "warn", found, f"make room: {DISK_GB:.0f} GB is enough")
    return Check(name, "ok", found)


def _data(name: str) -> Check:
    from visavis.data import download

    if folder := download.cached():
        return Check(name, "ok", f"CIFAR-10 is in {folder}")
    advice = (
        "download it with visavis data fetch, give your copy with --data.dir, or use the built-in "
        "images with --data.source shapes"
    )
    return Check(name, "warn", f"CIFAR-10 is not in {download.cache_folder()}", advice)


def _wandb(name: str) -> Check:
    from visavis.training.tracking import mode

    try:
        version = importlib.metadata.version("wandb")
    except importlib.metadata.PackageNotFoundError:
        return Check(name, "warn", "missing; runs are not tracked", "pip install 'wandb<0.32'")
    means = {
        "online": "an API key is set, so runs are uploaded",
        "offline": "runs are kept in their folder",
        "off": "runs are not tracked",
    }
    return Check(name, "ok", f"{version}, {means[mode(TrackingConfig())]}")


CHECKS: dict[str, Callable[[str], Check]] = {
    "python": _python,
    "torch": _torch,
    "lightning": _package("lightning", "lightning>=2.6.6,<2.7"),
    "grad-cam": _package("pytorch_grad_cam", "grad-cam"),
    "captum": _package("captum", "captum"),
    "processor": _cpu,
    "bf16": _bf16,
    "GPU": _gpu,
    "memory": _memory,
    "disk": _disk,
    "data": _data,
    "W&B": _wandb,
}
