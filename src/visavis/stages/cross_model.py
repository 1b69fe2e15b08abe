"""The cross_model stage: what takes both models at once, on the same images.

Reads, in cnn/ and in vit/: config.json, data.json, training.json, weights.safetensors,
heatmaps.npz, removal.npz, explanations.json. Writes cross_model.json.

Cross-testing asks how much of its own gain a model keeps when the cells are removed in the order of
the other model's map. Composites, images made of two, ask whether maps point at their class; they
are those on which both models recognise both classes, so that neither has the easier ones.
"""

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from tqdm import tqdm

from visavis import run_folder
from visavis.attribution.batched import grid_maps
from visavis.compare.pairing import Arrays, Rows, checksums, common_rows
from visavis.config import EXPLANATION_SEED as SEED
from visavis.config import MODEL_NAMES, ExplainConfig
from visavis.data import Dataset
from visavis.data.batches import to_images
from visavis.errors import CheckpointError
from visavis.metrics import composites
from visavis.metrics.bootstrap import MINIMUM, interval, ratio_interval
from visavis.metrics.faithfulness import Removal, deletion_means
from visavis.metrics.localization import Maps
from visavis.models import Model
from visavis.stages.trained import check_data, load_trained

log = logging.getLogger(__name__)


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
        autocast: the forward passes of the deletion scores run in bf16.

    Raises:
        CheckpointError: a model is not explained yet, was altered since, or is of other images.
    """
    started = time.perf_counter()
    for name in MODEL_NAMES:
        check_data(experiment / name, dataset)
    models = {name: load_trained(experiment / name).to(device) for name in MODEL_NAMES}
    said = {
        name: run_folder.read_json(experiment / name / run_folder.EXPLANATIONS)
        for name in MODEL_NAMES
    }
    for name, values in said.items():
        trained = run_folder.read_json(experiment / name / run_folder.TRAINING)["weights_sha256"]
        if values.get("weights_sha256") != trained:
            raise CheckpointError(
                f"{experiment / name} was trained anew since it was explained; first: visavis "
                f"explain {experiment / name}"
            )
    heatmaps = {
        name: run_folder.read_arrays(experiment / name / run_folder.HEATMAPS)
        for name in MODEL_NAMES
    }
    measured = {
        name: run_folder.read_arrays(experiment / name / run_folder.REMOVAL) for name in MODEL_NAMES
    }
    rows = dict(zip(MODEL_NAMES, common_rows(*heatmaps.values()), strict=True))
    n = len(rows["cnn"])
    log.info("Testing each model with the other's maps, on %d test images.", n)
    run_folder.write_json(
        experiment / run_folder.CROSS_MODEL,
        {
            "heatmaps_sha256": checksums(experiment),
            "n": n,
            "default_methods": {name: values["default_method"] for name, values in said.items()},
            **_transfer(models, dataset, said, heatmaps, measured, rows, autocast=autocast),
            "composites": {
                kind: _composites(models, dataset, kind, said, count=config.composites)
                for kind in composites.KINDS
            },
            "seconds": time.perf_counter() - started,
        },
    )


def _transfer(
    models: dict[str, Model],
    dataset: Dataset,
    said: dict[str, Any],
    heatmaps: dict[str, Arrays],
    measured: dict[str, Arrays],
    rows: dict[str, Rows],
    *,
    autocast: bool,
) -> dict[str, Any]:
    """Deletion scores of every map on both models, and what each keeps with the other's map.

    Both are empty if the models agree on too few images.
    """
    if len(rows["cnn"]) < MINIMUM:
        return {"rankings": [], "transfer": []}
    maps: dict[str, Maps] = {}
    for name in MODEL_NAMES:
        for method in said[name]["methods"]:
            refused = heatmaps[name][f"degenerate_{method}"][rows[name]]
            found = heatmaps[name][f"map_{method}"][rows[name]]
            maps[f"{name} {method}"] = np.where(refused[:, None, None], np.nan, found)
    first = heatmaps["cnn"]
    indices = first["indices"][rows["cnn"]]
    labels, predicted = first["labels"][rows["cnn"]], first["predicted"][rows["cnn"]]
    images = to_images(dataset.test_pixels[indices])
    removal = {}
    for name, model in models.items():
        on = next(model.parameters()).device
        foreign = {key: of for key, of in maps.items() if not key.startswith(f"{name} ")}
        with tqdm(
            total=len(images), desc=f"{name} with the other's maps", unit=" images", disable=None
        ) as progress:
            means = deletion_means(
                model,
                images.to(on),
                torch.from_numpy(predicted).to(on),
                foreign,
                seed=SEED,
                autocast=autocast,
                progress=progress.update,
            )
        removal[name] = _with_own(name, measured[name], indices, means, labels)

    def kept(tested: str, own: str, foreign: str) -> Any:
        """The gain with the other's order over the gain with its own; None unless that is one."""
        found = removal[tested]
        return ratio_interval(
            found.random - found.deletion[foreign],
            found.random - found.deletion[own],
            clusters=labels,
        )

    shared = [m for m in said["cnn"]["methods"] if m in said["vit"]["methods"]]
    main = (said["cnn"]["default_method"], said["vit"]["default_method"])
    return {
        "rankings": [
            {
                "model": name,
                "method": method,
                "deletion": {
                    on: ratio_interval(
                        found.random - found.deletion[f"{name} {method}"],
                        found.random - found.oracle_deletion,
                        clusters=labels,
                    )
                    for on, found in removal.items()
                },
            }
            for name in MODEL_NAMES
            for method in said[name]["methods"]
        ],
        "transfer": [
            {
                "cnn_method": a,
                "vit_method": b,
                "cnn_transfer": kept("cnn", f"cnn {a}", f"vit {b}"),
                "vit_transfer": kept("vit", f"vit {b}", f"cnn {a}"),
            }
            for a, b in dict.fromkeys([main, *((m, m) for m in shared)])
        ],
    }


def _with_own(
    name: str,
    measured: Arrays,
    indices: Int[np.ndarray, " n"],
    foreign: dict[str, Float[np.ndarray, " n"]],
    labels: Int[np.ndarray, " n"],
) -> Removal:
    """What the explain stage measured of these images, and the deletion by the other's maps."""
    place = {index: row for row, index in enumerate(measured["indices"].tolist())}
    rows = np.array([place[index] for index in indices.tolist()])
    own = {
        f"{name} {key.removeprefix('deletion_')}": values[rows]
        for key, values in measured.items()
        if key.startswith("deletion_")
    }
    return Removal(
        random=measured["random"][rows],
        oracle_deletion=measured["oracle_deletion"][rows],
        oracle_insertion=measured["oracle_insertion"][rows],
        deletion=own | foreign,
        insertion={},
        clusters=labels,
    )


def _composites(
    models: dict[str, Model],
    dataset: Dataset,
    kind: composites.Kind,
    said: dict[str, Any],
    *,
    count: int,
) -> dict[str, Any]:
    """Where the maps of both models lie on composites of one kind."""
    made = composites.composites(
        kind,
        dataset.test_pixels,
        dataset.test_labels,
        count=composites.CANDIDATES * count,
        seed=SEED,
    )
    images = to_images(made.pixels)
    known = {name: _recognised(model, images, made.classes) for name, model in models.items()}
    rows = np.flatnonzero(known["cnn"] & known["vit"])[:count]
    classes, region = made.classes[rows], made.region[rows]
    energies: dict[str, dict[str, Any]] = {}
    for name, model in models.items():
        methods = [m for m, of in said[name]["methods"].items() if of["invalid_because"] is None]
        nothing = {"energy": None, "degenerate_fraction": 1.0}
        energies[name] = dict.fromkeys(said[name]["methods"], nothing)
        with tqdm(
            total=2 * len(rows) * len(methods),
            desc=f"{name} on composites",
            unit=" images",
            disable=None,
        ) as progress:
            for method in methods:
                first, second = grid_maps(
                    model,
                    images[rows].to(next(model.parameters()).device),
                    [classes[:, 0], classes[:, 1]],
                    method,
                    layer=said[name]["layer"],
                    progress=progress.update,
                )
                energies[name][method] = _energy(first, second, region, classes[:, 0])
    return {
        "candidates": len(images),
        "recognised": {name: float(of.mean()) for name, of in known.items()},
        "n": len(rows),
        "chance": 0.5,
        "methods": energies,
    }


def _recognised(
    model: Model, images: torch.Tensor, classes: Int[np.ndarray, "n 2"]
) -> Bool[np.ndarray, " n"]:
    device = next(model.parameters()).device
    with torch.inference_mode():
        parts = [model(part.to(device)).cpu() for part in images.split(100)]
    return composites.recognised(torch.cat(parts).numpy(), classes)


def _energy(
    first: Maps,
    second: Maps,
    region: Float[np.ndarray, "n 8 8"],
    classes: Int[np.ndarray, " n"],
) -> dict[str, Any]:
    """Share of a map's mass on its class's part, the mean of both classes' maps; chance is 0.5."""
    both = composites.energies(first, second, region)
    empty = np.isnan(both)
    area = region.mean(axis=(1, 2))
    chance = np.stack([area, 1 - area], axis=1)
    values = np.where(empty, chance, both).mean(axis=1)  # a map that says nothing is as chance
    return {
        "energy": interval(values, clusters=classes),
        "degenerate_fraction": float(empty.mean()) if empty.size else 0.0,
    }
