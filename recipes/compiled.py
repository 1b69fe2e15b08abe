"""What the compiled parts gain in a training step on a CPU: docs/benchmarks.md.

    .venv/bin/python recipes/compiled.py

Pictures per second, forward and backward without the optimiser, of the models of `standard` on
random pictures: the CNN with all products of its convolutions, and pooling and norm by PyTorch, and
with half of them or fewer and calls of its own; the ViT with all products of its linear layers and
all else by PyTorch, and with half of them and calls of its own (without AVX-512 the products alone
change); by turns in one process, so that a noisy machine is as bad for the one as for the other.
Median and best of ROUNDS steps. Memory is kept as `visavis train` keeps it.
"""

import json
import statistics
import time

import torch

from visavis import hardware, memory, models
from visavis.config import MODEL_NAMES, TrainConfig
from visavis.models.compiled import wide_vectors
from visavis.presets import preset

BATCH, ROUNDS = 250, 16


def main(name: str) -> None:
    """Print one line of JSON for each number type and size of picture."""
    device = torch.device("cpu")
    memory.keep()
    torch.manual_seed(0)
    model = models.build(preset("standard", "cifar10").model(name))
    model = hardware.place(model, device).train()
    model.fuse(products_only=not wide_vectors())
    parts = [module for module in model.modules() if getattr(module, "fused", False)]

    def seconds(images: torch.Tensor, *, bf16: bool, fused: bool) -> float:
        for part in parts:
            part.fused = fused
        start = time.perf_counter()
        # As Lightning calls it.
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16, cache_enabled=False):
            loss = model(images).float().square().mean()
        torch.autograd.backward(loss)
        model.zero_grad(set_to_none=True)
        return time.perf_counter() - start

    for bf16 in (True, False) if hardware.use_bf16(TrainConfig(), device) else (False,):
        for side in (24, 32):
            images = torch.rand(BATCH, 3, side, side).contiguous(memory_format=torch.channels_last)
            taken: dict[bool, list[float]] = {False: [], True: []}
            memory.hand_back()
            for fused in (False, True) * (ROUNDS + 1):
                taken[fused].append(seconds(images, bf16=bf16, fused=fused))
            for fused, steps in taken.items():
                steps = steps[1:]  # the first of each is a warm-up
                row = {
                    "model": name,
                    "type": "bf16" if bf16 else "float32",
                    "side": side,
                    "compiled": fused,
                    "pictures_per_second": round(BATCH / statistics.median(steps)),
                    "best_pictures_per_second": round(BATCH / min(steps)),
                }
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    for model_name in MODEL_NAMES:
        main(model_name)
