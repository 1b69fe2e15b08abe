"""Experiment folders as the stages leave them, made of random numbers, without any training."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from visavis import run_folder
from visavis.compare.same_images import checksums
from visavis.config import Experiment, to_json
from visavis.data import shapes
from visavis.data.batches import to_images
from visavis.metrics import classification
from visavis.metrics.bootstrap import interval as interval_of
from visavis.metrics.cues import CUES
from visavis.presets import preset

CNN_METHODS = {
    "grad_cam": ("Grad-CAM", True),
    "integrated_gradients": ("Integrated gradients", True),
    "occlusion": ("Occlusion", True),
}
VIT_METHODS = {
    "attention": ("Attention, last block", False),
    "rollout": ("Attention rollout", False),
    "gradient_attention": ("Gradient-weighted attention", True),
    "grad_cam": ("Grad-CAM", True),
    "integrated_gradients": ("Integrated gradients", True),
    "occlusion": ("Occlusion", True),
}
OTHER_METHODS = {"layer_cam": ("LayerCAM", True), "smooth_grad": ("SmoothGrad", True)}
"""Beside those of the CNN, of a model that is neither it nor a ViT."""
CNN_PARTS = ("head", "stages.2", "stages.1", "stages.0", "stem")
VIT_PARTS = (
    *("head", "norm", "blocks.1", "blocks.0"),
    *("class_token", "positions", "patch_embedding"),
)
BASELINES = ("random", "blob", "centre", "edges", "mean")
ACCURACIES = (0.9, 0.8)
KEPT = ((0.95, 0.4, 0.6, 0.95, 0.3, 0.05), (0.97, 0.8, 0.2, 0.7, 0.3, 0.05))
"""The share of predictions that the loss of each cue leaves as they are."""
PARAMETERS = (1_968_450, 2_700_490)


def is_vit(name: str) -> bool:
    return "vit" in name


def methods_of(name: str) -> dict[str, tuple[str, bool]]:
    if is_vit(name):
        return VIT_METHODS
    return CNN_METHODS if name == "cnn" else CNN_METHODS | OTHER_METHODS


def default_of(name: str) -> str:
    return "integrated_gradients" if is_vit(name) else "grad_cam"


def write_experiment(
    folder: Path,
    *,
    names: tuple[str, str] = ("cnn", "vit"),
    untrained: Sequence[str] = (),
    grid: int = 8,
    test: tuple[np.ndarray, np.ndarray, np.ndarray | None] | None = None,
    class_names: tuple[str, ...] = shapes.CLASS_NAMES,
    source: str = "shapes",
    description: str = "built-in shapes",
    notice: str | None = None,
    sample: int = 60,
    seed: int = 0,
    gallery: int = 6,
    accuracy: tuple[float, float] = (0.9, 0.8),
    experiment: Experiment | None = None,
) -> Path:
    """An experiment folder before `compare`, on `test` = (pixels, labels, masks) or on shapes.

    Args:
        untrained: of `names`, those whose weights were brought along.
        grid: of the maps; images are cut to a multiple of it.
    """
    pixels, labels, masks = test or shapes.draw(400, seed=1)
    side = 32 // grid * grid
    pixels, masks = pixels[:, :side, :side], None if masks is None else masks[:, :side, :side]
    experiment = experiment or preset("quick", "shapes")
    experiment = replace(experiment, first=names[0], second=names[1])
    data = {
        "source": source,
        "description": description,
        "notice": notice,
        "fingerprint": "f" * 64,
        "class_names": list(class_names),
        "side": 32,
        "counts": {
            "train": [4500] * 10,
            "validation": [500] * 10,
            "test": np.bincount(labels, minlength=10).tolist(),
        },
        "split_seed": 0,
        "validation_fraction": 0.1,
        "split_fingerprint": "5" * 64,
    }
    examples = np.stack([pixels[np.flatnonzero(labels == c)[0]] for c in range(10)])
    folder.mkdir(parents=True, exist_ok=True)
    run_folder.write_json(
        folder / run_folder.EXPERIMENT,
        {"preset": "quick", "experiment": to_json(experiment), "data": data},
    )
    for number, name in enumerate(names):
        rng = np.random.default_rng([seed, number])
        model = folder / run_folder.folder_name(name)
        model.mkdir(exist_ok=True)
        config = to_json(experiment.model(name))
        run_folder.write_json(
            model / run_folder.CONFIG,
            {
                "model": {"name": name, **config},
                "seed": seed,
                "train": to_json(experiment.train),
                "data": to_json(experiment.data),
            },
        )
        run_folder.write_json(model / run_folder.PROVENANCE, _provenance())
        run_folder.write_json(model / run_folder.DATA, data)
        run_folder.write_arrays(
            model / run_folder.SPLIT,
            train=np.arange(45_000, dtype=np.int32),
            validation=np.arange(45_000, 50_000, dtype=np.int32),
            examples=examples,
        )
        if name in untrained:
            run_folder.write_json(
                model / run_folder.TRAINING,
                {
                    "parameters": 272_474,
                    "weights_sha256": "b" * 64,
                    "modules": [
                        {"name": "conv1", "type": "Conv2d", "parameters": 432},
                        {"name": "layers", "type": "Sequential", "parameters": 271_392},
                        {"name": "fc", "type": "Linear", "parameters": 650},
                    ],
                },
            )
        else:
            _training(model, number, accuracy[number], rng)
            _film(model, name, pixels, labels, grid)
        logits = _predictions(
            model, pixels, labels, class_names, accuracy[number], KEPT[number], rng
        )
        _explanations(
            model, name, experiment, (pixels, labels, masks), logits, sample, gallery, grid, rng
        )
    write_cross_model(folder)
    return folder


def interval(value: float, half: float = 0.03) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + half}


def _provenance() -> dict[str, Any]:
    return {
        "version": "0.1.0",
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "python": "3.11.9",
        "torch": "2.14.1",
        "lightning": "2.6.6",
        "device": "cpu",
        "device_name": "x86_64",
        "started_on": "x86_64",
        "devices": 1,
        "threads": 2,
        "precision": "bf16",
        "compiled": False,
        "started": "2026-11-23T08:50:00+00:00",
        "finished": "2026-11-23T09:10:00+00:00",
    }


def _training(model: Path, number: int, right: float, rng: np.random.Generator) -> None:
    epochs = (8, 12)[number]
    seconds = (61.0, 148.0)[number]
    history = []
    for epoch in range(1, epochs + 1):
        learned = 1 - np.exp(-4 * epoch / epochs)
        val_accuracy = 0.1 + (right - 0.1) * learned + rng.normal(0, 0.004)
        history.append(
            {
                "epoch": epoch,
                "train_loss": 2.3 - 1.6 * learned,
                "train_accuracy": 0.1 + (right - 0.08) * learned,
                "val_loss": 2.3 - 1.85 * learned + 0.15 * max(0, epoch - epochs + 2),
                "val_accuracy": val_accuracy,
                "learning_rate": 0.002 * (1 - epoch / epochs),
                "train_seconds": seconds,
                "elapsed_train_seconds": seconds * epoch,
            }
        )
    run_folder.write_history(model, history)
    best = min(history, key=lambda row: row["val_loss"])
    run_folder.write_json(
        model / run_folder.TRAINING,
        {
            "parameters": PARAMETERS[number],
            "epochs": epochs,
            "best_epoch": best["epoch"],
            "best_val_loss": best["val_loss"],
            "best_val_accuracy": best["val_accuracy"],
            "train_seconds": seconds * epochs,
            "images": 45_000,
            "images_per_second": 45_000 / seconds,
            "weights_sha256": "a" * 64,
            "resumed": False,
        },
    )


def _film(model: Path, name: str, pixels: np.ndarray, labels: np.ndarray, grid: int) -> None:
    rows = np.unique(labels, return_index=True)[1]
    maps = np.stack([_places(pixels[rows], None, grid) * strength for strength in (0.0, 0.5, 1.0)])
    run_folder.write_arrays(
        model / run_folder.SNAPSHOTS,
        epochs=np.array([0, 1, 8], dtype=np.int32),
        images=pixels[rows],
        labels=labels[rows],
        **{f"map_{default_of(name)}": maps},
    )


def _predictions(
    model: Path,
    pixels: np.ndarray,
    labels: np.ndarray,
    class_names: tuple[str, ...],
    right: float,
    kept: Sequence[float],
    rng: np.random.Generator,
) -> np.ndarray:
    logits = rng.normal(0, 1, (len(labels), 10)).astype(np.float32)
    said = np.where(
        rng.random(len(labels)) < right, labels, (labels + rng.integers(1, 4, len(labels))) % 10
    )
    logits[np.arange(len(labels)), said] += rng.uniform(3.5, 7, len(labels)).astype(np.float32)
    said = logits.argmax(1)
    cues = {
        name: np.where(chance < share, said, (labels + said) % 10)
        for name, share, chance in zip(
            CUES, kept, np.random.default_rng(1).random((len(CUES), len(labels))), strict=True
        )
    }
    run_folder.write_arrays(
        model / run_folder.PREDICTIONS,
        logits=logits,
        labels=labels.astype(np.int64),
        indices=np.arange(len(labels), dtype=np.int32),
        validation_logits=logits[::2],
        validation_labels=labels[::2].astype(np.int64),
        cue_indices=np.arange(len(labels), dtype=np.int32),
        cue_examples=_without_cues(pixels[:1]),
        **{f"cue_{name}": predicted for name, predicted in cues.items()},
    )
    confusion = classification.confusion_matrix(labels, logits.argmax(1), 10)
    run_folder.write_json(
        model / run_folder.EVALUATION,
        {
            "n": len(labels),
            "loss": 0.4,
            "accuracy": classification.accuracy(confusion),
            "f1_macro": float(classification.f1_macro(confusion)),
            "f1_per_class": classification.f1_per_class(confusion).tolist(),
            "confusion_matrix": confusion.tolist(),
            "class_names": list(class_names),
            "cues": {
                name: {"label": CUES[name].label, "accuracy": interval_of(predicted == labels)}
                for name, predicted in cues.items()
            },
            "inference_images_per_second": 2150.0 if right > 0.85 else 1480.0,
        },
    )
    return logits


def _without_cues(pixels: np.ndarray) -> np.ndarray:
    side = pixels.shape[1] // 8 * 8
    image, colour = to_images(pixels[:, :side, :side]), torch.full((3,), 0.5)
    changed = [cue.remove(image, colour, np.arange(1)) for cue in CUES.values()]
    return (255 * torch.cat([image, *changed])).byte().permute(0, 2, 3, 1).numpy()


def _explanations(
    model: Path,
    name: str,
    experiment: Experiment,
    test: tuple[np.ndarray, np.ndarray, np.ndarray | None],
    logits: np.ndarray,
    sample: int,
    gallery: int,
    grid: int,
    rng: np.random.Generator,
) -> None:
    pixels, labels, masks = test
    said = logits.argmax(1)
    sampled = np.sort(np.random.default_rng(7).choice(len(labels), sample, replace=False))
    chosen = {
        "correct": np.flatnonzero(said == labels)[:gallery],
        "incorrect": np.flatnonzero(said != labels)[:gallery],
    }
    indices = np.unique(np.concatenate([sampled, *chosen.values()])).astype(np.int32)
    said, labels, pixels = said[indices], labels[indices], pixels[indices]
    share = np.exp(logits[indices])
    arrays: dict[str, np.ndarray] = {
        "indices": indices,
        "images": pixels,
        "labels": labels.astype(np.int64),
        "predicted": said.astype(np.int64),
        "confidence": (share.max(1) / share.sum(1)).astype(np.float32),
        "in_sample": np.isin(indices, sampled),
        "is_mistake": np.isin(indices, sampled) & (said != labels),
        "runner_up": np.argsort(logits[indices], 1)[:, -2].astype(np.int64),
    }
    places = _places(pixels, None if masks is None else masks[indices], grid)
    methods = methods_of(name)
    for number, (method, (_, class_specific)) in enumerate(methods.items()):
        maps = places * (1 + 0.3 * number) + rng.gamma(1.0, 0.04, places.shape)
        arrays[f"map_{method}"] = maps.astype(np.float32)
        arrays[f"degenerate_{method}"] = np.zeros(len(indices), bool)
        if class_specific:
            arrays[f"map_{method}_true"] = maps.astype(np.float32)
            arrays[f"degenerate_{method}_true"] = np.zeros(len(indices), bool)
    if is_vit(name):
        shape = (len(indices), experiment.vit.depth, experiment.vit.heads, grid, grid)
        heads = places[:, None, None] + rng.gamma(1.0, 0.3, shape)
        arrays["attention_heads"] = (heads / heads.sum((3, 4), keepdims=True)).astype(np.float16)
    run_folder.write_arrays(model / run_folder.HEATMAPS, **arrays)
    gains = {
        f"{key}_{method}": rng.normal(0.3 + sign * (0.4 - 0.1 * number), 0.2, (len(sampled), 2))
        for number, method in enumerate(methods)
        for key, sign in (("deletion", -0.5), ("insertion", 0.5))
    }
    run_folder.write_arrays(model / run_folder.REMOVAL, indices=sampled, **gains)

    def scores(srg: float, centre: float, contrast: float = 0.0) -> dict[str, Any]:
        return {
            "srg": interval(srg),
            "srg_mean_fill": interval(srg * 1.1),
            "srg_blur_fill": interval(srg * 0.9),
            "deletion": interval(0.5 - srg / 2),
            "insertion": interval(0.5 + srg / 2),
            "contrast": interval(contrast),
            "srg_runner_up": interval(srg - contrast) if contrast else None,
            "central_mass": interval(centre, 0.01),
            "idsds": interval(srg / 2),
            "keep_top_20": interval(0.4 + srg / 5),
            "gini": interval(0.3 + centre / 2),
            "largest_part": interval(0.9 - srg / 5),
            "relevance_mass": None if masks is None else interval(centre * 0.8, 0.01),
            "pointing_hit": None if masks is None else interval(centre),
            "mask_auc": None if masks is None else interval(0.5 + centre / 2),
        }

    rows = {kind: np.searchsorted(indices, found).tolist() for kind, found in chosen.items()}
    run_folder.write_json(
        model / run_folder.EXPLANATIONS,
        {
            "model": name,
            "n": sample,
            "sample_rule": f"{sample} test images drawn at random with seed 0",
            "grid": [grid, grid],
            "default_method": default_of(name),
            "layer": "blocks.1.norm1" if is_vit(name) else "stages.2",
            "layer_sweep": _sweep(name, grid),
            "methods": {
                method: {
                    "label": label,
                    "class_specific": class_specific,
                    "signed": method in ("integrated_gradients", "occlusion"),
                    "trivial_baselines": {
                        "centre": interval(0.3),
                        "edges": interval(0.1 * number),
                        "mean": interval(0.4),
                    },
                    "robustness": {
                        "noise": interval(0.95 - 0.1 * number),
                        "mirrored": interval(0.8 - 0.1 * number),
                        "shifted": interval(0.75 - 0.1 * number),
                    },
                    "randomised": {
                        "agreement": interval(0.1 + 0.05 * number),
                        "permutation_baseline": interval(0.1),
                        "above_chance": interval(0.05 * number),
                    },
                    "cascading": [
                        {"part": part, "agreement": interval(0.8 / (1 + step))}
                        for step, part in enumerate(VIT_PARTS if is_vit(name) else CNN_PARTS)
                    ],
                    "degenerate": 0,
                    "degenerate_because": {},
                    "keep_top_ahead_of": {"blob": interval(0.5 - 0.05 * number)},
                    "mask_ahead_of": None
                    if masks is None
                    else {key: interval(0.01) for key in ("chance", "centre", "edges")},
                    **{
                        f"srg{fill}_ahead_of": {
                            other: interval(0.2)
                            for other in (*methods, *BASELINES)
                            if other != method
                        }
                        for fill in ("", "_mean_fill", "_blur_fill")
                    },
                    "scores": {
                        **scores(
                            0.4 - 0.1 * number,
                            0.35 + 0.02 * number,
                            0.25 - 0.05 * number if class_specific else 0.0,
                        ),
                        "class_sensitivity": interval(0.8) if class_specific else None,
                    },
                }
                for number, (method, (label, class_specific)) in enumerate(methods.items())
            },
            "baselines": {
                "random": {"label": "Random map", "scores": scores(0.0, 0.25)},
                "blob": {"label": "Blob at a random place", "scores": scores(0.0, 0.25)},
                "centre": {"label": "Centred Gaussian", "scores": scores(0.22, 0.51)},
                "edges": {"label": "Edge strength", "scores": scores(0.12, 0.3)},
                "mean": {"label": "Mean of the model's maps", "scores": scores(0.2, 0.4)},
            },
            "mask_chance": None if masks is None else interval(0.16, 0.005),
            "centre_chance": 0.25,
            "accuracy_masked": {"before": interval(0.7), "after": interval(0.8)},
            "accuracy_unmasked": {"before": interval(0.9), "after": interval(0.91)},
            "score_validation": None if masks is None else _validation(list(methods), interval),
            "other_background": None
            if masks is None
            else {
                "n": 50,
                "prediction": interval(0.9),
                "methods": {
                    method: {"map": interval(0.8), "map_baseline": interval(0.3)}
                    for method in methods
                },
            },
            "gallery": {**rows, "rule": "the first of each kind in the order of the test set."},
            "seconds": 41.0,
        },
    )


def _places(pixels: np.ndarray, masks: np.ndarray | None, grid: int) -> np.ndarray:
    """A blob per image: on its mask, or where it differs most from its mean colour."""
    cells_of = (len(pixels), grid, pixels.shape[1] // grid, grid, pixels.shape[2] // grid)
    if masks is not None:
        return masks.reshape(cells_of).mean((2, 4))
    away = np.abs(pixels - pixels.mean((1, 2), keepdims=True)).mean(3)
    cells = away.reshape(cells_of).mean((2, 4))
    return (cells / cells.max((1, 2), keepdims=True)) ** 2


def write_cross_model(folder: Path) -> None:
    """What the cross_model stage leaves, of the heatmaps that are there now."""
    gains = {"first": 0.4, "second": 0.35}
    models = run_folder.model_folders(folder)
    methods = {role: model.explanations["methods"] for role, model in models.items()}
    default = {role: model.explanations["default_method"] for role, model in models.items()}
    shared = [method for method in methods["first"] if method in methods["second"]]
    pairs = dict.fromkeys([tuple(default.values()), *((m, m) for m in shared)])
    run_folder.write_json(
        folder / run_folder.CROSS_MODEL,
        {
            "labels": {role: model.label for role, model in models.items()},
            "heatmaps_sha256": checksums(folder),
            "n": 50,
            "default_methods": default,
            "rankings": [
                {
                    "model": role,
                    "method": method,
                    "srg": {
                        on: interval(gain * (1 if on == role else 0.5) - 0.03 * number)
                        for on, gain in gains.items()
                    },
                }
                for role, of in methods.items()
                for number, method in enumerate(of)
            ],
            "transfer": [
                {
                    "first_method": a,
                    "second_method": b,
                    "first_transfer": interval(0.6, 0.1),
                    "second_transfer": interval(0.4, 0.1),
                }
                for a, b in pairs
            ],
            "composites": {
                kind: {
                    "candidates": 1000,
                    "recognised": {"first": 0.42, "second": 0.31},
                    "n": 30,
                    "chance": chance,
                    "methods": {
                        role: {
                            name: {
                                "energy": interval(chance + 0.2 * method["class_specific"]),
                                "degenerate_fraction": 0.0,
                            }
                            for name, method in of.items()
                        }
                        for role, of in methods.items()
                    },
                }
                for kind, chance in (("halves", 0.5), ("box", 0.5))
            },
            "seconds": 12.0,
        },
    )


def _validation(methods: list[str], interval: Any) -> dict[str, Any]:
    """What the scores' own test leaves: SRG passed it."""
    course = ["as it is", "25 % noise", "50 % noise", "75 % noise", "noise"]
    course += ["1 cell away", "2 cells away", "3 cells away"]
    return {
        "n": 50,
        "maps": [*methods, *BASELINES],
        "spoilt_map": methods[0],
        "scores": {
            score: {
                "correlation": {"clean_plate": 0.97, "shapley": 0.96, "mask": 0.9},
                "blob": interval(0.0),
                "course": dict(
                    zip(course, (0.4, 0.3, 0.2, 0.1, 0.0, 0.25, 0.1, 0.02), strict=True)
                ),
                "images_needed": 34,
            }
            for score in ("srg", "deletion", "insertion", "idsds", "keep_top_20")
        },
        "passed": True,
        "failed_because": [],
    }


def _sweep(name: str, grid: int) -> dict[str, Any]:
    layers = [("stages.0", 2 * grid, 0.21), ("stages.1", grid, 0.33), ("stages.2", grid, 0.41)]
    if is_vit(name):
        layers = [
            ("blocks.0.norm1", grid, 0.1),
            ("blocks.0.norm2", grid, 0.2),
            ("blocks.1.norm1", grid, 0.3),
        ]
    chosen = layers[-1][0]
    return {
        "split": "validation",
        "n": 200,
        "rows": [
            {
                "layer": layer,
                "grid": [side, side],
                "degenerate": 0,
                "srg": interval(srg),
                "chosen": layer == chosen,
            }
            for layer, side, srg in layers
        ],
        "reason": f"{chosen} has the highest SRG, 0.41 (0.38 to 0.44), of "
        f"the 2 layers whose maps have {grid} × {grid} cells. Measured on 200 validation images.",
    }


def write_study(
    folder: Path, *, variants: Sequence[str] = ("cnn", "vit"), seeds: int = 3, **settings: Any
) -> Path:
    """A study whose trainings are finished; those of a variant differ by chance.

    Args:
        variants: models, each a variant.
    """
    folder.mkdir(parents=True, exist_ok=True)
    experiment = preset("quick", "shapes")
    for seed in range(seeds):
        for other, name in enumerate(variants):
            names, accuracy = (name, variants[other - 1]), (0.9 - 0.06 * other, 0.8)
            made = write_experiment(
                folder / "made",
                names=names,
                seed=len(variants) * seed + other,
                accuracy=accuracy,
                **settings,
            )
            target = folder / run_folder.folder_name(name) / run_folder.SEED.format(seed)
            target.parent.mkdir(exist_ok=True)
            (made / run_folder.folder_name(name)).rename(target)
            shutil.rmtree(made)
            for file, changed in (
                (run_folder.CONFIG, {"seed": seed}),
                (run_folder.TRAINING, {"weights_sha256": f"{seed:032x}{other:032x}"}),
            ):
                values = run_folder.read_json(target / file)
                run_folder.write_json(target / file, {**values, **changed})
    data = run_folder.ModelFolder(target).data
    keys = ("source", "description", "fingerprint", "split_fingerprint")
    run_folder.write_json(
        folder / run_folder.STUDY,
        {
            "data": {key: data[key] for key in keys},
            "explain": to_json(experiment.explain),
            "variants": {
                run_folder.folder_name(name): {
                    "model": name,
                    "varied": {},
                    "seeds": list(range(seeds)),
                    "experiment": to_json(experiment),
                }
                for name in variants
            },
        },
    )
    return folder
