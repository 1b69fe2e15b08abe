"""The single-deletion score, of a copy of the model that has learnt to see images with a hole."""

import copy
import dataclasses
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from visavis.attribution.batched import grid_maps
from visavis.config import EXPLANATION_SEED as SEED
from visavis.config import IMAGE_SIDE, OptimConfig
from visavis.data import Dataset
from visavis.data.batches import TrainingBatches, to_tensor
from visavis.metrics import idsds
from visavis.metrics.bootstrap import Interval, interval
from visavis.metrics.idsds import SIDE
from visavis.metrics.localization import Maps, without_degenerate
from visavis.models import Model
from visavis.training.optim import learning_rate_factor, optimizer

IMAGES_PER_SAMPLED = 20
"""Training images shown for each image of the sample."""
GENTLE = 0.1
"""Share of the training's own learning rates."""

HOLE = IMAGE_SIDE // SIDE


def idsds_scores(
    model: Model,
    optim: OptimConfig,
    dataset: Dataset,
    rows: np.ndarray,
    images: torch.Tensor,
    predicted: np.ndarray,
    labels: np.ndarray,
    maps: dict[str, Maps],
    methods: list[str],
    layer: str,
    *,
    autocast: bool,
) -> dict[str, Any]:
    """The score of each kind of map, and how well the copy has learnt to see holes.

    Methods explain the copy; the other `maps` are as they are.

    Args:
        optim: the settings that the model was trained with.
        rows: the training images.
    """
    copied = adapted(model, optim, dataset, rows, sample=len(images), autocast=autocast)
    fall = idsds.falls(copied, images, torch.from_numpy(predicted).to(images.device))
    holed = with_holes(model, images, np.random.default_rng(SEED), share=1.0)
    scores = {}
    with tqdm(
        total=len(images) * len(methods), desc="single deletion", unit=" images", disable=None
    ) as progress:
        for name, given in maps.items():
            of = given
            if name in methods:
                (of,) = grid_maps(
                    copied, images, [predicted], name, layer=layer, progress=progress.update
                )
            good = np.isfinite(without_degenerate(given)).all(
                axis=(1, 2)
            )  # refused once is refused
            values = np.where(good, idsds.score(of, fall), np.nan)
            scores[name] = interval(values, clusters=labels)
    return {
        "scores": scores,
        "accuracy_masked": {
            "before": _right(model, holed, labels),
            "after": _right(copied, holed, labels),
        },
        "accuracy_unmasked": {
            "before": _right(model, images, labels),
            "after": _right(copied, images, labels),
        },
    }


def adapted(
    model: Model,
    optim: OptimConfig,
    dataset: Dataset,
    rows: np.ndarray,
    *,
    sample: int,
    autocast: bool,
) -> Model:
    """Train a copy a little further, half of its images with one cell of mean colour.

    Args:
        optim: the settings that the model was trained with; here on full images, unmixed.
        rows: the training images.
        sample: how many images will be scored; 20 training images are shown for each.
    """
    device = next(model.parameters()).device
    generator = np.random.default_rng(SEED)
    chosen = generator.permutation(rows)[: IMAGES_PER_SAMPLED * sample]
    pixels = to_tensor(dataset.train_pixels[chosen]).to(device)
    labels = torch.from_numpy(dataset.train_labels[chosen]).to(device)
    settings = dataclasses.replace(
        optim,
        batch_size=min(optim.batch_size, max(2, len(chosen) // 2)),
        crop=IMAGE_SIDE,
        cutout=0,
        cutmix=0.0,
        muon_learning_rate=GENTLE * optim.muon_learning_rate,
        learning_rate=GENTLE * optim.learning_rate,
    )
    other = copy.deepcopy(model).train()
    dtype = torch.bfloat16 if autocast else torch.float32
    steps_taken = optimizer(other, settings, dtype=dtype)
    peaks = [group["lr"] for group in steps_taken.param_groups]
    batches = TrainingBatches(pixels, labels, settings, seed=SEED, epoch=0)
    layout = torch.channels_last
    with tqdm(
        total=len(batches) * batches.batch_size,
        desc="learning to see holes",
        unit=" images",
        disable=None,
    ) as progress:
        for step, (images, answers, _) in enumerate(batches):
            factor = learning_rate_factor(step, steps=len(batches), warmup_fraction=0.1)
            for group, peak in zip(steps_taken.param_groups, peaks, strict=True):
                group["lr"] = peak * factor
            holed = with_holes(other, images, generator).contiguous(memory_format=layout)
            with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
                logits = other(holed)
            F.cross_entropy(
                logits.float(), answers, label_smoothing=settings.label_smoothing
            ).backward()
            steps_taken.step()
            other.zero_grad(set_to_none=True)
            progress.update(len(images))
    return other.eval()


def with_holes(
    model: Model, images: torch.Tensor, generator: np.random.Generator, *, share: float = 0.5
) -> torch.Tensor:
    """The images, a share of them with one of the 16 cells, drawn at random, in the mean colour."""
    holed = images.clone()
    for i in np.flatnonzero(generator.random(len(images)) < share):
        row, column = generator.integers(0, SIDE, 2) * HOLE
        holed[i, :, row : row + HOLE, column : column + HOLE] = model.normalize.mean[0]
    return holed


def _right(model: Model, images: torch.Tensor, labels: np.ndarray) -> Interval | None:
    """How often the model is right."""
    with torch.inference_mode():
        answers = torch.cat([model(part).argmax(dim=1) for part in images.split(100)])
    return interval((answers.cpu().numpy() == labels).astype(np.float64), clusters=labels)
