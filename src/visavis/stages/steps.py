"""The steps of one model in a run or a study; one whose last file exists is skipped."""

import logging
from pathlib import Path

from visavis.config import Experiment, ExplainConfig
from visavis.data import Dataset
from visavis.run_folder import ModelFolder
from visavis.stages.evaluate import evaluate
from visavis.stages.explain import explain
from visavis.stages.train import train
from visavis.training import hardware

log = logging.getLogger(__name__)


def train_and_test(
    folder: Path, experiment: Experiment, name: str, dataset: Dataset, *, tracked_in: Path
) -> ModelFolder:
    """Train and test the model `name`; `train` continues an interrupted training."""
    train(folder, experiment, name, dataset, tracked_in=tracked_in)
    model = ModelFolder(folder)
    if not model.tested:
        evaluate(folder, dataset, device=hardware.select_device(experiment.train.device))
    return model


def explain_once(
    model: ModelFolder,
    experiment: Experiment,
    name: str,
    dataset: Dataset,
    config: ExplainConfig,
) -> None:
    """Explain a tested model."""
    if not model.explained:
        log.info("%s: explaining, and measuring the explanations", name)
        device = hardware.select_device(experiment.train.device)
        autocast = hardware.precision(experiment.train, device) == "bf16"
        explain(model.path, dataset, config, device=device, autocast=autocast)
