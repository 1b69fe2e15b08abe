"""Experiment folders as the stages leave them, made of random numbers, without any training."""

from pathlib import Path
from typing import Any

import numpy as np

from visavis import run_folder
from visavis.compare.pairing import checksums
from visavis.config import Experiment, to_json
from visavis.data import shapes
from visavis.metrics import classification
from visavis.presets import preset

CNN_METHODS = {
    "grad_cam": ("Grad-CAM", True),
    "integrated_gradients": ("Integrated gradients", True),
    "occlusion": ("Occlusion", True),
}
VIT_METHODS = {
    "attention": ("Class-token attention, last block", False),
    "rollout": ("Attention rollout", False),
    "gradient_attention": ("Gradient-weighted attention", True),
    "grad_cam": ("Grad-CAM", True),
    "integrated_gradients": ("Integrated gradients", True),
    "occlusion": ("Occlusion", True),
}
METHODS = {"cnn": CNN_METHODS, "vit": VIT_METHODS}
PARTS = {
    "cnn": ("head", "stages.2", "stages.1", "stages.0", "stem"),
    "vit": ("head", "norm", "blocks.1", "blocks.0", "class_token", "positions", "patch_embedding"),
}
BASELINES = ("random", "centre", "edges", "mean")
ACCURACY = {"cnn": 0.9, "vit": 0.8}
PARAMETERS = {"cnn": 1_968_450, "vit": 2_700_490}


def write_experiment(
    folder: Path,
    *,
    test: tuple[np.ndarray, np.ndarray, np.ndarray | None] | None = None,
    class_names: tuple[str, ...] = shapes.CLASS_NAMES,
    source: str = "shapes",
    description: str = "built-in shapes",
    notice: str | None = None,
    sample: int = 60,
    seed: int = 0,
    gallery: int = 6,
    accuracy: dict[str, float] | None = None,
    experiment: Experiment | None = None,
) -> Path:
    """An experiment folder before `compare`, on `test` = (pixels, labels, masks) or on shapes."""
    pixels, labels, masks = test or shapes.draw(400, seed=1)
    experiment = experiment or preset("quick", "shapes")
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
    run_folder.write_json(
        folder / run_folder.EXPERIMENT,
        {"preset": "quick", "experiment": to_json(experiment), "data": data},
    )
    for number, name in enumerate(("cnn", "vit")):
        rng = np.random.default_rng([seed, number])
        model = folder / name
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
        right = (accuracy or ACCURACY)[name]
        _training(model, name, right, rng)
        _film(model, name, pixels, labels)
        logits = _predictions(model, labels, class_names, right, rng)
        _explanations(
            model, name, experiment, (pixels, labels, masks), logits, sample, gallery, rng
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
        "threads": 2,
        "precision": "bf16",
        "compiled": False,
        "started": "2026-11-23T08:50:00+00:00",
        "finished": "2026-11-23T09:10:00+00:00",
    }


def _training(model: Path, name: str, right: float, rng: np.random.Generator) -> None:
    epochs = 8 if name == "cnn" else 12
    seconds = 61.0 if name == "cnn" else 148.0
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
            "parameters": PARAMETERS[name],
            "epochs": epochs,
            "best_epoch": best["epoch"],
            "best_val_loss": best["val_loss"],
            "best_val_accuracy": best["val_accuracy"],
            "train_seconds": seconds * epochs,
            "images": 45_000,
            "images_per_second": 45_000 / seconds,
            "weights_sha256": "a" * 64,
            "resumed": 0,
        },
    )


def _film(model: Path, name: str, pixels: np.ndarray, labels: np.ndarray) -> None:
    rows = np.unique(labels, return_index=True)[1]
    maps = np.stack([_places(pixels[rows], None) * strength for strength in (0.0, 0.5, 1.0)])
    method = "grad_cam" if name == "cnn" else "gradient_attention"
    run_folder.write_arrays(
        model / run_folder.SNAPSHOTS,
        epochs=np.array([0, 1, 8], dtype=np.int32),
        images=pixels[rows],
        labels=labels[rows],
        **{f"map_{method}": maps},
    )


def _predictions(
    model: Path,
    labels: np.ndarray,
    class_names: tuple[str, ...],
    right: float,
    rng: np.random.Generator,
) -> np.ndarray:
    logits = rng.normal(0, 1, (len(labels), 10)).astype(np.float32)
    said = np.where(
        rng.random(len(labels)) < right, labels, (labels + rng.integers(1, 4, len(labels))) % 10
    )
    logits[np.arange(len(labels)), said] += rng.uniform(3.5, 7, len(labels)).astype(np.float32)
    run_folder.write_arrays(
        model / run_folder.PREDICTIONS,
        logits=logits,
        labels=labels.astype(np.int64),
        indices=np.arange(len(labels), dtype=np.int32),
        validation_logits=logits[::2],
        validation_labels=labels[::2].astype(np.int64),
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
            "inference_images_per_second": 2150.0 if right > 0.85 else 1480.0,
        },
    )
    return logits


def _explanations(
    model: Path,
    name: str,
    experiment: Experiment,
    test: tuple[np.ndarray, np.ndarray, np.ndarray | None],
    logits: np.ndarray,
    sample: int,
    gallery: int,
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
        "runner_up": np.argsort(logits[indices], 1)[:, -2].astype(np.int64),
    }
    places = _places(pixels, None if masks is None else masks[indices])
    methods = METHODS[name]
    for number, (method, (_, class_specific)) in enumerate(methods.items()):
        maps = places * (1 + 0.3 * number) + rng.gamma(1.0, 0.04, places.shape)
        arrays[f"map_{method}"] = maps.astype(np.float32)
        arrays[f"degenerate_{method}"] = np.zeros(len(indices), bool)
        if class_specific:
            arrays[f"map_{method}_true"] = maps.astype(np.float32)
            arrays[f"degenerate_{method}_true"] = np.zeros(len(indices), bool)
    if name == "vit":
        shape = (len(indices), experiment.vit.depth, experiment.vit.heads, 8, 8)
        heads = places[:, None, None] + rng.gamma(1.0, 0.3, shape)
        arrays["attention_heads"] = (heads / heads.sum((3, 4), keepdims=True)).astype(np.float16)
    run_folder.write_arrays(model / run_folder.HEATMAPS, **arrays)

    def scores(deletion: float, insertion: float, centre: float) -> dict[str, Any]:
        return {
            "deletion": interval(deletion),
            "insertion": interval(insertion),
            "deletion_drop": interval(deletion / 4),
            "insertion_gain": interval(insertion / 4),
            "central_mass": interval(centre, 0.01),
            "deletion_blur": interval(deletion * 0.8),
            "insertion_blur": interval(insertion * 0.8),
            "idsds": interval(deletion / 2),
            "keep_top_20": interval(0.4 + deletion / 5),
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
            "grid": [8, 8],
            "default_method": "grad_cam" if name == "cnn" else "gradient_attention",
            "layer": "stages.2" if name == "cnn" else "blocks.1.norm1",
            "layer_sweep": _sweep(name),
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
                    "randomised": {
                        "agreement": interval(0.1 + 0.05 * number),
                        "permutation_baseline": interval(0.1),
                        "above_chance": interval(0.05 * number),
                    },
                    "cascading": [
                        {"part": part, "agreement": interval(0.8 / (1 + step))}
                        for step, part in enumerate(PARTS[name])
                    ],
                    "deletion_blur_ahead_of": {
                        other: interval(0.1) for other in (*methods, *BASELINES) if other != method
                    },
                    "invalid_because": None,
                    "degenerate": 0,
                    "degenerate_because": {},
                    "deletion_ahead_of": {
                        other: interval(0.2) for other in (*methods, *BASELINES) if other != method
                    },
                    "scores": {
                        **scores(0.4 - 0.1 * number, 0.35 - 0.07 * number, 0.35 + 0.02 * number),
                        "class_sensitivity": interval(0.8) if class_specific else None,
                    },
                }
                for number, (method, (label, class_specific)) in enumerate(methods.items())
            },
            "baselines": {
                "random": {"label": "Random map", "scores": scores(0.0, 0.0, 0.25)},
                "centre": {"label": "Centred Gaussian", "scores": scores(0.22, 0.18, 0.51)},
                "edges": {"label": "Edge strength", "scores": scores(0.12, 0.1, 0.3)},
                "mean": {"label": "Mean of the model's maps", "scores": scores(0.2, 0.15, 0.4)},
            },
            "mask_chance": None if masks is None else interval(0.16, 0.005),
            "centre_chance": 0.25,
            "accuracy_masked": {"before": interval(0.7), "after": interval(0.8)},
            "accuracy_unmasked": {"before": interval(0.9), "after": interval(0.91)},
            "gallery": {**rows, "rule": "the first of each kind in the order of the test set."},
            "seconds": 41.0,
        },
    )


def _places(pixels: np.ndarray, masks: np.ndarray | None) -> np.ndarray:
    """A blob per image: on its mask, or where it differs most from its mean colour."""
    if masks is not None:
        return masks.reshape(-1, 8, 4, 8, 4).mean((2, 4))
    away = np.abs(pixels - pixels.mean((1, 2), keepdims=True)).mean(3)
    cells = away.reshape(-1, 8, 4, 8, 4).mean((2, 4))
    return (cells / cells.max((1, 2), keepdims=True)) ** 2


def write_cross_model(folder: Path) -> None:
    """What the cross_model stage leaves, of the heatmaps that are there now."""
    gains = {"cnn": 0.4, "vit": 0.35}
    run_folder.write_json(
        folder / run_folder.CROSS_MODEL,
        {
            "heatmaps_sha256": checksums(folder),
            "n": 50,
            "default_methods": {"cnn": "grad_cam", "vit": "gradient_attention"},
            "rankings": [
                {
                    "model": name,
                    "method": method,
                    "deletion": {
                        on: interval(gain * (1 if on == name else 0.5) - 0.03 * number)
                        for on, gain in gains.items()
                    },
                }
                for name, methods in METHODS.items()
                for number, method in enumerate(methods)
            ],
            "transfer": [
                {
                    "cnn_method": a,
                    "vit_method": b,
                    "cnn_transfer": interval(0.6, 0.1),
                    "vit_transfer": interval(0.4, 0.1),
                }
                for a, b in (("grad_cam", "gradient_attention"), *((m, m) for m in CNN_METHODS))
            ],
            "composites": {
                kind: {
                    "candidates": 1000,
                    "recognised": {"cnn": 0.42, "vit": 0.31},
                    "n": 30,
                    "chance": chance,
                    "methods": {
                        name: {
                            method: {
                                "energy": interval(chance + 0.2 * specific),
                                "degenerate_fraction": 0.0,
                            }
                            for method, (_, specific) in methods.items()
                        }
                        for name, methods in METHODS.items()
                    },
                }
                for kind, chance in (("halves", 0.5), ("box", 0.5))
            },
            "seconds": 12.0,
        },
    )


def _sweep(name: str) -> dict[str, Any]:
    layers = [("stages.0", 16, 0.21), ("stages.1", 8, 0.33), ("stages.2", 8, 0.41)]
    if name == "vit":
        layers = [
            ("blocks.0.norm1", 8, 0.1),
            ("blocks.0.norm2", 8, 0.2),
            ("blocks.1.norm1", 8, 0.3),
        ]
    chosen = layers[-1][0]
    return {
        "split": "validation",
        "n": 200,
        "rows": [
            {
                "layer": layer,
                "grid": [grid, grid],
                "degenerate": 0,
                "deletion_drop": interval(deletion / 4),
                "insertion_gain": interval(deletion / 4),
                "deletion": interval(deletion),
                "insertion": interval(deletion - 0.05),
                "chosen": layer == chosen,
            }
            for layer, grid, deletion in layers
        ],
        "reason": f"{chosen} has the highest normalised deletion score, 0.41 (0.38 to 0.44), of "
        "the 2 layers whose maps have 8 × 8 cells. Measured on 200 validation images.",
    }
