"""How fast both models train, answer and are explained on this machine.

Trains each model of a preset for one epoch of whole pictures, drawn ones, in a folder that is
thrown away: the very code that `visavis run` calls, timed as it times itself. Drawn pictures are as
large as those of CIFAR-10, and arithmetic does not look at what they show.
"""

import dataclasses
import os
import platform
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from visavis import hardware, models, runs, saliency
from visavis.config import MODEL_NAMES, Experiment, ModelConfig, TrackingConfig
from visavis.data import Dataset
from visavis.evaluate import evaluate
from visavis.loader import TrainingBatches, to_images, to_tensor
from visavis.models.cnn import CNN
from visavis.models.vit import ViT
from visavis.train import train
from visavis.trained import load_trained

CIFAR10_PICTURES = 45_000
"""In an epoch of CIFAR-10."""

EXPLAINED = 100
"""Pictures whose maps are timed."""


def bench(experiment: Experiment, dataset: Dataset) -> dict[str, Any]:
    """The machine and both models in numbers.

    Returns:
        {"machine": …, "models": {"cnn": …, "vit": …}}; rates in GFLOP/s and pictures per second,
        shares are from 0; for that of the matrix rate see `training_gflops`.

    Raises:
        EnvironmentFault: the device asked for is not there.
    """
    device = hardware.select_device(experiment.train.device)
    bf16 = hardware.use_bf16(experiment.train, device)
    rates = {"float32": matrix_rate(torch.float32, device)}
    if bf16:
        rates["bf16"] = matrix_rate(torch.bfloat16, device)
    rate = rates["bf16" if bf16 else "float32"]
    return {
        "machine": {
            "device": device.type,
            "device_name": hardware.device_name(device),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "precision": "bf16" if bf16 else "float32",
            "matrix_gflops": rates,
        },
        "models": {
            name: _model(name, experiment, dataset, device=device, rate=rate)
            for name in MODEL_NAMES
        },
    }


def matrix_rate(dtype: torch.dtype, device: torch.device, *, side: int = 2048) -> float:
    """GFLOP/s of the product of two square matrices: the best of ten."""
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return max(2 * side**3 / hardware.seconds(lambda: a @ b, device) for _ in range(10)) / 1e9


def training_gflops(config: ModelConfig, *, fused: bool) -> float:
    """GFLOP of the matrix products and convolutions for one picture, forward and backward.

    Args:
        fused: without the products of mirrored pairs that training steps on a CPU then leave out.
            Those that `winograd` spares in float32 besides are counted: to add before one
            multiplies makes an implementation faster, not a model smaller. So a share of the
            machine's rate can be above 1.
    """
    with torch.random.fork_rng(devices=[]):
        model = models.build(config)
        images = torch.rand(2, 3, 32, 32)

    def forward() -> Tensor:
        return F.cross_entropy(model(images), torch.zeros(2, dtype=torch.int64))

    if fused and isinstance(model, ViT):
        # Attention stays written out: the counter sees nothing of the kernel, whose products these
        # are too.
        model.fuse(products_only=True)
    gflops = _counted(lambda: torch.autograd.backward(forward()))
    if fused and isinstance(model, CNN):
        # Each product that the forward pass is spared, the backward pass is spared twice. That pass
        # is not counted: it takes fewer yet, none with the zeros above and below the picture. In
        # bf16, since `winograd` has no part in it.
        plain = _counted(forward)
        model.fuse(products_only=True)
        with torch.autocast("cpu", torch.bfloat16):
            gflops -= 3 * (plain - _counted(forward))
    return gflops / len(images)


def _counted(work: Callable[[], object]) -> float:
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() / 1e9


def _model(
    name: str, experiment: Experiment, dataset: Dataset, *, device: torch.device, rate: float
) -> dict[str, Any]:
    config: ModelConfig = experiment.model(name)
    one_epoch = dataclasses.replace(config, optim=dataclasses.replace(config.optim, epochs=1))
    compiled = hardware.use_compile(  # as in the training whose epoch this stands for
        experiment.train,
        device,
        name,
        pictures=CIFAR10_PICTURES * config.optim.epochs,
    )
    settings = dataclasses.replace(experiment.train, compile="on" if compiled else "off")
    changes: dict[str, Any] = {name: one_epoch, "train": settings}
    plan = dataclasses.replace(experiment, **changes, tracking=TrackingConfig(wandb="off"))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / name
        train(folder, plan, name, dataset)
        evaluate(folder, dataset, device=device)
        model = hardware.place(load_trained(folder), device)
        training, tested, facts = (
            runs.read_json(folder / file)
            for file in (runs.TRAINING, runs.EVALUATION, runs.PROVENANCE)
        )
    images = to_images(dataset.test_pixels[:EXPLAINED]).to(device)
    classes = torch.from_numpy(dataset.test_labels[:EXPLAINED]).to(device)
    method = saliency.DEFAULT_METHOD[name]
    explaining = min(
        hardware.seconds(lambda: saliency.explain(model, images, classes, method), device)
        for _ in range(3)
    )
    fused = facts["compiled"] and device.type == "cpu"
    gflops = training_gflops(config, fused=fused)
    per_second = training["pictures_per_second"]
    return {
        "parameters": training["parameters"],
        "compiled": facts["compiled"],
        "training_gflop_per_picture": gflops,
        "training_pictures_per_second": per_second,
        "share_of_matrix_rate": gflops * per_second / rate,
        "loader_share": _loader_seconds(dataset, one_epoch, device) * per_second,
        "inference_pictures_per_second": tested["inference_pictures_per_second"],
        "explained_by": method,
        "explanations_per_second": EXPLAINED / explaining,
    }


def _loader_seconds(dataset: Dataset, config: ModelConfig, device: torch.device) -> float:
    """Seconds per picture to choose and augment a batch, without any training."""
    batches = TrainingBatches(
        to_tensor(dataset.train_pixels).to(device),
        torch.from_numpy(dataset.train_labels).to(device),
        config.optim,
        seed=0,
        epoch=0,
    )

    def epoch() -> None:
        for _ in batches:
            pass

    return hardware.seconds(epoch, device) / (len(batches) * batches.batch_size)
