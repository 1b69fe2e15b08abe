"""A data set and an experiment small enough to train in a second."""

import dataclasses
import functools

import pytest
import torch

from visavis.config import (
    CNNConfig,
    Experiment,
    ExplainConfig,
    OptimConfig,
    TrackingConfig,
    TrainConfig,
    ViTConfig,
)
from visavis.data import Dataset, shapes
from visavis.data.batches import to_tensor
from visavis.stages.train import train
from visavis.training.module import Classifier

OPTIM = OptimConfig(epochs=2, batch_size=50, crop=24)
PLAIN = TrainConfig(device="cpu", precision="float32")


@functools.cache
def dataset(*, train: int = 200, test: int = 60, seed: int = 0) -> Dataset:
    """Few built-in shapes."""
    pixels, labels, _ = shapes.draw(train, seed)
    test_pixels, test_labels, masks = shapes.draw(test, seed + 1000)
    return Dataset(
        source="shapes",
        description="built-in shapes",
        class_names=shapes.CLASS_NAMES,
        train_pixels=pixels,
        train_labels=labels,
        test_pixels=test_pixels,
        test_labels=test_labels,
        test_masks=masks,
        notice=None,
    )


def to_tensors(of: Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    """The training images and their labels, as a `Classifier` takes them."""
    return to_tensor(of.train_pixels), torch.from_numpy(of.train_labels)


def experiment(
    *, cnn: OptimConfig = OPTIM, vit: OptimConfig = OPTIM, train: TrainConfig = PLAIN
) -> Experiment:
    """Two tiny models, on the CPU in float32, untracked."""
    return Experiment(
        cnn=CNNConfig(widths=(8, 8, 16), optim=cnn),
        vit=ViTConfig(width=16, depth=2, heads=2, optim=vit),
        optim=dataclasses.replace(OPTIM, crop=0, muon_learning_rate=0.0),
        train=train,
        explain=ExplainConfig(images=20, sweep_images=20),
        tracking=TrackingConfig(wandb="off"),
    )


def train_interrupted(monkeypatch, folder, config, name, *, epoch=1, index=0):
    """Train until Ctrl-C before a step; epochs and steps count from 0."""
    step = Classifier.training_step

    def interrupted(self, batch, i):
        if (self.current_epoch, i) == (epoch, index):
            raise KeyboardInterrupt
        return step(self, batch, i)

    with monkeypatch.context() as patch:
        patch.setattr(Classifier, "training_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(folder, config, name, dataset())
