"""Small models and tasks that several tests share."""

import contextlib
import functools

import numpy as np
import pytest
import torch
from torch import nn

from visavis import models
from visavis.attribution import Subject, gradients
from visavis.config import CNNConfig, ViTConfig

CNN_CONFIG = CNNConfig(widths=(8, 16, 16))
VIT_CONFIG = ViTConfig(width=16, depth=2, heads=2)
TAUGHT_VIT_CONFIG = ViTConfig(width=32, depth=2, heads=4)


def model(kind, *, seed=0, config=None):
    """A model with random weights everywhere, in evaluation mode.

    A new ViT gives the same logits for every image, since its head starts at zero.
    """
    generator = torch.Generator().manual_seed(seed)
    built = models.build(config or (CNN_CONFIG if kind == "cnn" else VIT_CONFIG), 10)
    with torch.no_grad():
        for parameter in built.parameters():
            scale = max(parameter[0].numel(), 1) ** -0.5
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return built.eval()


def subject(of, **settings):
    """What explanations see of a model, or of a new one of the kind "cnn" or "vit"."""
    of = model(of) if isinstance(of, str) else of
    layers = models.explanation_layers(of)
    return Subject(of, images(2), mean=of.normalize.mean, layers=layers, **settings)


def images(n=4, *, seed=0):
    return torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


@contextlib.contextmanager
def few_points():
    """Gradients at few points, which halves a stage's time, where their values do not matter."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradients, "STEPS", 8)
        patch.setattr(gradients, "SAMPLES", 4)
        yield


def distance(found, exact):
    """Of two arrays, as a fraction of the second one's norm."""
    return ((found - exact).norm() / exact.norm()).item()


def hooks(module):
    """How many hooks a model has."""
    return sum(
        len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks)
        for m in module.modules()
    )


def planted(n, *, seed=0):
    """Noise, and in the images of class 1 a red patch of 8 x 8 pixels somewhere.

    Returns:
        Images, labels, and masks (n, 8, 8) of the four cells that the patch covers.
    """
    generator = np.random.default_rng(seed)
    drawn = generator.uniform(0.3, 0.7, (n, 3, 32, 32)).astype(np.float32)
    labels = generator.integers(0, 2, n)
    masks = np.zeros((n, 8, 8), dtype=np.float32)
    for i, (row, column) in enumerate(generator.integers(0, 7, (n, 2))):
        if labels[i]:
            patch = np.array([1, 0, 0])[:, None, None]
            drawn[i, :, 4 * row : 4 * row + 8, 4 * column : 4 * column + 8] = patch
            masks[i, row : row + 2, column : column + 2] = 1
    return torch.from_numpy(drawn), torch.from_numpy(labels), masks


@functools.cache
def taught(kind, *, steps, seed=0):
    """A model that was trained on `planted` images for some seconds; not to be changed."""
    torch.manual_seed(seed)
    student = models.build(CNN_CONFIG if kind == "cnn" else TAUGHT_VIT_CONFIG, 10)
    # With outputs for classes that never occur, the background would be evidence for "not those".
    student.head = nn.Linear(student.head.in_features, 2)
    models.fit_input(student, planted(64)[0])
    optimiser = torch.optim.Adam(student.parameters(), lr=5e-3)
    student.train()
    for step in range(steps):
        drawn, labels, _ = planted(64, seed=1 + step)
        optimiser.zero_grad()
        nn.functional.cross_entropy(student(drawn), labels).backward()
        optimiser.step()
    return student.eval()
