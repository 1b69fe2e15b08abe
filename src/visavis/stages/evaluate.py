"""Stage: test one trained model on every test image exactly once.

Reads config.json, data.json, split.npz and weights.safetensors; writes predictions.npz and
evaluation.json. It also predicts the validation images, on which the confidence is calibrated.
"""

import logging
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from visavis import run_folder
from visavis.data import Dataset
from visavis.data.batches import in_batches, to_images
from visavis.files import lock
from visavis.metrics import classification
from visavis.models import Model
from visavis.stages.trained import check_data, load_trained, split_rows
from visavis.training import hardware

log = logging.getLogger(__name__)

Logits = Float[Tensor, "n classes"]


def evaluate(folder: Path, dataset: Dataset, *, device: torch.device | str = "cpu") -> None:
    """Test the model in `folder` on the test images, in float32, without augmentation.

    Raises:
        CheckpointError: the training has not finished, its weights were altered since, or it was
            trained on other data.
    """
    check_data(folder, dataset)
    with lock(folder):
        model = hardware.place(load_trained(folder), torch.device(device))
        start = time.perf_counter()
        indices = np.arange(len(dataset.test_labels), dtype=np.int32)
        logits = _logits(model, dataset.test_pixels, indices, device, "test")
        seconds = time.perf_counter() - start
        rows = split_rows(folder, dataset, "validation")
        validation = _logits(model, dataset.train_pixels, rows, device, "validation")
        run_folder.write_arrays(
            folder / run_folder.PREDICTIONS,
            logits=logits.numpy(),
            labels=dataset.test_labels,
            indices=indices,
            validation_logits=validation.numpy(),
            validation_labels=dataset.train_labels[rows],
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
        log.info("%s: %.2f %% of %d test images correct", folder.name, 100 * accuracy, len(logits))


def _logits(
    model: Model,
    pixels: UInt8[np.ndarray, "all side side 3"],
    rows: Int[np.ndarray, " n"],
    device: torch.device | str,
    what: str,
) -> Logits:
    def logits(batch: np.ndarray) -> Logits:
        images = to_images(pixels[batch]).to(device, memory_format=torch.channels_last)
        return model(images).float().cpu()

    with torch.inference_mode():
        return in_batches(logits, rows, size=500, bar=what)
