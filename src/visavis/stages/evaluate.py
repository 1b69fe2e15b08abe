"""Stage: test one trained model on every test image exactly once.

Reads config.json, data.json, training.json, split.npz and weights.safetensors; writes
predictions.npz and evaluation.json. It also predicts the validation images, on which the confidence
is calibrated, and some test images without one cue.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from visavis import run_folder
from visavis.config import EXPLANATION_SEED as SEED
from visavis.data import Dataset
from visavis.data.batches import Images, in_batches, to_images
from visavis.errors import ModelError
from visavis.files import lock
from visavis.metrics import classification
from visavis.metrics.bootstrap import interval
from visavis.metrics.cues import CUES, Cue
from visavis.models import Model
from visavis.stages.trained import check_data, load_trained, split_rows
from visavis.training import hardware

log = logging.getLogger(__name__)

CUE_IMAGES = 1000
"""Test images, drawn at random, that are predicted without each cue."""

Logits = Float[Tensor, "n classes"]
Rows = Int[np.ndarray, " n"]


def evaluate(folder: Path, dataset: Dataset, *, device: torch.device | str = "cpu") -> None:
    """Test the model in `folder` on the test images, in float32, without augmentation.

    Raises:
        CheckpointError: the training has not finished, its weights were altered since, or it was
            trained on other data.
        ModelError: logits are NaN or infinite.
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
        without_cues = _without_cues(model, dataset, device)
        run_folder.write_arrays(
            folder / run_folder.PREDICTIONS,
            logits=logits.numpy(),
            labels=dataset.test_labels,
            indices=indices,
            validation_logits=validation.numpy(),
            validation_labels=dataset.train_labels[rows],
            **without_cues,
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
                "cues": _cue_accuracies(without_cues, dataset),
                "inference_images_per_second": len(logits) / seconds,
            },
        )
        log.info("%s: %.2f %% of %d test images correct", folder.name, 100 * accuracy, len(logits))


def _without_cues(
    model: Model, dataset: Dataset, device: torch.device | str
) -> dict[str, np.ndarray]:
    """Predictions for random test images without each cue, and the first image as an example.

    The images, their mean colour and their permutations are the same for every model.
    """
    rows = np.random.default_rng(SEED).permutation(len(dataset.test_labels))[:CUE_IMAGES]
    rows = np.sort(rows).astype(np.int32)
    colour = torch.from_numpy(dataset.test_pixels[rows].mean(axis=(0, 1, 2)) / 255).float()
    found: dict[str, np.ndarray] = {"cue_indices": rows}
    examples = [to_images(dataset.test_pixels[rows[:1]])]
    for name, cue in CUES.items():

        def removed(images: Images, rows: Rows, cue: Cue = cue) -> Images:
            return cue.remove(images, colour, rows)

        logits = _logits(model, dataset.test_pixels, rows, device, cue.label, removed)
        found[f"cue_{name}"] = logits.argmax(dim=1).numpy()
        examples.append(removed(examples[0], rows[:1]))
    pixels = (255 * torch.cat(examples)).round().byte().permute(0, 2, 3, 1)
    return found | {"cue_examples": pixels.numpy()}


def _cue_accuracies(found: dict[str, np.ndarray], dataset: Dataset) -> dict[str, Any]:
    labels = dataset.test_labels[found["cue_indices"]]
    return {
        name: {"label": cue.label, "accuracy": interval(found[f"cue_{name}"] == labels)}
        for name, cue in CUES.items()
    }


def _logits(
    model: Model,
    pixels: UInt8[np.ndarray, "all side side 3"],
    rows: Rows,
    device: torch.device | str,
    what: str,
    change: Callable[[Images, Rows], Images] = lambda images, _: images,
) -> Logits:
    def logits(batch: Rows) -> Logits:
        images = change(to_images(pixels[batch]), batch)
        return model(images.to(device, memory_format=torch.channels_last)).float().cpu()

    with torch.inference_mode():
        found = in_batches(logits, rows, size=500, bar=what)
    if bad := int((~found.isfinite()).any(dim=1).sum()):
        raise ModelError(
            f"the logits of {bad} of the {len(rows)} {what} images are NaN or infinite, so this "
            "model cannot be evaluated; train it with a lower learning rate, or check the weights "
            "and the normalisation (--mean, --std) of a model that was trained elsewhere"
        )
    return found
