"""What `visavis doctor` reports about machines that are ready and machines that are not."""

import importlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from visavis.cli import doctor, main
from visavis.data import download
from visavis.training import hardware


@pytest.fixture
def checks():
    return doctor.doctor


def test_this_machine_is_ready_and_nothing_needs_the_network(checks):
    found = checks()
    assert list(found) == list(doctor.CHECKS)
    assert not [check for check in found.values() if check.status == "fail"]
    assert found["torch"].found.startswith(importlib.metadata.version("torch"))
    assert found["data"].status == "warn"  # the tests' cache is empty
    assert "visavis data fetch" in found["data"].advice
    assert "kept in their folder" in found["W&B"].found


@pytest.mark.fault(31)
def test_a_torchvision_that_does_not_match_is_reported_with_a_fix(checks, monkeypatch):
    import_module = importlib.import_module

    def broken_import(name):
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist")
        return import_module(name)

    monkeypatch.setattr(importlib, "import_module", broken_import)
    check = checks()["torchvision"]
    assert (check.status, check.found) == ("fail", "operator torchvision::nms does not exist")
    assert check.advice == "pip install --force-reinstall torch torchvision"


@pytest.mark.fault(31)
def test_a_missing_package_is_named_with_how_to_get_it(checks, monkeypatch):
    for module in ("pytorch_grad_cam", "jinja2", "uvicorn", "starlette", "pyarrow", "PIL"):
        monkeypatch.setitem(sys.modules, module, None)
    found = checks()
    for name in ("grad-cam", "jinja2", "uvicorn", "starlette", "pyarrow", "pillow"):
        assert (found[name].status, found[name].found) == ("fail", f"{name} is missing")
        assert re.fullmatch(rf"pip install '{name}>=[\d.]+'", found[name].advice)


def test_what_a_package_lacks_is_named_not_the_package(checks, monkeypatch):
    import_module = importlib.import_module

    def lacking(name):
        if name == "lightning":
            raise ModuleNotFoundError("No module named 'torchmetrics'", name="torchmetrics")
        if name == "scipy":
            raise ImportError("libopenblas.so.0: cannot open shared object file")
        return import_module(name)

    monkeypatch.setattr(importlib, "import_module", lacking)
    found = checks()
    assert found["lightning"].found == "torchmetrics is missing"
    assert found["lightning"].advice == "pip install torchmetrics"
    assert "libopenblas" in found["scipy"].found
    assert found["scipy"].advice == "pip install --force-reinstall scipy"


def test_every_package_that_visavis_needs_is_checked():
    assert doctor.PACKAGES[:4] == ["torch", "torchvision", "lightning", "grad-cam"]
    assert {"pillow", "numpy", "uvicorn"} < set(doctor.PACKAGES)
    assert not {"wandb", "ray", "timm", "pytest"} & set(doctor.PACKAGES)


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    ("driver", "cuda", "variable", "why"),
    [
        (False, "13.0", None, "there is no NVIDIA driver"),
        (True, None, None, "has no CUDA"),
        (True, "13.0", "", "CUDA_VISIBLE_DEVICES is ''"),
        (True, "13.0", None, "too old"),
    ],
)
@pytest.mark.fault(31)
def test_why_there_is_no_gpu(checks, monkeypatch, tmp_path, driver, cuda, variable, why):
    def init():
        raise RuntimeError("The NVIDIA driver on your system is too old")

    monkeypatch.setattr(doctor, "DRIVER", tmp_path if driver else tmp_path / "none")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "init", init)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if variable is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    found = checks()["GPU"]
    assert why in found.found and found.status == ("warn" if driver else "ok")
    assert bool(found.advice) == driver


@pytest.fixture
def no_gpu(monkeypatch):
    for module in (torch.cuda, torch.backends.mps):
        monkeypatch.setattr(module, "is_available", lambda: False)


@pytest.mark.usefixtures("no_gpu")
def test_what_is_short_is_a_warning(checks, monkeypatch):
    monkeypatch.setattr(doctor, "DISK_GB", 1e9)
    monkeypatch.setattr(hardware, "bf16_speedup", lambda: 2.0)
    found = checks()["disk"]
    assert found.status == "warn" and found.advice


def test_a_folder_that_cannot_be_written_fails(checks, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert checks()["disk"].status == "fail"


def test_data_in_the_cache_is_found(checks, monkeypatch, tmp_path):
    monkeypatch.setattr(download, "cached", lambda: tmp_path)
    assert checks()["data"].status == "ok"


def test_a_check_that_breaks_down_fails_and_leaves_the_others(checks, monkeypatch, capsys):
    monkeypatch.setattr(hardware, "bf16_speedup", lambda: 1 / 0)
    found = checks()
    assert found["bf16"].status == "fail" and "ZeroDivisionError" in found["bf16"].found
    assert found["GPU"].status == "ok"
    monkeypatch.setattr(sys, "argv", ["visavis", "doctor"])
    assert main() == 5
    assert "fail  bf16" in capsys.readouterr().out


def test_json_holds_the_same_checks(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["visavis", "doctor", "--json"])
    assert main() == 0
    listed = json.loads(capsys.readouterr().out)
    assert [check["name"] for check in listed] == list(doctor.CHECKS)
    assert set(listed[0]) == {"name", "status", "found", "advice"}


@pytest.mark.skipif(not shutil.which("make"), reason="there is no make")
@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("print('Python 3.10.1'); sys.exit('version_info' in str(sys.argv))", "3.10.1 is too old"),
        ("sys.exit('ensurepip' in str(sys.argv))", "cannot make a virtual environment"),
    ],
)
@pytest.mark.fault(31)
def test_a_python_that_will_not_do_is_refused_before_anything_is_installed(
    script, expected, tmp_path
):
    project, python = Path(__file__).parents[1], tmp_path / "python"
    for file in ("Makefile", "pyproject.toml", "requirements/lock.txt"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        shutil.copy(project / file, tmp_path / file)
    python.write_text(f"#!{sys.executable}\nimport sys\n{script}\n")
    python.chmod(0o755)
    made = subprocess.run(
        ["make", "-C", tmp_path, "setup", f"PYTHON={python}"], capture_output=True, text=True
    )
    assert made.returncode == 2 and expected in made.stderr
    assert not (tmp_path / ".venv").exists()
