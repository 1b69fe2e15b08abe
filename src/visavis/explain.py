"""The explain stage: heatmaps of one trained model on test pictures, and how far to trust them.

Reads config.json, data.json, training.json, weights.safetensors, predictions.npz and, for the CNN,
split.npz.
Writes heatmaps.npz and explanations.json.

Each picture is explained for the class that the model predicted. Both models are explained on the
same random sample of test pictures, which all scores are measured on; the gallery's come on top.
"""

import logging
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.special import softmax
from torch import Tensor
from tqdm import tqdm

from visavis import runs, saliency
from visavis.config import GRID, ExplainConfig
from visavis.data import Dataset
from visavis.errors import CheckpointError
from visavis.loader import to_images
from visavis.metrics import Interval, interval
from visavis.models import Model
from visavis.models.cnn import CNN
from visavis.models.vit import ViT
from visavis.saliency import layers, placement
from visavis.saliency.faithfulness import Removal, measure, to_cells
from visavis.saliency.placement import Maps
from visavis.saliency.selection import SEED, Chosen, choose_pictures
from visavis.trained import check_data, load_trained, validation_rows

logger = logging.getLogger(__name__)

BATCH = 50
BASELINES = {"random": "Random map", "centre": "Centred Gaussian", "edges": "Edge strength"}


def explain(
    folder: Path,
    dataset: Dataset,
    config: ExplainConfig,
    *,
    device: torch.device | str = "cpu",
    autocast: bool = False,
) -> None:
    """Explain the model in `folder` and write what was found.

    Args:
        autocast: the forward passes of the deletion and insertion scores run in bf16. Maps are
            computed in float32 in any case.

    Raises:
        CheckpointError: the folder lacks something, its weights were altered since the training, or
            it was made with other pictures.
        EnvironmentFault: another process is writing the folder.
    """
    check_data(folder, dataset)
    with runs.lock(folder):
        _explain(folder, dataset, config, device=device, autocast=autocast)


def _explain(
    folder: Path,
    dataset: Dataset,
    config: ExplainConfig,
    *,
    device: torch.device | str,
    autocast: bool,
) -> None:
    started = time.perf_counter()
    model = load_trained(folder).to(device)
    name = saliency.kind_of(model)
    chosen = choose_pictures(*_predictions(folder, dataset), sample=config.images)
    layer, sweep = saliency.default_layer(model), None
    if isinstance(model, CNN):
        rows = np.random.default_rng(SEED).permutation(validation_rows(folder, dataset))
        images = to_images(dataset.train_pixels[rows[: config.sweep_images]]).to(device)
        logger.info("Choosing the layer that explains the %s on %d pictures.", name, len(images))
        with _bar(len(images), "layers") as bar:
            sweep = layers.sweep(
                model,
                images,
                random_orders=config.random_orders,
                seed=SEED,
                autocast=autocast,
                progress=bar.update,
            )
        sweep = {"split": "validation", "n": len(images), **sweep}
        layer = next(row["layer"] for row in sweep["rows"] if row["chosen"])
        logger.info(sweep["reason"])
    logger.info("Explaining the %s on %d test pictures.", name, len(chosen.indices))
    pixels = dataset.test_pixels[chosen.indices]
    images = to_images(pixels).to(device)
    explained = {
        method: _explained(model, images, chosen, method, layer)
        for method in saliency.methods_for(model)
    }
    few = slice(chosen.sample)
    maps = {
        **{method: found.maps[few] for method, found in explained.items()},
        "random": placement.random_maps(chosen.sample, seed=SEED),
        "centre": placement.centre_maps(chosen.sample),
        "edges": placement.edge_maps(images[few].cpu().numpy()),
    }
    with _bar(chosen.sample, "deletion and insertion") as bar:
        removal = measure(
            model,
            images[few],
            torch.from_numpy(chosen.predicted[few]).to(device),
            maps,
            random_orders=config.random_orders,
            seed=SEED,
            autocast=autocast,
            progress=bar.update,
        )
    masks = None
    if dataset.test_masks is not None:
        masks = placement.cell_means(dataset.test_masks[chosen.indices[few]])
    arrays = _arrays(model, images, chosen, explained)
    (folder / runs.EXPLANATIONS).unlink(missing_ok=True)  # it names rows of the old heatmaps
    runs.write_arrays(folder / runs.HEATMAPS, images=pixels, **arrays)
    runs.write_json(
        folder / runs.EXPLANATIONS,
        {
            "model": name,
            "n": chosen.sample,
            "sample_rule": f"{chosen.sample} of the {len(dataset.test_labels)} test pictures, "
            "drawn at random, the same for both models",
            "grid": [GRID, GRID],
            "default_method": saliency.DEFAULT_METHOD[name],
            "layer": layer,
            "layer_sweep": sweep,
            **_findings(maps, explained, removal, masks),
            "gallery": chosen.gallery,
            "precision": "bf16" if autocast else "float32",
            "seconds": time.perf_counter() - started,
        },
    )


def _predictions(
    folder: Path, dataset: Dataset
) -> tuple[Float[np.ndarray, "m classes"], Int[np.ndarray, " m"]]:
    """The stored test logits and labels, after a check that they are of `dataset`."""
    path = folder / runs.PREDICTIONS
    stored = runs.read_arrays(path)
    m = len(dataset.test_labels)
    if not (
        {"logits", "labels", "indices"} <= stored.keys()
        and stored["logits"].shape == (m, len(dataset.class_names))
        and np.isfinite(stored["logits"]).all()
        and np.array_equal(stored["indices"], np.arange(m))
        and np.array_equal(stored["labels"], dataset.test_labels)
    ):
        raise CheckpointError(
            f"{path} does not hold one prediction for each test picture of {dataset.source}; "
            "evaluate this model again, on the data that it was trained on"
        )
    return stored["logits"], stored["labels"]


@dataclass(frozen=True)
class Explained:
    """What one method says of the chosen pictures."""

    maps: Maps
    """For the predicted class."""
    true: Maps | None = None
    """For the true class; None for a class-agnostic method, as is the next."""
    others: list[Float[np.ndarray, "sample 8 8"]] | None = None
    """For the runner-up and one more class, of the sample only."""

    @property
    def refusals(self) -> list[str | None]:
        """Why a map says nothing."""
        return placement.refusals(self.maps)


def _explained(
    model: Model, images: Float[Tensor, "n 3 32 32"], chosen: Chosen, method: str, layer: str
) -> Explained:
    at = layer if method == "grad_cam" else None
    specific = saliency.METHODS[method].class_specific
    wrong = np.flatnonzero(chosen.predicted != chosen.labels)
    total = len(images) + specific * (2 * chosen.sample + len(wrong))
    with _bar(total, saliency.METHODS[method].label) as bar:

        def maps(rows: slice | np.ndarray, classes: np.ndarray) -> np.ndarray:
            asked = torch.from_numpy(classes[rows]).to(images.device)
            parts = [np.empty((0, GRID, GRID), dtype=np.float32)]
            for pictures, c in zip(images[rows].split(BATCH), asked.split(BATCH), strict=True):
                heatmaps = saliency.explain(model, pictures, c, method, layer=at)
                parts.append(to_cells(heatmaps).cpu().numpy())
                bar.update(len(pictures))
            return np.concatenate(parts)

        predicted = maps(slice(None), chosen.predicted)
        if not specific:
            return Explained(predicted)
        true = predicted.copy()
        if len(wrong):
            true[wrong] = maps(wrong, chosen.labels)
        sample = slice(chosen.sample)
        others = [maps(sample, classes) for classes in (chosen.runner_up, chosen.one_more_class)]
        return Explained(predicted, true, others)


def _arrays(
    model: Model,
    images: Float[Tensor, "n 3 32 32"],
    chosen: Chosen,
    explained: dict[str, Explained],
) -> dict[str, np.ndarray]:
    """What heatmaps.npz holds, except the pictures."""
    arrays: dict[str, np.ndarray] = {
        "indices": chosen.indices.astype(np.int32),
        "labels": chosen.labels,
        "predicted": chosen.predicted,
        "runner_up": chosen.runner_up,
        "confidence": softmax(chosen.logits, axis=1).max(axis=1).astype(np.float32),
        "in_sample": np.arange(len(images)) < chosen.sample,
    }
    for method, found in explained.items():
        arrays[f"refused_{method}"] = np.array([r is not None for r in found.refusals])
        arrays[f"map_{method}"] = np.where(np.isfinite(found.maps), found.maps, 0)
        if found.true is not None:
            arrays[f"map_{method}_true"] = np.where(np.isfinite(found.true), found.true, 0)
            reasons = placement.refusals(found.true)
            arrays[f"refused_{method}_true"] = np.array([r is not None for r in reasons])
    if isinstance(model, ViT):
        heads = [
            to_cells(saliency.class_attention(saliency.attention_weights(model, part)))
            for part in images.split(BATCH)
        ]
        by_picture = torch.cat(heads, dim=1).transpose(0, 1)  # n layers heads 8 8
        arrays["attention_heads"] = by_picture.half().cpu().numpy()
    return arrays


def _findings(
    maps: dict[str, Maps],
    explained: dict[str, Explained],
    removal: Removal,
    masks: Float[np.ndarray, "sample 8 8"] | None,
) -> dict[str, Any]:
    """The part of explanations.json with the scores, all measured on the sample."""

    def scores(name: str) -> dict[str, Interval | None]:
        good = np.isfinite(removal.deletion[name])  # a refused map is not scored
        middle = placement.share_inside(maps[name], placement.centre(len(good)))
        inside = None if masks is None else placement.share_inside(maps[name], masks)
        return {
            **removal.scores(name),
            "centre_share": interval(middle[good]),
            "mask_share": None if inside is None else interval(inside[good]),
        }

    methods = {}
    for name, found in explained.items():
        sample = slice(len(maps[name]))
        reasons = Counter(reason for reason in found.refusals[sample] if reason is not None)
        values = None
        if found.others is not None:
            values = placement.class_sensitivity(found.maps[sample], found.others)
        method = saliency.METHODS[name]
        for reason, count in reasons.items():
            logger.info("%s: %d maps are not scored: %s.", method.label, count, reason)
        methods[name] = {
            "label": method.label,
            "class_specific": method.class_specific,
            "refused": reasons.total(),
            "refused_because": dict(reasons),
            "scores": scores(name)
            | {"class_sensitivity": None if values is None else interval(values)},
            "deletion_ahead_of": {o: removal.ahead(name, o) for o in maps if o != name},
        }
    return {
        "methods": methods,
        "baselines": {n: {"label": label, "scores": scores(n)} for n, label in BASELINES.items()},
        "mask_chance": None if masks is None else interval(masks.mean(axis=(1, 2))),
        "centre_chance": 0.25,
    }


def _bar(total: int, what: str) -> Any:
    """A progress bar on stderr, where that is a terminal."""
    return tqdm(total=total, desc=what, unit=" pictures", disable=None)
