import pytest
import torch

from visavis.config import TrainConfig
from visavis.errors import EnvironmentFault
from visavis.training import hardware

CPU = torch.device("cpu")


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16"), (False, "fp16")])
def test_a_cuda_card_without_bf16_such_as_a_t4_trains_in_fp16(monkeypatch, native, expected):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    assert hardware.precision(TrainConfig(), torch.device("cuda")) == expected


@pytest.mark.parametrize(("speedup", "expected"), [(1.6, "bf16"), (1.0, "float32")])
def test_a_cpu_trains_in_bf16_where_that_is_faster(monkeypatch, speedup, expected):
    monkeypatch.setattr(hardware, "bf16_speedup", lambda: speedup)
    assert hardware.precision(TrainConfig(), CPU) == expected


def test_a_precision_that_is_named_is_used_or_refused():
    assert hardware.precision(TrainConfig(precision="bf16"), CPU) == "bf16"
    assert hardware.precision(TrainConfig(precision="float32"), torch.device("cuda")) == "float32"
    with pytest.raises(EnvironmentFault, match="fp16 needs a CUDA GPU"):
        hardware.precision(TrainConfig(precision="fp16"), CPU)


@pytest.mark.fault(31)
def test_a_gpu_that_is_asked_for_and_not_there_is_told(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EnvironmentFault, match="finds no such device here; ask for cpu") as caught:
        hardware.select_device("cuda")
    assert caught.value.exit_code == 5


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
