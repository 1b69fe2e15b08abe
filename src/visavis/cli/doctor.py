"""Checks whether this machine is ready. Each check reports what it found and, if needed, a fix.

Reads and writes no files.
"""

import importlib
import importlib.metadata
import os
import platform
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from visavis.cli.local_engine import cores

DRIVER = Path("/proc/driver/nvidia/version")
DISK_GB = 1.0
"""For CIFAR-10, its archive, and a few experiments."""
RELEASED_TOGETHER = ("torch", "torchvision")
MODULES = {"grad-cam": "pytorch_grad_cam", "pillow": "PIL"}
"""The packages whose name differs from that under which they are imported."""


def _required() -> dict[str, str]:
    """The packages that visavis needs, each with the releases that it was tested with."""
    try:
        lines = importlib.metadata.requires("visavis") or []
    except importlib.metadata.PackageNotFoundError:
        lines = []
    return {re.split(r"[^\w-]", line)[0]: line for line in lines if "extra ==" not in line}


REQUIRED = _required()
PACKAGES = [name for name in dict.fromkeys([*RELEASED_TOGETHER, *REQUIRED]) if name != "wandb"]
"""W&B has a check of its own."""


class Finding(NamedTuple):
    """The result of one check."""

    status: Literal["ok", "warn", "fail"]
    found: str
    advice: str = ""
    """How to fix what is wrong; empty if nothing is."""


def doctor() -> dict[str, Finding]:
    """Run all checks. One that raises counts as failed, and the others still run."""
    findings = {}
    for name, check in CHECKS.items():
        try:
            findings[name] = check()
        except Exception as error:
            found = " ".join(f"{type(error).__name__}: {error}".split())
            findings[name] = Finding("fail", found, "the check itself failed")
    return findings


def _package(package: str) -> Finding:
    try:
        importlib.import_module(_module(package))
    except ModuleNotFoundError as error:  # perhaps of another package that it needs
        module = str(error.name).partition(".")[0]
        missing = next((name for name in PACKAGES if _module(name) == module), module)
        return Finding("fail", f"{missing} is missing", _install(missing))
    except Exception as error:  # "operator torchvision::nms does not exist", for one
        again = package if package not in RELEASED_TOGETHER else " ".join(RELEASED_TOGETHER)
        advice = f"pip install --force-reinstall {again}"
        return Finding("fail", " ".join(str(error).split()), advice)
    return Finding("ok", importlib.metadata.version(package))


def _module(package: str) -> str:
    return MODULES.get(package, package.replace("-", "_"))


def _install(package: str) -> str:
    """The command that installs a package, in a release that visavis was tested with."""
    return f"pip install {shlex.quote(REQUIRED.get(package, package))}"


def _cpu() -> Finding:
    import torch

    number = cores()
    plural = "s" if number > 1 else ""
    return Finding("ok", f"{number} core{plural}, {torch.backends.cpu.get_cpu_capability()}")


def _bf16() -> Finding:
    import torch

    from visavis.config import TrainConfig
    from visavis.training.hardware import bf16_speedup, precision

    used = "used" if precision(TrainConfig(), torch.device("cpu")) == "bf16" else "not used"
    return Finding("ok", f"{bf16_speedup():.2g} times the speed of float32 on the CPU: {used}")


def _gpu() -> Finding:
    import torch

    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 1e9
        return Finding("ok", f"{torch.cuda.get_device_name(0)}, {memory:.0f} GB")
    if torch.backends.mps.is_available():
        return Finding("ok", "Apple GPU (mps)")
    found = "none; everything runs on the CPU: "
    driver = DRIVER.exists() or shutil.which("nvidia-smi") is not None
    if not driver:
        return Finding("ok", found + "there is no NVIDIA driver")
    if torch.version.cuda is None:
        advice = "install a build of PyTorch with CUDA: https://pytorch.org/get-started"
        return Finding("warn", f"{found}this PyTorch ({torch.__version__}) has no CUDA", advice)
    if (hidden := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        advice = "set it to the number of a GPU, such as 0, or unset it"
        return Finding("warn", f"{found}CUDA_VISIBLE_DEVICES is {hidden!r}", advice)
    try:
        torch.cuda.init()
        why = "the driver lists no GPU"
    except Exception as error:
        why = " ".join(str(error).split())
    return Finding("warn", found + why, "see whether nvidia-smi lists a GPU; update its driver")


def _disk() -> Finding:
    here = Path.cwd()
    free = shutil.disk_usage(here).free / 1e9
    if not os.access(here, os.W_OK):
        return Finding("fail", f"no permission to write to {here}", "use a folder of your own")
    if free < DISK_GB:
        advice = f"make room: {DISK_GB:.0f} GB is enough"
        return Finding("warn", f"{free:.1f} GB free in {here}", advice)
    return Finding("ok", f"{free:.1f} GB free in {here}")


def _data() -> Finding:
    from visavis.data import download

    if folder := download.cached():
        return Finding("ok", f"CIFAR-10 is in {folder}")
    advice = (
        "download it with visavis data fetch, give your copy with --data.dir, or use the built-in "
        "images with --data.source shapes"
    )
    return Finding("warn", f"CIFAR-10 is not in {download.cache_folder()}", advice)


def _wandb() -> Finding:
    from visavis.config import TrackingConfig
    from visavis.training.tracking import mode

    try:
        version = importlib.metadata.version("wandb")
    except importlib.metadata.PackageNotFoundError:
        return Finding("warn", "missing; runs are not tracked", _install("wandb"))
    means = {
        "online": "an API key is set, so runs are uploaded",
        "offline": "runs are kept in their folder",
        "off": "runs are not tracked",
    }
    return Finding("ok", f"{version}, {means[mode(TrackingConfig())]}")


CHECKS: dict[str, Callable[[], Finding]] = {
    "python": lambda: Finding("ok", f"{platform.python_version()} in {sys.prefix}"),
    **{package: partial(_package, package) for package in PACKAGES},
    "processor": _cpu,
    "bf16": _bf16,
    "GPU": _gpu,
    "disk": _disk,
    "data": _data,
    "W&B": _wandb,
}
