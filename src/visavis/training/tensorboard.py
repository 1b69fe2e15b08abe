"""TensorBoard, through Lightning's logger: files in the experiment folder, and no account.

Like W&B, it never ends a run: without the package, and after an error, the run goes on without it.

Reads `evaluation.json` of each model. Writes `tensorboard/` in the experiment folder.
"""

import importlib.util
import logging
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure

from visavis.config import TrackingConfig
from visavis.run_folder import model_folders
from visavis.training.tracking import Attempts, warn

log = logging.getLogger(__name__)

FOLDER = "tensorboard"
SCORES = ("accuracy", "f1_macro")
"""Of evaluation.json."""
INSTALL = "pip install 'visavis[tensorboard]'"


class ForgivingTensorBoard(TensorBoardLogger):
    """Lightning's logger; after an error it stops logging instead of ending the training."""

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(folder / FOLDER, name=name, version="", default_hp_metric=False)
        self._attempt = Attempts("TensorBoard")

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._attempt(super().log_metrics, metrics, step)

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *_: Any, **__: Any) -> None:
        self._attempt(super().log_hyperparams, params)

    def save(self) -> None:
        self._attempt(super().save)

    def finalize(self, status: str) -> None:
        self._attempt(super().finalize, status)
        self._attempt.over = True

    def log_figure(self, name: str, figure: Figure) -> None:
        """Log an image of a figure."""
        self._attempt(lambda: self.experiment.add_figure(name, figure, close=False))


def logger(config: TrackingConfig, *, folder: Path, name: str) -> ForgivingTensorBoard | None:
    """A logger for Lightning's Trainer, or None if it is not asked for or does not work.

    Args:
        folder: the experiment folder.
        name: of this run, such as "cnn"; its files are in `tensorboard/NAME`.
    """
    if not config.tensorboard:
        return None
    if importlib.util.find_spec("tensorboard") is None:
        log.warning("TensorBoard is not installed, so it shows nothing of this run: %s", INSTALL)
        return None
    try:
        return ForgivingTensorBoard(folder, name)
    except Exception as error:
        warn("TensorBoard cannot be used here, so it shows nothing of this run", error)
        return None


def log_experiment(config: TrackingConfig, *, folder: Path, figures: Mapping[str, Figure]) -> None:
    """Log `figures` under their names, and each model's test scores, as the run "comparison"."""
    run = logger(config, folder=folder, name="comparison")
    if run is None:
        return
    for model in model_folders(folder).values():
        scores = {f"{model.name}/test/{key}": model.evaluation[key] for key in SCORES}
        run.log_metrics(scores, step=0)
    for name, figure in figures.items():
        run.log_figure(name, figure)
    run.finalize("success")
