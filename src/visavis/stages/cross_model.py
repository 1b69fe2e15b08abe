"""Stage: cross-model evaluation, on the same images for both models.

Reads, in both models' folders: config.json, data.json, training.json, weights.safetensors,
heatmaps.npz, removal.npz, explanations.json. Writes cross_model.json.

Cross-testing masks cells in the order of the other model's map, and measures how much of its own
SRG a model keeps. The grid pointing game tests whether a map points at its class on composites of
two images; only composites of which both models recognise both classes are used, so that neither
model has the easier ones.
"""

import logging
import shlex
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from visavis import run_folder
from visavis.attribution import Subject
from visavis.attribution.batched import grid_maps
from visavis.compare import transfer
from visavis.compare.same_images import checksums, maps_at, require_same_grid, shared_rows
from visavis.config import EXPLANATION_SEED as SEED
from visavis.config import ExplainConfig
from visavis.data import Dataset
from visavis.data.batches import to_images
from visavis.errors import CheckpointError
from visavis.metrics import composites
from visavis.metrics.bootstrap import MINIMUM
from visavis.metrics.faithfulness import measure
from visavis.run_folder import ROLES, ModelFolder, model_folders
from visavis.stages.trained import check_data, load_trained, observed
from visavis.training import hardware

log = logging.getLogger(__name__)

COMPOSITES = 24
"""Of each kind, at least; a quarter of the explained images, if that is more."""


def cross_evaluate(
    experiment: Path,
    dataset: Dataset,
    config: ExplainConfig,
    *,
    device: torch.device | str = "cpu",
    autocast: bool = False,
) -> None:
    """Test each model with the other's maps, and both on composites; write cross_model.json.

    Args:
        autocast: run the forward passes of SRG in bf16.

    Raises:
        CheckpointError: a model is not explained yet, was altered since, or was trained on other
            images.
    """
    started = time.perf_counter()
    stored = model_folders(experiment)
    subjects = {
        role: _subject(folder, dataset, device, autocast=autocast)
        for role, folder in stored.items()
    }
    require_same_grid(stored)
    explanations = {role: folder.explanations for role, folder in stored.items()}
    rows = shared_rows(*(folder.heatmaps for folder in stored.values()), same_prediction=True)
    rows_of = dict(zip(ROLES, rows, strict=True))
    n = len(rows_of["first"])
    count = max((config.images or explanations["first"]["n"]) // 4, COMPOSITES)
    log.info("Testing each model with the other's maps, on %d test images.", n)
    transferred: dict[str, Any] = {"rankings": [], "transfer": []}
    if n >= MINIMUM:
        transferred = _transfer(subjects, dataset, stored, rows_of)
    run_folder.write_json(
        experiment / run_folder.CROSS_MODEL,
        {
            "labels": {role: folder.label for role, folder in stored.items()},
            "heatmaps_sha256": checksums(experiment),
            "n": n,
            "default_methods": {role: of["default_method"] for role, of in explanations.items()},
            **transferred,
            "composites": {
                kind: _composites(subjects, dataset, kind, explanations, count=count)
                for kind in composites.KINDS
            },
            "seconds": time.perf_counter() - started,
        },
    )


def _subject(
    folder: ModelFolder, dataset: Dataset, device: torch.device | str, *, autocast: bool
) -> Subject:
    """What explanations see of a model, after a check that those stored are of its weights."""
    check_data(folder.path, dataset)
    if folder.explanations.get("weights_sha256") != folder.training["weights_sha256"]:
        raise CheckpointError(
            f"{folder.path} was trained again since it was explained; first: visavis explain "
            f"{shlex.quote(str(folder.path))}"
        )
    model = hardware.place(load_trained(folder.path), torch.device(device))
    grid = folder.explanations["grid"][0]
    return observed(model, dataset.train_pixels[:2], grid=grid, autocast=autocast)


def _transfer(
    subjects: dict[str, Subject],
    dataset: Dataset,
    stored: dict[str, ModelFolder],
    rows: dict[str, np.ndarray],
) -> dict[str, Any]:
    """SRG of every map on both models, and what each keeps with the other's map."""
    indices, labels, predicted = (
        stored["first"].heatmaps[key][rows["first"]] for key in ("indices", "labels", "predicted")
    )
    methods = {role: list(folder.explanations["methods"]) for role, folder in stored.items()}
    images = to_images(dataset.test_pixels[indices])
    gains = {}
    for role, other in (ROLES, ROLES[::-1]):
        device = subjects[role].fill.device
        maps, at = stored[other].heatmaps, rows[other]
        foreign = measure(
            subjects[role],
            images.to(device),
            torch.from_numpy(predicted).to(device),
            {method: maps_at(maps, method, at) for method in methods[other]},
            signed={m: maps[f"signed_{m}"][at] for m in methods[other] if f"signed_{m}" in maps},
            seed=SEED,
            bar=f"{stored[role].name} with the other's maps",
        )
        by_map = {f"{other} {method}": foreign.srg(method) for method in methods[other]}
        gains[role] = transfer.own_and_foreign(role, stored[role], indices, by_map)
    default = tuple(folder.explanations["default_method"] for folder in stored.values())
    shared = [(method, method) for method in methods["first"] if method in methods["second"]]
    return {
        "rankings": transfer.rankings(gains, methods, labels),
        "transfer": transfer.transfer(gains, list(dict.fromkeys([default, *shared])), labels),
    }


def _composites(
    subjects: dict[str, Subject],
    dataset: Dataset,
    kind: composites.Kind,
    explanations: dict[str, Any],
    *,
    count: int,
) -> dict[str, Any]:
    """The energy of both models' maps on composites of one kind."""
    made = composites.composites(
        kind,
        dataset.test_pixels,
        dataset.test_labels,
        count=composites.CANDIDATES * count,
        grid=subjects["first"].grid,
        seed=SEED,
    )
    images = to_images(made.pixels)
    recognised = {}
    for role, subject in subjects.items():
        logits = subject.predict(images.to(subject.fill.device)).cpu().numpy()
        recognised[role] = composites.recognised(logits, made.classes)
    rows = np.flatnonzero(recognised["first"] & recognised["second"])[:count]
    used = composites.Composites(made.pixels[rows], made.classes[rows], made.region[rows])
    return {
        "candidates": len(images),
        "recognised": {role: float(of.mean()) for role, of in recognised.items()},
        "n": len(rows),
        "chance": composites.CHANCE,
        "methods": {
            role: _energies(role, subject, used, explanations[role])
            for role, subject in subjects.items()
        },
    }


def _energies(
    role: str, subject: Subject, made: composites.Composites, explanations: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """The energy of each of a model's methods."""
    images = to_images(made.pixels).to(subject.fill.device)
    found, layer = {}, explanations["layer"]
    for method in explanations["methods"]:
        bar = f"{role} model on composites, {method}"
        first, second = grid_maps(subject, images, [*made.classes.T], method, layer=layer, bar=bar)
        found[method] = composites.energy(first, second, made.region, made.classes[:, 0])
    return found
