"""Stage: a run folder for a model that was trained elsewhere.

Reads the weights and the images. Writes config.json, data.json, split.npz, provenance.json,
weights.safetensors and training.json; there is no history, so what is about the training stays
unknown.
"""

import datetime
from pathlib import Path

import torch

from visavis import models, run_folder
from visavis.config import Experiment
from visavis.data import Dataset, split
from visavis.data.batches import to_images
from visavis.files import file_sha256, lock
from visavis.stages.trained import check_classifier
from visavis.training.provenance import claim, provenance

Statistics = tuple[float, float, float] | None


def adopt(
    folder: Path,
    experiment: Experiment,
    name: str,
    weights: Path,
    dataset: Dataset,
    *,
    normalisation: tuple[Statistics, Statistics] = (None, None),
) -> None:
    """Make the run folder of the model `name` with the weights of a file.

    Args:
        normalisation: mean and standard deviation of each channel that the model was trained with;
            those of the training images where None.

    Raises:
        CheckpointError: the weights are damaged or do not fit, or the folder holds another model.
        ModelError: the model is no classifier of these images.
    """
    model = models.build(experiment.model(name), len(dataset.class_names), dataset.side)
    if not models.load_brought(model, weights):
        model.normalize.fit(to_images(dataset.train_pixels[:1000]))
        statistics = model.normalize.mean, model.normalize.std
        for buffer, given in zip(statistics, normalisation, strict=True):
            if given is not None:
                buffer.copy_(torch.tensor(given).view(1, 3, 1, 1))
    check_classifier(model, dataset)
    rows = split(
        dataset.train_labels, experiment.data.validation_fraction, experiment.data.split_seed
    )
    with lock(folder):
        claim(folder, experiment, name, dataset, *rows)
        models.save(model, folder / run_folder.WEIGHTS)
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        facts = provenance(experiment.train, torch.device("cpu"))
        run_folder.write_json(
            folder / run_folder.PROVENANCE, {**facts, "compiled": False, "finished": now}
        )
        run_folder.write_json(
            folder / run_folder.TRAINING,
            {
                "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
                "weights_sha256": file_sha256(folder / run_folder.WEIGHTS),
                "modules": models.modules_of(model),
            },
        )
