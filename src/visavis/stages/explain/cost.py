"""What explaining costs, told before it is spent, and how many images fit into ten minutes."""

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import UInt8

from visavis.attribution import Subject
from visavis.config import ExplainConfig
from visavis.data import Dataset
from visavis.data.batches import to_images
from visavis.models import Model
from visavis.stages.trained import observed
from visavis.training import hardware

PASSES = 1200
"""Forward passes of one image for each image that is explained or that chooses a layer; a backward
pass counts as one more. Of 40 and 25 images, 1,040 for the CNN and 1,180 for the ViT; on the
built-in shapes, where the scores are tested, too, 1,420 and 1,510."""
BUDGET_SECONDS = 600.0
FEWEST, MOST = 20, 500

logger = logging.getLogger(__name__)


def seconds_per_image(subject: Subject, pixels: UInt8[np.ndarray, "n side side 3"]) -> float:
    """What one image costs, from the time of a batch of forward passes."""
    batch = to_images(np.resize(pixels, (50, *pixels.shape[1:]))).to(subject.fill.device)
    for _ in range(2):  # the first one warms up
        started = time.perf_counter()
        subject.predict(batch).cpu()
    return PASSES * (time.perf_counter() - started) / len(batch)


def sample_size(
    config: ExplainConfig, subjects: Sequence[Subject], pixels: UInt8[np.ndarray, "n side side 3"]
) -> int:
    """How many test images are explained: those of the settings, or what fits into ten minutes.

    Args:
        subjects: the models that are explained; the slowest one decides.
    """
    each = max(seconds_per_image(subject, pixels) for subject in subjects)
    fitting = int(BUDGET_SECONDS / each) - config.sweep_images
    n = config.images or min(max(fitting, FEWEST), MOST)
    minutes = each * (n + config.sweep_images) / 60
    about = f"{minutes:.0f} minutes" if minutes >= 1.5 else "a minute or less"
    logger.info("Explaining a model on %d test images takes about %s.", n, about)
    return n


def same_for_all(
    models: Iterable[Model], dataset: Dataset, config: ExplainConfig, device: torch.device
) -> ExplainConfig:
    """The settings with one scoring grid and one number of images for all models."""
    pixels = dataset.test_pixels[:50]
    subjects = [observed(hardware.place(model.eval(), device), pixels) for model in models]
    grid = config.grid or min(subject.grid for subject in subjects)
    return replace(config, grid=grid, images=config.images or sample_size(config, subjects, pixels))
