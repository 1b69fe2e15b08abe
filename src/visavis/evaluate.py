"""Stage: test one trained model, each test picture seen exactly once.

Reads config.json, data.json, split.npz and weights.safetensors; writes predictions.npz and
evaluation.json. The validation pictures are answered too, for the calibration of confidence.
"""

import logging
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from visavis import hardware, metrics, runs
from visavis.batches import Labels, Pixels
from visavis.data import Dataset
from visavis.loader import EvaluationBatches, to_tensor
from visavis.models import Model
from visavis.trained import check_data, load_trained, validation_rows

log = logging.getLogger(__name__)


def evaluate(folder: Path, dataset: Dataset, *, device: torch.device | str = "cpu") -> None:
    """Test the model in `folder` on the test pictures, in float32, without augmentation.

    Raises:
        CheckpointError: the training has not finished, its weights were altered since, or it was
            trained on other data.
    """
    check_data(folder, dataset)
    with runs.lock(folder):
        model = hardware.place(load_trained(folder), torch.device(device))
        start = time.perf_counter()
        logits = _answers(model, dataset.test_pixels, dataset.test_labels, device, "test")
        seconds = time.perf_counter() - start
        rows = validation_rows(folder, dataset)
        labels = dataset.train_labels[rows]
        validation = _answers(model, dataset.train_pixels[rows], labels, device, "validation")
        runs.write_arrays(
            folder / runs.PREDICTIONS,
            logits=logits.numpy(),
            labels=dataset.test_labels,
            indices=np.arange(len(logits), dtype=np.int32),
            validation_logits=validation.numpy(),
            validation_labels=labels,
        )
        confusion = metrics.confusion_matrix(
            dataset.test_labels, logits.argmax(dim=1).numpy(), len(dataset.class_names)
        )
        accuracy = metrics.accuracy(confusion)
        runs.write_json(
            folder / runs.EVALUATION,
            {
                "n": len(logits),
                "loss": float(F.cross_entropy(logits, torch.from_numpy(dataset.test_labels))),
                "accuracy": accuracy,
                "f1_macro": float(metrics.f1_macro(confusion)),
                "f1_per_class": [float(f1) for f1 in metrics.f1_per_class(confusion)],
                "confusion_matrix": confusion.tolist(),
                "class_names": list(dataset.class_names),
                "inference_pictures_per_second": len(logits) / seconds,
            },
        )
        log.info("%s: %.2f %% of %d test pictures right", folder.name, 100 * accuracy, len(logits))


def _answers(
    model: Model, pixels: Pixels, labels: Labels, device: torch.device | str, what: str
) -> Float[Tensor, "n classes"]:
    """The logits of all pictures, in their order."""
    batches = EvaluationBatches(to_tensor(pixels), torch.from_numpy(labels))
    outputs = []
    with torch.inference_mode():
        for images, _ in tqdm(batches, desc=what, leave=False, disable=None):
            images = images.to(device, memory_format=torch.channels_last)
            outputs.append(model(images).float().cpu())
    return torch.cat(outputs)
