"""The reference for the CNN in docs/benchmarks.md: airbench94-Muon, reimplemented for this split.

    .venv/bin/python recipes/airbench.py DATA_FOLDER [--seed N] [--default-allocator]

Prints test accuracy and training seconds after 8 epochs: 10 to 30 minutes on 2 CPU cores.

Jordan 2024 (arXiv 2404.00498): a 2x2 whitening layer whose bias is trained for three epochs, three
groups of two convolutions, frozen norm scales, scaled pooling head, flips, shifts by 2, label
smoothing 0.2, 8 epochs in batches of 2,000; filters are updated by Muon (Jordan et al. 2024, three
Newton-Schulz steps) at rate 0.24 and momentum 0.6, each normalised before its step. It gets what
our training gets: bf16 where the machine is fast at it, channels-last, the allocator setting unless
--default-allocator is given, and a step before the clock starts. It trains on the training split of
visavis and is tested after the last epoch, without test-time augmentation. Training seconds are
those of docs/methods.md: loading of batches and all steps, nothing else.
"""

import argparse
import copy
import json
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from visavis import data
from visavis.config import DataConfig, OptimConfig, TrainConfig
from visavis.data.batches import EvaluationBatches, TrainingBatches, to_tensor
from visavis.training import hardware, memory

EPOCHS, BATCH = 8, 2000
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


@torch.no_grad()
def whitening_filters(images: torch.Tensor) -> torch.Tensor:
    """Principal directions of 2x2 patches, scaled to unit variance."""
    patches = images.unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 12)
    variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
    return (directions / (variances + 5e-4).sqrt()).T.reshape(12, 3, 2, 2)


class Group(nn.Module):
    """Convolution, pooling, norm, GELU; convolution, norm, GELU."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, padding="same", bias=False)
        self.norm1 = nn.BatchNorm2d(channels, eps=1e-12, momentum=0.4)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding="same", bias=False)
        self.norm2 = nn.BatchNorm2d(channels, eps=1e-12, momentum=0.4)
        for conv, norm in ((self.conv1, self.norm1), (self.conv2, self.norm2)):
            nn.init.dirac_(conv.weight[: conv.in_channels])
            norm.weight.requires_grad = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.gelu(self.norm1(F.max_pool2d(self.conv1(x), 2)))
        return F.gelu(self.norm2(self.conv2(x)))


class Net(nn.Module):
    """About 2 million parameters."""

    def __init__(self, images: torch.Tensor) -> None:
        super().__init__()
        self.whitening = nn.Conv2d(3, 24, 2)
        self.whitening.weight.requires_grad = False
        filters = whitening_filters(images)
        self.whitening.weight.data = torch.cat([filters, -filters])
        nn.init.zeros_(self.whitening.bias)
        self.groups = nn.Sequential(Group(24, 64), Group(64, 256), Group(256, 256))
        self.head = nn.Linear(256, 10, bias=False)
        self.head.weight.data /= self.head.weight.data.std()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.groups(F.gelu(self.whitening(x)))
        x = F.max_pool2d(x, 3).flatten(1)
        return self.head(x) / x.shape[1]


def orthogonalized(matrix: torch.Tensor) -> torch.Tensor:
    """Three Newton-Schulz steps; no matrix here has more rows than columns."""
    x = matrix / (matrix.norm() + 1e-7)
    for _ in range(3):
        gram = x @ x.T
        x = 3.4445 * x + (-4.775 * gram + 2.0315 * gram @ gram) @ x
    return x


def main(folder: str, *, seed: int, default_allocator: bool) -> None:
    """Train, test, and print one line of JSON."""
    if not default_allocator:
        memory.keep_freed_memory()
    torch.manual_seed(seed)
    dataset = data.resolve(DataConfig(source="cifar10", dir=Path(folder)))
    rows, _ = data.split(dataset.train_labels, 0.1, 0)
    pixels = to_tensor(dataset.train_pixels[rows])
    labels = torch.from_numpy(dataset.train_labels[rows])
    mean, std = torch.tensor(MEAN).view(1, 3, 1, 1), torch.tensor(STD).view(1, 3, 1, 1)

    def normalized(images: torch.Tensor) -> torch.Tensor:
        return ((images - mean) / std).contiguous(memory_format=torch.channels_last)

    net = Net(normalized(pixels[:5000].float() / 255)).to(memory_format=torch.channels_last)
    filters = [p for p in net.groups.parameters() if p.ndim == 4]
    biases = [p for p in net.groups.parameters() if p.ndim == 1 and p.requires_grad]
    decay = 2e-6 * BATCH
    sgd = torch.optim.SGD(
        [
            {"params": [net.whitening.bias], "lr": 0.053, "weight_decay": decay / 0.053},
            {"params": biases, "lr": 0.053, "weight_decay": decay / 0.053},
            {"params": [net.head.weight], "lr": 0.67, "weight_decay": decay / 0.67},
        ],
        momentum=0.85,
        nesterov=True,
    )
    peaks = [group["lr"] for group in sgd.param_groups]
    averages = [torch.zeros_like(p) for p in filters]
    augmentation = OptimConfig(batch_size=BATCH, flip=True, shift=2)
    steps_per_epoch = len(labels) // BATCH
    steps, whitening_steps = EPOCHS * steps_per_epoch, 3 * steps_per_epoch

    precision = hardware.precision(TrainConfig(), torch.device("cpu"))
    products = hardware.DTYPES[precision]

    def backward(images: torch.Tensor, targets: torch.Tensor) -> float:
        net.zero_grad()
        with torch.autocast("cpu", products, enabled=precision != "float32"):
            logits = net(normalized(images))
        loss = F.cross_entropy(logits.float(), targets, label_smoothing=0.2, reduction="sum")
        loss.backward()
        return loss.item()

    state = copy.deepcopy(net.state_dict())
    backward(pixels[:BATCH].float() / 255, labels[:BATCH])  # warm-up
    net.load_state_dict(state)
    step, seconds = 0, 0.0
    for epoch in range(EPOCHS):
        net.train()
        start = time.perf_counter()
        batches = TrainingBatches(pixels, labels, augmentation, seed=seed, epoch=epoch)
        for images, targets, *_ in batches:
            # After that, no gradient flows through the first activation.
            net.whitening.bias.requires_grad = step < whitening_steps
            loss = backward(images, targets)
            left = 1 - step / steps
            sgd.param_groups[0]["lr"] = peaks[0] * max(0.0, 1 - step / whitening_steps)
            for group, peak in zip(sgd.param_groups[1:], peaks[1:], strict=True):
                group["lr"] = peak * left
            sgd.step()
            with torch.no_grad():
                for filter_, average in zip(filters, averages, strict=True):
                    average.mul_(0.6).add_(filter_.grad)
                    direction = filter_.grad.add(average, alpha=0.6).flatten(1)
                    filter_.mul_(len(filter_) ** 0.5 / filter_.norm())
                    update = orthogonalized(direction.to(products)).float().view_as(filter_)
                    filter_.add_(update, alpha=-0.24 * left)
            step += 1
        seconds += time.perf_counter() - start
        print(f"epoch {epoch + 1}, loss {loss / BATCH:.3f}, {seconds:.0f} s", file=sys.stderr)

    net.eval()
    test = EvaluationBatches(to_tensor(dataset.test_pixels), torch.from_numpy(dataset.test_labels))
    with torch.inference_mode():
        correct = sum(int((net(normalized(x)).argmax(1) == y).sum()) for x, y in test)
    accuracy = correct / len(dataset.test_labels)
    found = {"seed": seed, "test_accuracy": accuracy, "train_seconds": seconds}
    print(json.dumps({**found, "precision": precision, "default_allocator": default_allocator}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="where CIFAR-10 lies")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--default-allocator", action="store_true")
    given = parser.parse_args()
    main(given.folder, seed=given.seed, default_allocator=given.default_allocator)
