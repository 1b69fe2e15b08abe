"""A planted shortcut: maps show it on a model that follows it, and not on one that does not."""

import functools
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import tiny
from visavis import models
from visavis.attribution.batched import grid_maps
from visavis.data import shapes
from visavis.data.batches import to_images
from visavis.metrics import localization

with_mark = runpy.run_path(str(Path(__file__).parents[1] / "recipes" / "shortcut.py"))["with_mark"]


def test_a_mark_names_the_class_by_its_colour_and_changes_nothing_else():
    pixels, labels, _ = shapes.draw(50, seed=3)
    marked = with_mark(pixels, labels)
    assert (marked[:, 4:] == pixels[:, 4:]).all() and (marked[:, :, 4:] == pixels[:, :, 4:]).all()
    colours = {int(of): tuple(image[0, 0]) for image, of in zip(marked, labels, strict=True)}
    assert len(colours) == len(set(colours.values())) == 10
    assert (marked[:, :4, :4] == marked[:, :1, :1]).all()


def others(labels, seed):
    """Another class for each image."""
    return (labels + np.random.default_rng(seed).integers(1, 10, len(labels))) % 10


@functools.cache
def taught(kind, share):
    """A model trained on shapes with a mark, which names the class of a `share` of them."""
    pixels, labels, _ = shapes.draw(1000, seed=0)
    true = np.random.default_rng(0).random(len(labels)) < share
    images = to_images(with_mark(pixels, np.where(true, labels, others(labels, 1))))
    targets = torch.from_numpy(labels)
    torch.manual_seed(0)
    student = models.build(tiny.CNN_CONFIG if kind == "cnn" else tiny.TAUGHT_VIT_CONFIG, 10)
    models.fit_input(student, images)
    optimiser = torch.optim.Adam(student.parameters(), lr=5e-3)
    student.train()
    for _ in range(6):
        for rows in torch.randperm(len(images)).split(50):
            optimiser.zero_grad()
            nn.functional.cross_entropy(student(images[rows]), targets[rows]).backward()
            optimiser.step()
    return tiny.subject(student.eval())


def on_the_mark(kind, share, method, *, follows):
    """The images that are explained, and how much of their maps is on the mark, which is wrong.

    Returns:
        The fraction of test images whose prediction follows the mark or the shape, the share of
        their maps on the mark's cell, and how often that cell is the highest.
    """
    pixels, labels, _ = shapes.draw(200, seed=1)
    wrong = others(labels, 2)
    images = to_images(with_mark(pixels, wrong))
    subject = taught(kind, share)
    classes = wrong if follows == "mark" else labels
    rows = np.flatnonzero(subject.predict(images).argmax(dim=1).numpy() == classes)
    (maps,) = grid_maps(subject, images[rows], [classes[rows]], method)
    corner = np.zeros_like(maps)
    corner[:, 0, 0] = 1
    mass = np.nanmean(localization.relevance_mass(maps, corner))
    hits = np.nanmean(localization.pointing_hit(maps, corner))
    return len(rows) / len(images), mass, hits


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        ("cnn", "integrated_gradients"),
        ("cnn", "occlusion"),
        ("vit", "integrated_gradients"),
        ("vit", "occlusion"),
        ("vit", "gradient_attention"),
    ],
)
def test_maps_show_a_shortcut_that_predictions_rest_on(kind, method):
    follow, mass, hits = on_the_mark(kind, 1.0, method, follows="mark")
    assert follow > 0.6  # or there is nothing to be shown
    assert mass > 0.3 > 10 / 64 and hits > 0.8


@pytest.mark.parametrize("method", ["grad_cam", "integrated_gradients", "occlusion"])
def test_maps_show_no_shortcut_where_predictions_follow_the_shape(method):
    follow, mass, hits = on_the_mark("cnn", 0.8, method, follows="shape")
    assert follow > 0.5
    assert mass < 0.05 and hits < 0.1
