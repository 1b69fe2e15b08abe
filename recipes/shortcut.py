"""A planted shortcut: do the maps show it when a prediction rests on it? 5 minutes on 2 CPU cores.

    .venv/bin/python recipes/shortcut.py OUT [--seed N]

The built-in shapes get a coloured mark in a corner, which names the class in 80 % of the training
images and another class in the rest. On test images whose mark names another class, predictions
divide into those that follow the mark and those that follow the shape. A map that explains its
prediction lies on the mark for the former and on the shape for the latter. Prints, for each model
and method, the share of the map on the mark's cell (chance: 1/64), how often its highest cell is
that one, and the share on the shape, each with its 95 % interval.
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import torch

from visavis import attribution
from visavis.attribution.batched import grid_maps
from visavis.config import TrackingConfig
from visavis.data import shapes
from visavis.data.batches import to_images
from visavis.metrics import localization
from visavis.metrics.bootstrap import interval
from visavis.presets import preset
from visavis.stages.train import train
from visavis.stages.trained import load_trained, observed
from visavis.training import memory

SHARE = 0.8
"""Of the training images whose mark names their class."""
IMAGES = 200
"""Of each kind that are explained, at most."""


MARKS = np.array([(r, g, b) for r in (0, 255) for g in (0, 128, 255) for b in (0, 255)], np.uint8)
"""Colours of the mark: twelve, of which the first ten are used."""


def with_mark(pixels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The images with a square in the upper left corner, 4 x 4 pixels, in the class's colour."""
    marked = pixels.copy()
    marked[:, :4, :4] = MARKS[classes][:, None, None]
    return marked


def other_classes(labels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Another class for each image."""
    return (labels + generator.integers(1, 10, len(labels))) % 10


def text(values: np.ndarray) -> str:
    """A mean with its interval, in percent."""
    of = interval(values.astype(float))
    if of is None:
        return "too few"
    return f"{100 * of['value']:.1f} ({100 * of['low']:.1f} to {100 * of['high']:.1f})"


def main() -> None:
    """Train both models on marked shapes, and explain the predictions of conflicting images."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    memory.keep_freed_memory()
    generator = np.random.default_rng(arguments.seed)
    data = shapes.dataset()
    follows = generator.random(len(data.train_labels)) < SHARE
    others = other_classes(data.train_labels, generator)
    marks = np.where(follows, data.train_labels, others)
    conflicting = other_classes(data.test_labels, generator)
    data = dataclasses.replace(
        data,
        train_pixels=with_mark(data.train_pixels, marks),
        test_pixels=with_mark(data.test_pixels, conflicting),
        redraw=None,
    )
    experiment = dataclasses.replace(
        preset("standard", "shapes"), seed=arguments.seed, tracking=TrackingConfig(wandb="off")
    )
    for name in ("cnn", "vit"):
        folder = arguments.out / name
        train(folder, experiment, name, data)
        model = load_trained(folder)
        subject = observed(model, data.train_pixels[:2])
        images = to_images(data.test_pixels)
        predicted = torch.cat([subject.predict(part).argmax(1) for part in images.split(500)])
        predicted = predicted.numpy()
        kinds = {"mark": predicted == conflicting, "shape": predicted == data.test_labels}
        corner = np.zeros((1, subject.grid, subject.grid), np.float32)
        corner[0, 0, 0] = 1
        for kind, rows in kinds.items():
            print(f"{name}: {text(rows)} % of the predictions follow the {kind}")
            at = np.flatnonzero(rows)[:IMAGES]
            inside = localization.cell_means(data.test_masks[at], subject.grid)
            for method in attribution.methods_for(subject):
                if attribution.METHODS[method].on_request:
                    continue
                (maps,) = grid_maps(subject, images[at], [predicted[at]], method)
                on_corner = np.repeat(corner, len(at), axis=0)
                shares = {
                    "on the mark": localization.relevance_mass(maps, on_corner),
                    "highest there": localization.pointing_hit(maps, on_corner),
                    "on the shape": localization.relevance_mass(maps, inside),
                }
                found = ", ".join(f"{what} {text(of)}" for what, of in shares.items())
                print(f"  {method:22s} {found}")


if __name__ == "__main__":
    main()
