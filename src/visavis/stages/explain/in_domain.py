"""IDSDS, measured on a copy of the model that was trained further on masked images."""

import copy
import dataclasses
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from visavis.attribution.batched import grid_maps
from visavis.config import EXPLANATION_SEED as SEED
from visavis.config import IMAGE_SIDE, OptimConfig
from visavis.data import Dataset
from visavis.data.batches import TrainingBatches, predict, to_tensor
from visavis.data.progress import progress_bar
from visavis.metrics import idsds
from visavis.metrics.bootstrap import interval
from visavis.metrics.idsds import SIDE
from visavis.metrics.localization import Maps, valid
from visavis.models import Model
from visavis.stages.explain.selection import Sample
from visavis.training.optim import learning_rate_factor, optimizer

IMAGES_PER_SAMPLED = 20
"""Training images for each image of the sample."""
GENTLE = 0.1
"""Fraction of the original learning rates."""

MASK_SIDE = IMAGE_SIDE // SIDE


def idsds_scores(
    sample: Sample,
    maps: dict[str, Maps],
    methods: list[str],
    layer: str,
    copied: Model,
) -> dict[str, Any]:
    """The score of each method and baseline, and the accuracies of the model and of its copy.

    Args:
        methods: those of `maps` that explain the copy; the other maps are scored as they are.
        copied: the copy, trained on masked images.
    """
    drops = idsds.logit_drops(copied, sample.images, sample.targets)
    scores = {}
    with progress_bar(len(sample.images) * len(methods), "IDSDS") as progress:
        for name, original in maps.items():
            of = original
            if name in methods:
                (of,) = grid_maps(
                    copied,
                    sample.images,
                    [sample.predicted],
                    name,
                    layer=layer,
                    progress=progress.update,
                )
            # A map that is degenerate on the model itself is excluded here too.
            values = np.where(valid(original), idsds.score(of, drops), np.nan)
            scores[name] = interval(values, clusters=sample.labels)
    masked = with_masked_regions(
        sample.model, sample.images, np.random.default_rng(SEED), fraction=1.0
    )

    def accuracies(images: torch.Tensor) -> dict[str, Any]:
        correct = {
            key: predict(model, images).argmax(dim=1).cpu().numpy() == sample.labels
            for key, model in (("before", sample.model), ("after", copied))
        }
        return {
            key: interval(of.astype(np.float64), clusters=sample.labels)
            for key, of in correct.items()
        }

    return {
        "scores": scores,
        "accuracy_masked": accuracies(masked),
        "accuracy_unmasked": accuracies(sample.images),
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
    """A copy, trained a little further with one cell masked in half of the images.

    Args:
        optim: the settings that the model was trained with; here on full images, without CutMix.
        rows: the training images.
        sample: how many images will be scored; 20 training images are used for each.
    """
    device = next(model.parameters()).device
    generator = np.random.default_rng(SEED)
    chosen = generator.permutation(rows)[: IMAGES_PER_SAMPLED * sample]
    pixels = to_tensor(dataset.train_pixels[chosen]).to(device)
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
    optimiser = optimizer(other, settings, dtype=torch.bfloat16 if autocast else torch.float32)
    peaks = [group["lr"] for group in optimiser.param_groups]
    labels = torch.from_numpy(dataset.train_labels[chosen]).to(device)
    batches = TrainingBatches(pixels, labels, settings, seed=SEED, epoch=0)
    with progress_bar(len(batches) * batches.batch_size, "training on masked images") as progress:
        for step, (images, targets, _) in enumerate(batches):
            factor = learning_rate_factor(step, steps=len(batches), warmup_fraction=0.1)
            for group, peak in zip(optimiser.param_groups, peaks, strict=True):
                group["lr"] = peak * factor
            masked = with_masked_regions(other, images, generator)
            with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
                logits = other(masked)
            F.cross_entropy(
                logits.float(), targets, label_smoothing=settings.label_smoothing
            ).backward()
            optimiser.step()
            other.zero_grad(set_to_none=True)
            progress.update(len(images))
    return other.eval()


def with_masked_regions(
    model: Model, images: torch.Tensor, generator: np.random.Generator, *, fraction: float = 0.5
) -> torch.Tensor:
    """The images, a fraction of them with one of the 16 cells masked by the mean colour."""
    masked = images.clone()
    for i in np.flatnonzero(generator.random(len(images)) < fraction):
        row, column = generator.integers(0, SIDE, 2) * MASK_SIDE
        cell = i, slice(None), slice(row, row + MASK_SIDE), slice(column, column + MASK_SIDE)
        masked[cell] = model.normalize.mean[0]
    return masked
