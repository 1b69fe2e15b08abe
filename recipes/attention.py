"""What the compiled attention gains in a training step of the ViT: docs/benchmarks.md.

    .venv/bin/python recipes/attention.py

Pictures per second, forward and backward without the optimiser, of the ViT of `standard` on random
pictures: attention written out, and as one compiled call, by turns in one process, so that a noisy
machine is as bad for the one as for the other. Median and best of ROUNDS steps. The process hands
freed memory back, which `visavis train` does not (cli.py); all four are somewhat slower for that.
"""

import json
import statistics
import time

import torch

from visavis import hardware, models
from visavis.config import TrainConfig
from visavis.models.vit import Block, ViT
from visavis.presets import preset

BATCH, ROUNDS = 250, 16


def main() -> None:
    """Print one line of JSON for each number type and size of picture."""
    device = torch.device("cpu")
    torch.manual_seed(0)
    model = hardware.place(models.build(preset("standard", "cifar10").vit), device).train()
    assert isinstance(model, ViT)
    model.fuse_attention()
    attentions = [block.attention for block in model.blocks if isinstance(block, Block)]

    def seconds(images: torch.Tensor, *, bf16: bool, fused: bool) -> float:
        for attention in attentions:
            attention.fused = fused
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
            for fused in (False, True) * (ROUNDS + 1):
                taken[fused].append(seconds(images, bf16=bf16, fused=fused))
            for fused, steps in taken.items():
                steps = steps[1:]  # the first of each is a warm-up
                row = {
                    "type": "bf16" if bf16 else "float32",
                    "side": side,
                    "attention": "compiled" if fused else "written out",
                    "pictures_per_second": round(BATCH / statistics.median(steps)),
                    "best_pictures_per_second": round(BATCH / min(steps)),
                }
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
