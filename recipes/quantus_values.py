"""Our scores and Quantus's, on the same maps of the same model: equal where both define the same.

    pip install quantus && python recipes/quantus_values.py

Deletion: its PixelFlipping, given maps that are constant in a cell, 8 cells a step; its curve ends
with the image in which nothing is left, ours before it. Insertion: the same with the maps negated,
since it removes the lowest cells first. Pointing: its PointingGame with the cells of the mask.
Random logit: of two classes, 1 - max(0, its RandomLogit). Parameter randomisation is not the same:
Quantus initialises each layer again (`reset_parameters`) and averages over layers, where we permute
the values of each tensor, so its value is not compared, but the rank correlation that both use is.

Then the time of both for SRG, parameter randomisation and the pointing game, in turn, the best of
three. Quantus has no SRG of its own: it is the difference of two of its curves. It divides an image
into pixels of each channel, so that its curves have 24 steps where ours have 8.
"""

import time
from collections.abc import Callable

import numpy as np
import quantus
import torch
from quantus.functions.similarity_func import correlation_spearman

from visavis import models
from visavis.attribution import Subject, explain
from visavis.config import CNNConfig
from visavis.data import shapes
from visavis.data.batches import to_images
from visavis.metrics import localization, sanity
from visavis.metrics.agreement import rank_agreement
from visavis.metrics.faithfulness import measure

N, CELL = 60, 4


def report(name: str, ours: np.ndarray, theirs: np.ndarray) -> None:
    """Print both means and the largest difference of an image."""
    apart = float(np.abs(np.asarray(ours) - np.asarray(theirs)).max())
    print(
        f"{name:20s} mean {np.mean(ours):+.6f}, Quantus {np.mean(theirs):+.6f}, apart {apart:.1e}"
    )


def race(name: str, ours: Callable[[], object], theirs: Callable[[], object]) -> None:
    """Print the seconds that both take."""
    seconds: dict[Callable[[], object], list[float]] = {ours: [], theirs: []}
    for _ in range(3):
        for each in (ours, theirs):
            started = time.perf_counter()
            each()
            seconds[each].append(time.perf_counter() - started)
    best = [min(seconds[each]) for each in (ours, theirs)]
    print(f"{name:20s} {best[0]:.3f} s, Quantus {best[1]:.3f} s, ratio {best[1] / best[0]:.1f}")


def main() -> None:
    """Train a small CNN for some steps, and score its maps twice."""
    torch.manual_seed(0)
    pixels, labels, masks = shapes.draw(400, 0)
    images = to_images(pixels)
    model = models.build(CNNConfig(widths=(16, 32, 32)), classes=2)
    models.fit_input(model, images)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    targets = torch.from_numpy(labels % 2)
    for step in range(60):  # enough for probabilities that differ
        rows = torch.arange(50) + 50 * (step % 8)
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(images[rows]), targets[rows]).backward()
        optimiser.step()
    model.eval()
    images, targets, masks = images[:N], targets[:N], masks[:N]
    layers = models.explanation_layers(model)
    subject = Subject(model, images, mean=model.normalize.mean, layers=layers)

    def in_cells(shown: torch.Tensor, classes: torch.Tensor) -> np.ndarray:
        return explain(subject, shown, classes, "integrated_gradients").numpy()

    def in_pixels(shown: torch.Tensor, classes: torch.Tensor) -> np.ndarray:
        return in_cells(shown, classes).repeat(CELL, 1).repeat(CELL, 2)[:, None]

    maps, fine = in_cells(images, targets), in_pixels(images, targets)
    removal = measure(subject, images, targets, {"map": maps})
    colour = model.normalize.mean.numpy().reshape(3).repeat((CELL * 8) ** 2)

    def to_mean_colour(arr: np.ndarray, indices: np.ndarray, **_: object) -> np.ndarray:
        changed = arr.copy()
        np.put_along_axis(changed, indices, colour[indices], axis=1)
        return changed

    def curve(attributions: np.ndarray) -> np.ndarray:
        flipping = quantus.PixelFlipping(
            features_in_step=8 * CELL**2,  # of 3 channels, so that every third point is one of ours
            perturb_baseline="black",
            perturb_func=to_mean_colour,
            disable_warnings=True,
        )
        values = flipping(
            model=model,
            x_batch=images.numpy(),
            y_batch=targets.numpy(),
            a_batch=attributions,
            softmax=True,
        )
        return np.array(values)[:, 2::3][:, :7].mean(axis=1)

    report("deletion", removal.deletion["map"][:, 0], curve(fine))
    report("insertion", removal.insertion["map"][:, 0], curve(-fine))

    inside = (localization.cell_means(masks, 8) >= 0.5).astype(np.float32)

    def pointing() -> np.ndarray:
        found = quantus.PointingGame(disable_warnings=True)(
            model=model,
            x_batch=images.numpy(),
            y_batch=targets.numpy(),
            a_batch=fine,
            s_batch=inside.repeat(CELL, 1).repeat(CELL, 2)[:, None],
        )
        return np.array(found, dtype=float)

    report("pointing", localization.pointing_hit(maps, inside), pointing())

    def explained(model: torch.nn.Module, inputs: object, targets: object, **_: object) -> object:
        of = subject.with_model(model)
        maps = explain(
            of, torch.as_tensor(inputs), torch.as_tensor(targets), "integrated_gradients"
        )
        return maps.numpy().repeat(CELL, 1).repeat(CELL, 2)[:, None]

    other = in_cells(images, 1 - targets)
    logit = quantus.RandomLogit(
        similarity_func=correlation_spearman, num_classes=2, disable_warnings=True
    )(
        model=model,
        x_batch=images.numpy(),
        y_batch=targets.numpy(),
        a_batch=fine,
        explain_func=explained,
    )
    sensitivity = localization.class_sensitivity(maps, other)
    report("random logit", sensitivity, 1 - np.clip(np.array(logit, dtype=float), 0, None))
    pairs = zip(maps, other, strict=True)
    theirs = [correlation_spearman(a.ravel(), b.ravel()) for a, b in pairs]
    report("rank correlation", rank_agreement(maps, other), np.array(theirs))

    parts = sanity.parts(model)
    layers_of_quantus = sum(hasattr(of, "reset_parameters") for of in model.modules())
    print(f"{len(parts)} parts are randomised in turn, by Quantus {layers_of_quantus} layers")

    def cascade() -> None:
        for count in range(1, len(parts) + 1):
            randomised = sanity.maps_of_randomised(
                subject, images, targets.numpy(), "integrated_gradients", parts[:count]
            )
            rank_agreement(maps, randomised)

    def their_cascade() -> None:
        quantus.MPRT(
            similarity_func=correlation_spearman, layer_order="top_down", disable_warnings=True
        )(
            model=model,
            x_batch=images.numpy(),
            y_batch=targets.numpy(),
            a_batch=fine,
            explain_func=explained,
        )

    mean_colour = subject.fill.expand(images.shape)
    race(
        "SRG, mean colour",
        lambda: measure(subject, images, targets, {"map": maps}, masked_with=mean_colour, bar=None),
        lambda: curve(-fine) - curve(fine),
    )
    race("randomisation", cascade, their_cascade)
    race("pointing", lambda: localization.pointing_hit(maps, inside), pointing)


if __name__ == "__main__":
    main()
