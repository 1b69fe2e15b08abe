import shutil

import pytest
import torch

from visavis.config import TrainConfig
from visavis.training import hardware

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "capability", "images", "compiler", "expected"),
    [
        ("vit", "AVX512", 400_000, "/usr/bin/g++", True),
        ("vit", "AVX2", 400_000, "/usr/bin/g++", True),
        ("vit", "DEFAULT", 400_000, "/usr/bin/g++", False),  # not known there
        ("vit", "AVX512", 1_000, "/usr/bin/g++", False),  # would not repay the compilation
        ("vit", "AVX512", 400_000, None, False),
        ("cnn", "AVX512", 400_000, "/usr/bin/g++", True),
        ("cnn", "AVX2", 400_000, "/usr/bin/g++", True),
    ],
)
def test_compiling_on_a_cpu_needs_a_compiler_and_a_long_training(
    monkeypatch, name, capability, images, compiler, expected
):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(shutil, "which", lambda name: compiler)
    assert hardware.use_compile(TrainConfig(), CPU, name, images=images) is expected


def test_what_the_user_says_of_compiling_and_precision_is_done():
    on, off = TrainConfig(compile="on"), TrainConfig(compile="off")
    assert hardware.use_compile(on, CPU, "vit", images=1)
    assert not hardware.use_compile(off, CPU, "vit", images=10**6)
    assert not hardware.use_compile(on, torch.device("cuda"), "cnn", images=10**6)
    assert hardware.use_bf16(TrainConfig(precision="bf16"), CPU)
    assert not hardware.use_bf16(TrainConfig(precision="float32"), CPU)


@pytest.mark.parametrize(("slowdown", "asked"), [(100.0, [128]), (0.4, [128, 768])])
def test_a_processor_without_bf16_is_asked_for_no_large_product(monkeypatch, slowdown, asked):
    sides = []

    class Matrix:
        """Stands for one of torch's; its product takes as long as its type says."""

        def __init__(self, side, dtype):
            if side not in sides:
                sides.append(side)
            self.seconds = slowdown if dtype == torch.bfloat16 else 1.0

        def __matmul__(self, other):
            return self.seconds

    monkeypatch.setattr(torch, "ones", lambda rows, columns, dtype: Matrix(rows, dtype))
    monkeypatch.setattr(hardware, "seconds", lambda work, device: work())
    hardware.bf16_speedup.cache_clear()
    try:
        assert hardware.bf16_speedup() == pytest.approx(1 / slowdown)
    finally:
        hardware.bf16_speedup.cache_clear()
    assert sides == asked
