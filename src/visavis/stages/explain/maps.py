"""The maps of the chosen images, by every method that fits the model."""

import functools
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import softmax
from torch import Tensor

from visavis import attribution
from visavis.attribution import Subject, gates
from visavis.attribution.batched import grid_maps, to_cells
from visavis.attribution.degenerate import Maps, valid
from visavis.data import Pixels
from visavis.data.batches import Images, in_batches
from visavis.stages.explain.selection import Chosen

logger = logging.getLogger(__name__)

GATE_IMAGES = 4
"""Images on which a method's repeatability is tested."""


@dataclass(frozen=True)
class Explained:
    """One method's maps of the chosen images."""

    maps: Maps
    """For the predicted class."""
    true: Maps | None = None
    """For the true class; None for a class-agnostic method, as is the next."""
    runner_up: Float[np.ndarray, "sample g g"] | None = None
    """For the class of the second-highest logit, of the sample only."""
    signed: Maps | None = None
    """`maps` before the ReLU; None for a method without one, as is the next."""
    signed_runner_up: Float[np.ndarray, "sample g g"] | None = None


def explain_all(
    subject: Subject,
    images: Images,
    chosen: Chosen,
    layer: str | None,
    *,
    on_request: Sequence[str] = (),
    predicted_only: bool = False,
) -> tuple[dict[str, Explained], dict[str, str]]:
    """The maps of all methods that fit the model, and why the maps of others are not valid on it.

    Args:
        layer: where Grad-CAM looks.
        on_request: methods that are measured only if they are named.
        predicted_only: leave out the maps for other classes.
    """
    logger.info("Explaining %d test images.", len(chosen.indices))
    found, refused = {}, {}
    first = images[:GATE_IMAGES]
    targets = torch.from_numpy(chosen.predicted[:GATE_IMAGES]).to(images.device)
    for method in attribution.methods_for(subject):
        facts = attribution.METHODS[method]
        if facts.on_request and method not in on_request:
            continue
        at = layer if facts.needs == "layers" else None
        if invalid := gates.invalid_because(subject, first, targets, method, layer=at):
            refused[method] = f"its maps are {invalid}"
            logger.warning("%s is left out: %s.", facts.label, refused[method])
        else:
            found[method] = _explained(
                subject, images, chosen, method, layer, predicted_only=predicted_only
            )
    return found, refused


def _explained(
    subject: Subject,
    images: Images,
    chosen: Chosen,
    method: str,
    layer: str | None,
    *,
    predicted_only: bool,
) -> Explained:
    """One method's maps."""
    facts = attribution.METHODS[method]
    maps = functools.partial(grid_maps, subject, method=method, layer=layer, bar=facts.label)
    (predicted,) = maps(images, [chosen.predicted])
    if predicted_only or not facts.class_specific:
        return Explained(predicted)
    wrong = np.flatnonzero(chosen.predicted != chosen.labels)
    true = predicted.copy()
    (true[wrong],) = maps(images[wrong], [chosen.labels[wrong]])
    sample = images[: chosen.sample], [chosen.runner_up[: chosen.sample]]
    (runner_up,) = maps(*sample)
    if facts.before_relu is None:
        return Explained(predicted, true, runner_up)
    (signed,) = maps(images, [chosen.predicted], before_relu=True)
    (signed_runner_up,) = maps(*sample, before_relu=True)
    return Explained(predicted, true, runner_up, signed, signed_runner_up)


def arrays(
    subject: Subject, images: Images, pixels: Pixels, chosen: Chosen, found: dict[str, Explained]
) -> dict[str, np.ndarray]:
    """The contents of heatmaps.npz."""
    stored: dict[str, np.ndarray] = {
        "images": pixels,
        "indices": chosen.indices.astype(np.int32),
        "labels": chosen.labels,
        "predicted": chosen.predicted,
        "runner_up": chosen.runner_up,
        "confidence": softmax(chosen.logits, axis=1).max(axis=1).astype(np.float32),
        "in_sample": np.arange(len(images)) < chosen.sample,
        "is_mistake": np.isin(np.arange(len(images)), chosen.mistakes),
    }
    for method, of in found.items():
        for name, maps in ((method, of.maps), (f"{method}_true", of.true)):
            if maps is not None:
                stored[f"degenerate_{name}"] = ~valid(maps)
                stored[f"map_{name}"] = np.where(np.isfinite(maps), maps, 0)
        if of.signed is not None:
            stored[f"signed_{method}"] = np.nan_to_num(of.signed)
    if "attention" in found:

        def heads(batch: Tensor) -> Float[Tensor, "b layers heads g g"]:
            weights = attribution.attention_weights(subject, batch)
            patches = attribution.patch_attention(subject, weights)
            return to_cells(patches, subject.grid).transpose(0, 1)

        stored["attention_heads"] = in_batches(heads, images, size=50).half().cpu().numpy()
    return stored
