"""Stage: test one trained model, each test picture seen exactly once.

Reads config.json, data.json and weights.safetensors; writes predictions.npz and evaluation.json.
"""

import logging
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from visavis import hardware, metrics, runs
from visavis.data import Dataset
from visavis.loader import EvaluationBatches, to_tensor
from visavis.trained import check_data, load_trained

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
        labels = torch.from_numpy(dataset.test_labels)
        batches = EvaluationBatches(to_tensor(dataset.test_pixels), labels)

        outputs = []
        start = time.perf_counter()
        with torch.inference_mode():
            for images, _ in tqdm(batches, desc="test", leave=False, disable=None):
                images = images.to(device, memory_format=torch.channels_last)
                outputs.append(model(images).float().cpu())
        seconds = time.perf_counter() - start

        logits = torch.cat(outputs)
        runs.write_arrays(
            folder / runs.PREDICTIONS,
            logits=logits.numpy(),
            labels=dataset.test_labels,
            indices=np.arange(len(labels), dtype=np.int32),
        )
        confusion = metrics.confusion_matrix(
            dataset.test_labels, logits.argmax(dim=1).numpy(), len(dataset.class_names)
        )
        accuracy = metrics.accuracy(confusion)
        runs.write_json(
            folder / runs.EVALUATION,
            {
                "n": len(labels),
                "loss": float(F.cross_entropy(logits, labels)),
                "accuracy": accuracy,
                "f1_macro": float(metrics.f1_macro(confusion)),
                "f1_per_class": [float(f1) for f1 in metrics.f1_per_class(confusion)],
                "confusion_matrix": confusion.tolist(),
                "class_names": list(dataset.class_names),
                "inference_pictures_per_second": len(labels) / seconds,
            },
        )
        log.info("%s: %.2f %% of %d test pictures right", folder.name, 100 * accuracy, len(labels))
