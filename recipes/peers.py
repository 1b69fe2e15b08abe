"""Training throughput against timm under plain Lightning: about 5 minutes on 2 CPU cores.

    .venv/bin/python recipes/peers.py [STEPS]

Each model of `standard` against the same shape built from timm's layers and trained as in most
tutorials: plain Lightning in its default precision, AdamW, torchvision transforms on PIL images, a
DataLoader with one worker process per core. Both train on full images of the built-in shapes in
batches of 250. Each measurement is a process of its own, theirs and ours alternate, and the first
steps are not timed. Prints one JSON object: images/s of each round, and the ratio of the means.
"""

import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from typing import Any

import lightning
import torch
import torch.nn.functional as F
from timm.layers import BatchNormAct2d, ConvNormAct
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from visavis import models
from visavis.config import IMAGE_SIDE, CNNConfig, DataConfig, ModelConfig, TrainConfig, ViTConfig
from visavis.data import resolve
from visavis.data.batches import to_tensor
from visavis.presets import preset
from visavis.training import hardware, memory
from visavis.training.fit import LIGHTNING_PRECISION
from visavis.training.module import Classifier

BATCH, ROUNDS = 250, 2
SETTLING = 5
"""Steps before the clock starts: worker processes start, buffers grow."""


class Augmented(Dataset):
    """PIL images, augmented as in most CIFAR-10 tutorials."""

    def __init__(self, pixels: Any, labels: Any, count: int) -> None:
        self.pixels, self.labels, self.count = pixels, labels, count
        self.transform = transforms.Compose(
            [
                transforms.ToPILImage(),
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
            ]
        )

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        row = index % len(self.labels)
        return self.transform(self.pixels[row]), int(self.labels[row])


class Plain(lightning.LightningModule):
    """The module on the first page of Lightning's manual."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        images, labels = batch
        return F.cross_entropy(self.model(images), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


class Stage(nn.Module):
    """The stage of visavis.models.cnn from timm's layers."""

    def __init__(self, channels_in: int, channels: int, *, pool: bool) -> None:
        super().__init__()
        part: dict[str, Any] = {"kernel_size": 3, "act_layer": nn.GELU}
        self.first = nn.Sequential(
            ConvNormAct(channels_in, channels, apply_norm=False, apply_act=False, **part),
            nn.MaxPool2d(2, ceil_mode=True) if pool else nn.Identity(),
            BatchNormAct2d(channels, act_layer=nn.GELU),
        )
        self.rest = nn.Sequential(
            ConvNormAct(channels, channels, **part),
            ConvNormAct(channels, channels, apply_act=False, **part),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        return F.gelu(x + self.rest(x))


def same_shape(config: ModelConfig) -> nn.Module:
    """The model of `config` from timm's layers, with as many parameters."""
    if isinstance(config, ViTConfig):
        return VisionTransformer(
            img_size=IMAGE_SIDE,
            patch_size=config.patch_size,
            embed_dim=config.width,
            depth=config.depth,
            num_heads=config.heads,
            mlp_ratio=config.mlp_ratio,
            num_classes=10,
        )
    assert isinstance(config, CNNConfig)
    a, b, c = config.widths
    return nn.Sequential(
        nn.Conv2d(3, 24, 2),
        nn.GELU(),
        Stage(24, a, pool=True),
        Stage(a, b, pool=True),
        Stage(b, c, pool=False),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(c, 10),
    )


class Clock(lightning.Callback):
    """Times the steps after the first few."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.start, self.end = device, 0.0, 0.0

    def on_train_batch_end(self, trainer: Any, module: Any, out: Any, batch: Any, i: int) -> None:
        if i == SETTLING - 1:
            self.start = hardware.clock(self.device)

    def on_train_end(self, trainer: Any, module: Any) -> None:
        self.end = hardware.clock(self.device)


def fitted(module: Any, loader: Any, steps: int, **settings: Any) -> float:
    """Images/s of `steps` training steps."""
    clock = Clock(hardware.select_device("auto"))
    trainer = lightning.Trainer(
        max_epochs=1,
        limit_val_batches=0,
        callbacks=[clock],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )
    trainer.fit(module, loader)
    return BATCH * steps / (clock.end - clock.start)


def theirs(config: ModelConfig, steps: int) -> float:
    """Images/s of timm's layers under plain Lightning."""
    dataset = resolve(DataConfig(source="shapes"))
    images = Augmented(dataset.train_pixels, dataset.train_labels, BATCH * (SETTLING + steps))
    loader = DataLoader(images, batch_size=BATCH, shuffle=True, num_workers=os.cpu_count() or 1)
    return fitted(Plain(same_shape(config)), loader, steps)


def ours(config: ModelConfig, steps: int) -> float:
    """Images/s of visavis, as `visavis train` sets it up."""
    memory.keep_freed_memory()
    device = hardware.select_device("auto")
    precision = hardware.precision(TrainConfig(), device)
    dataset = resolve(DataConfig(source="shapes"))
    pixels = to_tensor(dataset.train_pixels).to(device)
    labels = torch.from_numpy(dataset.train_labels).to(device)
    rows = torch.arange(BATCH * (SETTLING + steps), device=device) % len(labels)
    model = models.build(config, 10)
    models.fit_input(model, pixels[:5000].float().cpu() / 255)
    module = Classifier(
        hardware.place(model, device),
        replace(config.optim, epochs=1, batch_size=BATCH, crop=0),
        training=(pixels[rows], labels[rows]),
        validation=(pixels[:BATCH], labels[:BATCH]),
        seed=0,
        dtype=hardware.DTYPES[precision],
    )
    return fitted(module, None, steps, precision=LIGHTNING_PRECISION[precision])


def measured(who: str, name: str, steps: int) -> float:
    """Images/s of `theirs` or `ours`, in a process of its own."""
    command = [sys.executable, __file__, str(steps), who, name]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout.split()[-1])


def main(steps: int) -> None:
    """Alternate theirs and ours, and print the table."""
    device = hardware.select_device("auto")
    table: dict[str, Any] = {}
    for name in ("cnn", "vit"):
        config = preset("standard", "cifar10").model(name)
        rates: dict[str, list[float]] = {"timm": [], "visavis": []}
        for _ in range(ROUNDS):
            rates["timm"].append(measured("theirs", name, steps))
            rates["visavis"].append(measured("ours", name, steps))
        table[name] = {
            **{who: [round(rate, 1) for rate in found] for who, found in rates.items()},
            "ratio": round(statistics.mean(rates["visavis"]) / statistics.mean(rates["timm"]), 2),
            "parameters": {
                "timm": sum(p.numel() for p in same_shape(config).parameters()),
                "visavis": sum(p.numel() for p in models.build(config, 10).parameters()),
            },
        }
    facts = {
        "device": hardware.device_name(device),
        "precision": {"timm": "float32", "visavis": hardware.precision(TrainConfig(), device)},
        "date": time.strftime("%Y-%m-%d"),
    }
    print(json.dumps({**facts, "models": table}, indent=2))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    if len(sys.argv) > 2:
        who, name = sys.argv[2:]
        measure = {"theirs": theirs, "ours": ours}[who]
        print(measure(preset("standard", "cifar10").model(name), steps))
    else:
        main(steps)
