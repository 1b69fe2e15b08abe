"""Stage: test one trained model, each test image seen exactly once.

Reads config.json, data.json, split.npz and weights.safetensors; writes predictions.npz and
evaluation.json. The validation images are answered too, for the calibration of confidence.
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

from visavis import run_folder
from visavis.data import Dataset, Labels, Pixels
from visavis.data.batches import EvaluationBatches, to_tensor
from visavis.metrics import classification
from visavis.models import Model
from visavis.stages.trained import check_data, load_trained, validation_rows
from visavis.training import hardware

log = logging.getLogger(__name__)


def evaluate(folder: Path, dataset: Dataset, *, device: torch.device | str = "cpu") -> None:
    """Test the model in `folder` on the test images, in float32, without augmentation.

    Raises:
        CheckpointError: the training has not finished, its weights were altered since, or it was
            trained on other data.
    """
    check_data(folder, dataset)
    with run_folder.lock(folder):
        model = hardware.place(load_trained(folder), torch.device(device))
        start = time.perf_counter()
        logits = _answers(model, dataset.test_pixels, dataset.test_labels, device, "test")
        seconds = time.perf_counter() - start
        rows = validation_rows(folder, dataset)
        labels = dataset.train_labels[rows]
        validation = _answers(model, dataset.train_pixels[rows], labels, device, "validation")
        run_folder.write_arrays(
            folder / run_folder.PREDICTIONS,
            logits=logits.numpy(),
            labels=dataset.test_labels,
            indices=np.arange(len(logits), dtype=np.int32),
            validation_logits=validation.numpy(),
            validation_labels=labels,
        )
        confusion = classification.confusion_matrix(
            dataset.test_labels, logits.argmax(dim=1).numpy(), len(dataset.class_names)
        )
        accuracy = classification.accuracy(confusion)
        run_folder.write_json(
            folder / run_folder.EVALUATION,
            {
                "n": len(logits),
                "loss": float(F.cross_entropy(logits, torch.from_numpy(dataset.test_labels))),
                "accuracy": accuracy,
                "f1_macro": float(classification.f1_macro(confusion)),
                "f1_per_class": [float(f1) for f1 in classification.f1_per_class(confusion)],
                "confusion_matrix": confusion.tolist(),
                "class_names": list(dataset.class_names),
                "inference_images_per_second": len(logits) / seconds,
            },
        )
        log.info("%s: %.2f %% of %d test images right", folder.name, 100 * accuracy, len(logits))


def _answers(
    model: Model, pixels: Pixels, labels: Labels, device: torch.device | str, what: str
) -> Float[Tensor, "n classes"]:
    """The logits of all images, in their order."""
    batches = EvaluationBatches(to_tensor(pixels), torch.from_numpy(labels))
    outputs = []
    with torch.inference_mode():
        for images, _ in tqdm(batches, desc=what, leave=False, disable=None):
            images = images.to(device, memory_format=torch.channels_last)
            outputs.append(model(images).float().cpu())
    return torch.cat(outputs)
