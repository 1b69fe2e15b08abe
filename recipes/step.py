"""What the attention backend and the allocator setting do to a training step: about 3 minutes.

    .venv/bin/python recipes/step.py [STEPS]

Forward and backward passes of the models of `standard` on 250 full images, on the CPU, in the
precision that training takes there. Each case is a process of its own. Prints one line of JSON per
case: the median of the steps in milliseconds, and the peak memory in MB.
"""

import json
import resource
import statistics
import subprocess
import sys
import time

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from visavis import models
from visavis.config import TrainConfig
from visavis.presets import preset
from visavis.training import hardware, memory

CASES = (
    ("vit", "MATH", "kept"),
    ("vit", "FLASH_ATTENTION", "kept"),
    ("vit", "MATH", "default"),
    ("cnn", "MATH", "kept"),
    ("cnn", "MATH", "default"),
)
"""Model, backend of scaled_dot_product_attention, and what happens to freed memory."""


def measure(name: str, backend: str, allocator: str, steps: int) -> dict[str, float]:
    """Milliseconds of a step, and peak memory."""
    if allocator == "kept":
        memory.keep_freed_memory()
    cpu = torch.device("cpu")
    dtype = hardware.DTYPES[hardware.precision(TrainConfig(), cpu)]
    model = hardware.place(models.build(preset("standard", "cifar10").model(name), 10), cpu)
    images, labels = torch.rand(250, 3, 32, 32), torch.randint(10, (250,))
    seconds = []
    for _ in range(3 + steps):
        model.zero_grad()
        start = time.perf_counter()
        with (
            sdpa_kernel(getattr(SDPBackend, backend)),
            torch.autocast("cpu", dtype, enabled=dtype != torch.float32),
        ):
            logits = model(hardware.channels_last(images))
        F.cross_entropy(logits.float(), labels).backward()
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes on Linux
    return {"step_ms": round(1000 * statistics.median(seconds[3:])), "peak_mb": peak // 1000}


if __name__ == "__main__":
    steps = sys.argv[1] if len(sys.argv) > 1 else "10"
    if len(sys.argv) > 2:
        print(json.dumps(measure(*sys.argv[2:], int(steps))))
    else:
        for case in CASES:
            command = [sys.executable, __file__, steps, *case]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            named = dict(zip(("model", "backend", "freed_memory"), case, strict=True))
            print(json.dumps({**named, **json.loads(done.stdout)}), flush=True)
