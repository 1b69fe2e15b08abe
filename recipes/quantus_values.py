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
into pixels of each channel, so that its curves have 24 steps where ours have 8. SRG is timed once
more with a CNN of the size of `quick`, ours in the precision that visavis takes on this machine.
"""

import time
from collections.abc import Callable

import numpy as np
import quantus
import torch
from quantus.functions.similarity_func import correlation_spearman

from visavis import models
from visavis.attribution import Subject, explain
from visavis.config import CNNConfig, TrainConfig
from visavis.data import shapes
from visavis.data.batches import to_images
from visavis.metrics import localization, sanity
from visavis.metrics.agreement import rank_agreement
from visavis.metrics.faithfulness import Removal, measure
from visavis.training import hardware

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


def trained(config: CNNConfig, images: torch.Tensor, targets: torch.Tensor) -> models.Model:
    """A CNN after 60 steps, enough for probabilities that differ."""
    torch.manual_seed(0)
    model = models.build(config, classes=2)
    models.fit_input(model, images)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(60):
        rows = torch.arange(50) + 50 * (step % 8)
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(images[rows]), targets[rows]).backward()
        optimiser.step()
    return hardware.place(model.eval(), torch.device("cpu"))


def subject_of(model: models.Model, images: torch.Tensor) -> Subject:
    """What explanations see of it."""
    mean, layers = model.normalize.mean, models.explanation_layers(model)
    return Subject(model, images, mean=mean, layers=layers)


def curve(
    model: models.Model, images: torch.Tensor, targets: torch.Tensor, attributions: np.ndarray
) -> np.ndarray:
    """The mean of Quantus's curve of each image, at the points that ours has."""
    colour = model.normalize.mean.numpy().reshape(3).repeat((CELL * 8) ** 2)

    def to_mean_colour(arr: np.ndarray, indices: np.ndarray, **_: object) -> np.ndarray:
        changed = arr.copy()
        np.put_along_axis(changed, indices, colour[indices], axis=1)
        return changed

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


def main() -> None:
    """Train a small CNN for some steps, and score its maps twice."""
    pixels, labels, masks = shapes.draw(400, 0)
    all_images, all_targets = to_images(pixels), torch.from_numpy(labels % 2)
    model = trained(CNNConfig(widths=(16, 32, 32)), all_images, all_targets)
    images, targets, masks = all_images[:N], all_targets[:N], masks[:N]
    subject = subject_of(model, images)

    def in_cells(shown: torch.Tensor, classes: torch.Tensor) -> np.ndarray:
        return explain(subject, shown, classes, "integrated_gradients").numpy()

    def in_pixels(shown: torch.Tensor, classes: torch.Tensor) -> np.ndarray:
        return in_cells(shown, classes).repeat(CELL, 1).repeat(CELL, 2)[:, None]

    maps, fine = in_cells(images, targets), in_pixels(images, targets)
    removal = measure(subject, images, targets, {"map": maps})
    report("deletion", removal.deletion["map"][:, 0], curve(model, images, targets, fine))
    report("insertion", removal.insertion["map"][:, 0], curve(model, images, targets, -fine))

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

    def srg(of: Subject) -> Removal:
        mean_colour = of.fill.expand(images.shape)
        return measure(of, images, targets, {"map": maps}, masked_with=mean_colour, bar=None)

    def their_srg(of: models.Model) -> np.ndarray:
        return curve(of, images, targets, -fine) - curve(of, images, targets, fine)

    race("SRG, mean colour", lambda: srg(subject), lambda: their_srg(model))
    large = trained(CNNConfig(widths=(64, 128, 256)), all_images, all_targets)
    subject_of_large = subject_of(large, images)
    precision = hardware.precision(TrainConfig(), torch.device("cpu"))
    subject_of_large.autocast = precision == "bf16"
    report(f"SRG in {precision}", srg(subject_of_large).srg("map"), their_srg(large))
    race(f"SRG in {precision}", lambda: srg(subject_of_large), lambda: their_srg(large))
    race("randomisation", cascade, their_cascade)
    race("pointing", lambda: localization.pointing_hit(maps, inside), pointing)


if __name__ == "__main__":
    main()
