"""IDSDS, measured on a copy of the model that was trained further on masked images."""

import copy
import dataclasses

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from visavis.attribution import Subject
from visavis.attribution.batched import grid_maps
from visavis.attribution.degenerate import Maps, valid
from visavis.config import EXPLANATION_SEED as SEED
from visavis.config import OptimConfig
from visavis.data import Dataset
from visavis.data.batches import TrainingBatches, hold
from visavis.data.progress_bar import progress_bar
from visavis.metrics import idsds
from visavis.metrics.bootstrap import Interval
from visavis.stages.explain.maps import Explained
from visavis.stages.explain.selection import Sample
from visavis.training.optim import learning_rate_factor, optimizer

IMAGES_PER_SAMPLED = 20
"""Training images for each image of the sample."""
GENTLE = 0.1
"""Fraction of the original learning rates."""


def idsds_scores(
    sample: Sample, maps: dict[str, Maps], explained: dict[str, Explained], copied: Subject
) -> dict[str, Interval | None]:
    """The score of each method, whose maps are made again for the copy, and of each baseline.

    Args:
        copied: the copy, trained on masked images.
    """
    drops = idsds.logit_drops(copied, sample.images, sample.targets)
    scores = {}
    for name, original in tqdm(maps.items(), "IDSDS", unit=" methods", disable=None):
        of = original
        if name in explained:
            targets = [sample.predicted]
            (of,) = grid_maps(copied, sample.images, targets, name, layer=sample.layer)
        # A map that is degenerate on the model itself is excluded here too.
        scores[name] = sample.interval(np.where(valid(original), idsds.score(of, drops), np.nan))
    return scores


def accuracies(sample: Sample, copied: Subject) -> dict[str, dict[str, Interval | None]]:
    """Accuracy before and after the training on masked images, with and without a masked region."""
    generator = np.random.default_rng(SEED)
    masked = with_masked_regions(sample.subject, sample.images, generator, fraction=1.0)

    def accuracy(subject: Subject, images: torch.Tensor) -> Interval | None:
        correct = subject.predict(images).argmax(dim=1).cpu().numpy() == sample.labels
        return sample.share(correct.astype(np.float64))

    return {
        key: {"before": accuracy(sample.subject, images), "after": accuracy(copied, images)}
        for key, images in (("accuracy_masked", masked), ("accuracy_unmasked", sample.images))
    }


def adapted(
    subject: Subject,
    optim: OptimConfig,
    dataset: Dataset,
    rows: np.ndarray,
    *,
    sample: int,
) -> Subject:
    """A copy, trained a little further with one cell masked in half of the images.

    Args:
        optim: the settings that the model was trained with; here on full images, without CutMix.
        rows: the training images.
        sample: how many images will be scored; 20 training images are used for each.
    """
    device = subject.fill.device
    generator = np.random.default_rng(SEED)
    chosen = generator.permutation(rows)[: IMAGES_PER_SAMPLED * sample]
    pixels = hold(dataset.train_pixels, chosen, device)
    settings = dataclasses.replace(
        optim,
        batch_size=min(optim.batch_size, max(2, len(chosen) // 2)),
        crop=0,
        cutout=0,
        cutmix=0.0,
        muon_learning_rate=GENTLE * optim.muon_learning_rate,
        learning_rate=GENTLE * optim.learning_rate,
    )
    other = copy.deepcopy(subject.model).train()
    optimiser = optimizer(
        other, settings, dtype=torch.bfloat16 if subject.autocast else torch.float32
    )
    labels = torch.from_numpy(dataset.train_labels[chosen]).to(device)
    batches = TrainingBatches(pixels, labels, settings, seed=SEED, epoch=0)
    steps = len(batches)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: learning_rate_factor(step, steps=steps, warmup_fraction=0.1)
    )
    with progress_bar(steps * batches.batch_size, "training on masked images") as progress:
        for images, targets, *_ in batches:
            masked = with_masked_regions(subject, images, generator)
            with torch.autocast(device.type, torch.bfloat16, enabled=subject.autocast):
                logits = subject.with_model(other)(masked)
            smoothing = settings.label_smoothing
            F.cross_entropy(logits.float(), targets, label_smoothing=smoothing).backward()
            optimiser.step()
            schedule.step()
            other.zero_grad(set_to_none=True)
            progress.update(len(images))
    return subject.with_model(other.eval())


def with_masked_regions(
    subject: Subject, images: torch.Tensor, generator: np.random.Generator, *, fraction: float = 0.5
) -> torch.Tensor:
    """The images, a fraction of them with one of the cells of IDSDS masked by the mean colour."""
    masked = images.clone()
    cells = idsds.side_of(subject.grid)
    side = subject.side // cells
    for i in np.flatnonzero(generator.random(len(images)) < fraction):
        row, column = generator.integers(0, cells, 2) * side
        cell = i, slice(None), slice(row, row + side), slice(column, column + side)
        masked[cell] = subject.fill[0]
    return masked
