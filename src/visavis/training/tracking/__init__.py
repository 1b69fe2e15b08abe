"""Weights & Biases; nothing outside this package imports wandb.

A run never ends, waits for long, or asks a question because of the tracker: without a key, a
network or an answer from the server it is kept offline, and after a fault it goes on without.

Reads `comparison.json`, and of each model `evaluation.json` and `heatmaps.npz`.
Writes `wandb/` in the experiment folder, which `wandb sync` uploads later.
"""

import io
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import WandbLogger
from matplotlib.figure import Figure
from PIL import Image

from visavis import run_folder
from visavis.config import MODEL_NAMES, TrackingConfig
from visavis.training.tracking.connection import confined, mode, start, warn

__all__ = ["ForgivingLogger", "log_experiment", "logger", "mode"]

TABLE_ROWS = 48
MAPS = {"cnn": ("grad_cam",), "vit": ("gradient_attention", "attention")}
"""The heatmaps shown for each model in the table of test images."""


class ForgivingLogger(WandbLogger):
    """Lightning's W&B logger, silent after its first fault instead of ending the training."""

    def __init__(self, run: Any) -> None:
        super().__init__(experiment=run)
        self._over = False

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log numbers at a training step."""
        self._attempt(lambda: super(ForgivingLogger, self).log_metrics(metrics, step))

    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """Log the settings of the run."""
        self._attempt(lambda: super(ForgivingLogger, self).log_hyperparams(params))

    def finalize(self, status: str) -> None:
        """Close the run; Lightning calls this when a training ends, well or not."""
        self._attempt(lambda: self.experiment.finish(exit_code=int(status != "success")))
        self._over = True

    def _attempt(self, action: Callable[[], object]) -> None:
        if self._over:
            return
        try:
            action()
        except Exception as error:
            self._over = True
            warn("W&B failed and is left out of the rest of this run", error)


def logger(
    config: TrackingConfig, *, folder: Path, name: str, group: str
) -> ForgivingLogger | None:
    """A logger for Lightning's Trainer, or None where W&B is off or does not work.

    Args:
        folder: the experiment folder; everything W&B writes goes to `wandb/` in it.
        name: of this run, such as "cnn".
        group: what belongs together, such as the experiment's name.
    """
    with confined(folder):
        run = start(config, folder, name, group)
    return None if run is None else ForgivingLogger(run)


def log_experiment(
    config: TrackingConfig,
    *,
    folder: Path,
    group: str,
    figures: Mapping[str, Figure],
    overlay: Callable[..., np.ndarray],
) -> None:
    """Log the results of a whole experiment as one run.

    These are `figures` under their names, each model's test scores and confusion matrix, and a
    table of test images with both models' predictions and heatmaps, laid over the image by
    `overlay`.
    """
    with confined(folder):
        run = start(config, folder, "comparison", group)
        if run is None:
            return
        try:
            run.log(_experiment(folder, figures, overlay))
        except Exception as error:
            warn("W&B did not take the experiment's figures and tables", error)
        try:
            run.finish()
        except Exception as error:
            warn("W&B did not close its run", error)


def _experiment(
    folder: Path, figures: Mapping[str, Figure], overlay: Callable[..., np.ndarray]
) -> dict[str, Any]:
    import wandb

    content: dict[str, Any] = {name: wandb.Image(_image(f)) for name, f in figures.items()}
    for name in MODEL_NAMES:
        evaluation = run_folder.read_json(folder / name / run_folder.EVALUATION)
        classes, matrix = evaluation["class_names"], np.array(evaluation["confusion_matrix"])
        content[f"{name}/test/accuracy"] = evaluation["accuracy"]
        content[f"{name}/test/f1_macro"] = evaluation["f1_macro"]
        content[f"{name}/confusion_matrix"] = wandb.Table(
            columns=["true", "predicted", "images"],
            data=[[classes[i], classes[j], int(n)] for (i, j), n in np.ndenumerate(matrix)],
        )
    content["test_images"] = _image_table(folder, classes, overlay)
    return content


def _image_table(folder: Path, class_names: list[str], overlay: Callable[..., np.ndarray]) -> Any:
    """Test images that both models explained, with what each said and looked at."""
    import wandb

    found = {
        name: run_folder.read_arrays(folder / name / run_folder.HEATMAPS) for name in MODEL_NAMES
    }
    cnn, vit = (found[name]["indices"] for name in MODEL_NAMES)
    _, *rows = np.intersect1d(cnn, vit, return_indices=True)
    columns: list[str | int] = ["index", "image", "true"]
    for name in MODEL_NAMES:
        columns += [f"{name} says", f"{name} confidence", *(f"{name} {m}" for m in MAPS[name])]
    table = wandb.Table(columns=columns)
    for pair in list(zip(*rows, strict=True))[:TABLE_ROWS]:
        first, row = found[MODEL_NAMES[0]], pair[0]
        cells: list[Any] = [
            int(first["indices"][row]),
            wandb.Image(first["images"][row]),
            class_names[first["labels"][row]],
        ]
        for name, row in zip(MODEL_NAMES, pair, strict=True):
            maps = found[name]
            cells += [class_names[maps["predicted"][row]], float(maps["confidence"][row])]
            cells += [
                wandb.Image(overlay(maps["images"][row], maps[f"map_{m}"][row], scale=4))
                for m in MAPS[name]
            ]
        table.add_data(*cells)
    return table


def _image(figure: Figure) -> Image.Image:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, bbox_inches="tight")
    return Image.open(buffer)
