"""Table "Against plain tools" of docs/benchmarks.md: training speed of the same shapes.

    .venv/bin/pip install --editable '.[peers]'
    .venv/bin/python recipes/peers.py [STEPS]

Each model of `standard` against the same shape built from timm's parts and trained the way most
tutorials do: plain Lightning in its default precision, AdamW, torchvision transforms on PIL
images, a DataLoader with one worker process per core. Both train on the same drawn images,
whole ones, in batches of 250; theirs before and after ours, so that a noisy machine shows. Ours is
what `visavis bench` measures in a process of its own, where freed memory is kept as in training.
timm pools after norm and activation, ours before; timm's filters and linear layers are free, ours
come in mirrored pairs, which is where half of the products are saved. Prints one JSON object; the
ratio is what counts.
"""

import json
import os
import subprocess
import sys
import time
import warnings
from typing import Any

import lightning
import torch
import torch.nn.functional as F
from timm.layers import ConvNormAct
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from visavis.config import CNNConfig, DataConfig, ModelConfig, ViTConfig
from visavis.data import resolve
from visavis.presets import preset

BATCH = 250
SETTLING = 5
"""Steps before the clock starts: worker processes start, buffers grow."""


class Drawn(Dataset):
    """Images as PIL images, augmented as in most CIFAR-10 tutorials."""

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
    """The module of the first page of Lightning's manual."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        images, labels = batch
        return F.cross_entropy(self.model(images), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


class Clock(lightning.Callback):
    """Seconds of the steps after the first few."""

    def __init__(self) -> None:
        self.start = self.end = 0.0

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int
    ) -> None:
        if index == SETTLING - 1:
            self.start = time.perf_counter()
        self.end = time.perf_counter()


class Stage(nn.Module):
    """Three of timm's convolutions with norm; what the first leaves is added to the third."""

    def __init__(self, channels_in: int, channels: int, *, strided: bool) -> None:
        super().__init__()
        part: dict[str, Any] = {"kernel_size": 3, "act_layer": nn.GELU}
        pool = nn.Identity() if strided else nn.MaxPool2d(2, ceil_mode=True)
        self.first = nn.Sequential(ConvNormAct(channels_in, channels, **part), pool)
        self.rest = nn.Sequential(
            ConvNormAct(channels, channels, **part),
            ConvNormAct(channels, channels, stride=2 if strided else 1, apply_act=False, **part),
        )
        self.shortcut = nn.AvgPool2d(2, ceil_mode=True) if strided else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        return F.gelu(self.rest(x) + self.shortcut(x))


def same_shape(config: ModelConfig) -> nn.Module:
    """The model of `config` from timm's parts."""
    if isinstance(config, ViTConfig):
        return VisionTransformer(
            img_size=32,
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
        Stage(24, a, strided=False),
        Stage(a, b, strided=False),
        Stage(b, c, strided=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(c, 10),
    )


def theirs(model: nn.Module, pixels: Any, labels: Any, steps: int) -> float:
    """Images per second of plain Lightning."""
    loader = DataLoader(
        Drawn(pixels, labels, BATCH * (SETTLING + steps)),
        batch_size=BATCH,
        shuffle=True,
        num_workers=os.cpu_count() or 1,
    )
    clock = Clock()
    trainer = lightning.Trainer(
        max_epochs=1,
        callbacks=[clock],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Plain(model), loader)
    return BATCH * steps / (clock.end - clock.start)


def measured() -> Any:
    """What `visavis bench` tells of this machine and ours."""
    command = [sys.executable, "-m", "visavis", "bench", "--json"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def main(steps: int) -> None:
    """Measure theirs before and after ours, and print the table."""
    warnings.simplefilter("ignore")
    dataset = resolve(DataConfig(source="shapes"))
    plan = preset("standard", "cifar10")
    configs: dict[str, ModelConfig] = {"cnn": plan.cnn, "vit": plan.vit}

    def round_of_theirs() -> dict[str, float]:
        pixels, labels = dataset.train_pixels, dataset.train_labels
        return {n: theirs(same_shape(c), pixels, labels, steps) for n, c in configs.items()}

    before, ours, after = round_of_theirs(), measured(), round_of_theirs()
    table = {}
    for name, facts in ours["models"].items():
        rate, plain = facts["training_images_per_second"], (before[name] + after[name]) / 2
        table[name] = {
            "plain": [before[name], after[name]],
            "visavis": rate,
            "ratio": rate / plain,
            "parameters": {
                "plain": sum(p.numel() for p in same_shape(configs[name]).parameters()),
                "visavis": facts["parameters"],
            },
        }
    print(json.dumps({"machine": ours["machine"], "models": table}, indent=2))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
