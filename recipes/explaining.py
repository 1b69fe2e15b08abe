"""Cost of one prediction and of one attribution map by each method: about 3 minutes.

    .venv/bin/python recipes/explaining.py EXPERIMENT DATA_FOLDER

Milliseconds per image for both trained models of an experiment on CIFAR-10: the best of three
rounds of 100 test images, in float32, on the CPU.
"""

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from visavis import attribution, data
from visavis.config import DataConfig
from visavis.data.batches import to_images
from visavis.registry import OWN
from visavis.stages.trained import load_trained, observed

IMAGES, BATCH = 100, 50


def milliseconds(work: Callable[[torch.Tensor], object], images: torch.Tensor) -> float:
    """The shortest of three rounds, per image."""
    rounds = []
    for _ in range(3):
        start = time.perf_counter()
        for part in images.split(BATCH):
            work(part)
        rounds.append(1000 * (time.perf_counter() - start) / len(images))
    return round(min(rounds), 2)


def main(experiment: str, folder: str) -> None:
    """Print one line of JSON for each model."""
    dataset = data.resolve(DataConfig(source="cifar10", dir=Path(folder)))
    images = to_images(dataset.test_pixels[:IMAGES])
    for name in OWN:
        subject = observed(load_trained(Path(experiment) / name), dataset.train_pixels[:2])
        costs = {"prediction": milliseconds(subject.predict, images)}
        classes = torch.zeros(BATCH, dtype=torch.int64)
        for method in attribution.methods_for(subject):
            explain = partial(attribution.explain, subject, targets=classes, method=method)
            costs[method] = milliseconds(explain, images)
        print(json.dumps({"model": name, **costs}))


if __name__ == "__main__":
    main(*sys.argv[1:])
