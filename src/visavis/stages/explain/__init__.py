"""The explain stage: heatmaps of one trained model on test images, and how far to trust them.

Reads config.json, data.json, training.json, weights.safetensors, predictions.npz and split.npz.
Writes heatmaps.npz, removal.npz (deletion and insertion of each image) and explanations.json.

Each image is explained for the class that the model predicted. Both models are explained on the
same random sample of test images, which all scores are measured on; the gallery's come on top.
"""

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from tqdm import tqdm

from visavis import attribution, models, run_folder
from visavis.config import EXPLANATION_SEED as SEED
from visavis.config import GRID, ExplainConfig
from visavis.data import Dataset
from visavis.data.batches import to_images
from visavis.errors import CheckpointError
from visavis.metrics import localization
from visavis.models import Model
from visavis.stages.explain import findings, layers, maps
from visavis.stages.explain.in_domain import idsds_scores
from visavis.stages.explain.selection import choose_images
from visavis.stages.trained import check_data, load_trained, training_rows, validation_rows

logger = logging.getLogger(__name__)


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
            it was made with other images.
        EnvironmentFault: another process is writing the folder.
    """
    check_data(folder, dataset)
    with run_folder.lock(folder):
        _explain(folder, dataset, config, device=device, autocast=autocast)


def explain_again(
    folder: Path,
    dataset: Dataset,
    config: ExplainConfig,
    *,
    layer: str,
    device: torch.device | str = "cpu",
) -> None:
    """Write heatmaps.npz alone, of the sample: for a second training of an explained model.

    Args:
        layer: where Grad-CAM looks, that of the first training.

    Raises:
        CheckpointError: as `explain`.
    """
    check_data(folder, dataset)
    with run_folder.lock(folder):
        model = load_trained(folder).to(device)
        name = attribution.kind_of(model)
        chosen = choose_images(*_predictions(folder, dataset), sample=config.images, shown=0)
        logger.info("Explaining the %s on %d test images.", name, len(chosen.indices))
        pixels = dataset.test_pixels[chosen.indices]
        images = to_images(pixels).to(device)
        explained = {
            method: maps.explained(model, images, chosen, method, layer, predicted_only=True)
            for method in attribution.methods_for(model)
        }
        run_folder.write_arrays(
            folder / run_folder.HEATMAPS,
            images=pixels,
            layer=np.array(layer),
            weights_sha256=np.array(run_folder.file_sha256(folder / run_folder.WEIGHTS)),
            **maps.arrays(model, images, chosen, explained),
        )


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
    name = attribution.kind_of(model)
    main = attribution.DEFAULT_METHOD[name]
    chosen = choose_images(*_predictions(folder, dataset), sample=config.images)
    sweep = _sweep(folder, model, dataset, config, autocast=autocast)
    layer = next(row["layer"] for row in sweep["rows"] if row["chosen"])
    logger.info("Explaining the %s on %d test images.", name, len(chosen.indices))
    pixels = dataset.test_pixels[chosen.indices]
    images = to_images(pixels).to(device)
    explained = {
        method: maps.explained(model, images, chosen, method, layer)
        for method in attribution.methods_for(model)
    }
    few = slice(chosen.sample)
    own = {method: found.maps[few] for method, found in explained.items()}
    every = findings.with_baselines(own, images[few], main)
    about = (model, images[few], chosen.predicted[few], chosen.labels[few])
    masks = None
    if dataset.test_masks is not None:
        masks = localization.cell_means(dataset.test_masks[chosen.indices[few]])
    removal = findings.removals(
        *about, every, random_orders=config.random_orders, autocast=autocast
    )
    single = idsds_scores(
        model,
        models.config_from_json(run_folder.read_json(folder / run_folder.CONFIG)["model"]).optim,
        dataset,
        training_rows(folder, dataset),
        *about[1:],
        every,
        [method for method, of in explained.items() if of.fault is None],
        layer,
        autocast=autocast,
    )
    found = findings.findings(
        every,
        explained,
        removal,
        findings.keep_top_k(*about, every),
        findings.randomised(*about, own, layer),
        single["scores"],
        masks,
        chosen.labels[few],
        logger.info,
    )
    (folder / run_folder.EXPLANATIONS).unlink(missing_ok=True)  # it names rows of the old heatmaps
    run_folder.write_arrays(
        folder / run_folder.HEATMAPS, images=pixels, **maps.arrays(model, images, chosen, explained)
    )
    run_folder.write_arrays(
        folder / run_folder.REMOVAL, indices=chosen.indices[few], **removal[0].arrays()
    )
    run_folder.write_json(
        folder / run_folder.EXPLANATIONS,
        {
            "model": name,
            "n": chosen.sample,
            "sample_rule": f"{chosen.sample} of the {len(dataset.test_labels)} test images, "
            "drawn at random, the same for both models",
            "grid": [GRID, GRID],
            "default_method": main,
            "layer": layer,
            "layer_sweep": sweep,
            **found,
            "accuracy_masked": single["accuracy_masked"],
            "accuracy_unmasked": single["accuracy_unmasked"],
            "gallery": chosen.gallery,
            "weights_sha256": run_folder.file_sha256(folder / run_folder.WEIGHTS),
            "precision": "bf16" if autocast else "float32",
            "seconds": time.perf_counter() - started,
        },
    )


def _sweep(
    folder: Path, model: Model, dataset: Dataset, config: ExplainConfig, *, autocast: bool
) -> dict[str, Any]:
    """Which layer Grad-CAM looks at, chosen on validation images."""
    rows = np.random.default_rng(SEED).permutation(validation_rows(folder, dataset))
    images = to_images(dataset.train_pixels[rows[: config.sweep_images]])
    name = attribution.kind_of(model)
    logger.info("Choosing the layer that explains the %s on %d images.", name, len(images))
    with tqdm(total=len(images), desc="layers", unit=" images", disable=None) as progress:
        sweep = layers.sweep(
            model,
            images.to(next(model.parameters()).device),
            random_orders=config.random_orders,
            seed=SEED,
            autocast=autocast,
            progress=progress.update,
        )
    logger.info(sweep["reason"])
    return {"split": "validation", "n": len(images), **sweep}


def _predictions(
    folder: Path, dataset: Dataset
) -> tuple[Float[np.ndarray, "m classes"], Int[np.ndarray, " m"]]:
    """The stored test logits and labels, after a check that they are of `dataset`."""
    path = folder / run_folder.PREDICTIONS
    stored = run_folder.read_arrays(path)
    m = len(dataset.test_labels)
    if not (
        {"logits", "labels", "indices"} <= stored.keys()
        and stored["logits"].shape == (m, len(dataset.class_names))
        and np.isfinite(stored["logits"]).all()
        and np.array_equal(stored["indices"], np.arange(m))
        and np.array_equal(stored["labels"], dataset.test_labels)
    ):
        raise CheckpointError(
            f"{path} does not hold one prediction for each test image of {dataset.source}; "
            "evaluate this model again, on the data that it was trained on"
        )
    return stored["logits"], stored["labels"]
