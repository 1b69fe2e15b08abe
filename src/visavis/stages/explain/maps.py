"""The maps of the chosen images, by every method that fits the model."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import softmax
from torch import Tensor
from tqdm import tqdm

from visavis import attribution
from visavis.attribution import gates
from visavis.attribution.batched import BATCH, grid_maps
from visavis.config import GRID
from visavis.metrics import localization
from visavis.metrics.faithfulness import to_cells
from visavis.metrics.localization import Maps
from visavis.models import Model
from visavis.models.vit import ViT
from visavis.stages.explain.selection import Chosen

GATE_IMAGES = 8
"""Images that a method's repeatability is tried on."""


@dataclass(frozen=True)
class Explained:
    """What one method says of the chosen images."""

    maps: Maps
    """For the predicted class; NaN throughout where the method itself has a fault."""
    true: Maps | None = None
    """For the true class; None for a class-agnostic method, as is the next."""
    others: list[Float[np.ndarray, "sample 8 8"]] | None = None
    """For the runner-up and one more class, of the sample only."""
    fault: str | None = None
    """Why no map of the method is believed."""

    @property
    def degenerate_reasons(self) -> list[str | None]:
        """Why a map says nothing."""
        return (
            [self.fault] * len(self.maps)
            if self.fault
            else localization.degenerate_reasons(self.maps)
        )


def explained(
    model: Model,
    images: Float[Tensor, "n 3 32 32"],
    chosen: Chosen,
    method: str,
    layer: str,
    *,
    predicted_only: bool = False,
) -> Explained:
    """The method's maps, after a trial of the method on the first images.

    Args:
        predicted_only: leave out the maps for other classes.
    """
    facts = attribution.METHODS[method]
    few = slice(GATE_IMAGES)
    found = gates.fault(
        model,
        images[few],
        torch.from_numpy(chosen.predicted[few]).to(images.device),
        method,
        layer=layer if method == "grad_cam" else None,
    )
    if found:
        nothing = np.full((len(images), GRID, GRID), np.nan, dtype=np.float32)
        if predicted_only or not facts.class_specific:
            return Explained(nothing, fault=found)
        return Explained(nothing, nothing, [nothing[: chosen.sample]] * 2, fault=found)
    wrong = np.flatnonzero(chosen.predicted != chosen.labels)
    sample = slice(chosen.sample)
    every_class = facts.class_specific and not predicted_only
    more = 2 * chosen.sample + len(wrong) if every_class else 0
    with tqdm(total=len(images) + more, desc=facts.label, unit=" images", disable=None) as progress:

        def maps(rows: slice | np.ndarray, *asked: np.ndarray) -> list[Maps]:
            of = [classes[rows] for classes in asked]
            return grid_maps(model, images[rows], of, method, layer=layer, progress=progress.update)

        if not every_class:
            return Explained(maps(slice(None), chosen.predicted)[0])
        in_sample = maps(sample, chosen.predicted, chosen.runner_up, chosen.one_more_class)
        (shown,) = maps(slice(chosen.sample, None), chosen.predicted)
        predicted = np.concatenate([in_sample[0], shown])
        true = predicted.copy()
        (true[wrong],) = maps(wrong, chosen.labels)
        return Explained(predicted, true, in_sample[1:])


def arrays(
    model: Model,
    images: Float[Tensor, "n 3 32 32"],
    chosen: Chosen,
    found: dict[str, Explained],
) -> dict[str, np.ndarray]:
    """What heatmaps.npz holds, except the images."""
    stored: dict[str, np.ndarray] = {
        "indices": chosen.indices.astype(np.int32),
        "labels": chosen.labels,
        "predicted": chosen.predicted,
        "runner_up": chosen.runner_up,
        "confidence": softmax(chosen.logits, axis=1).max(axis=1).astype(np.float32),
        "in_sample": np.arange(len(images)) < chosen.sample,
    }
    for method, of in found.items():
        stored[f"degenerate_{method}"] = np.array([r is not None for r in of.degenerate_reasons])
        stored[f"map_{method}"] = np.where(np.isfinite(of.maps), of.maps, 0)
        if of.true is not None:
            stored[f"map_{method}_true"] = np.where(np.isfinite(of.true), of.true, 0)
            reasons = localization.degenerate_reasons(of.true)
            stored[f"degenerate_{method}_true"] = np.array([r is not None for r in reasons])
    if isinstance(model, ViT):
        heads = [
            to_cells(attribution.class_attention(attribution.attention_weights(model, part)))
            for part in images.split(BATCH)
        ]
        by_image = torch.cat(heads, dim=1).transpose(0, 1)  # n layers heads 8 8
        stored["attention_heads"] = by_image.half().cpu().numpy()
    return stored
