"""Stage: what trained models see in images from outside.

Reads each model's config.json, data.json, training.json and weights.safetensors, and
explanations.json if it is there. Writes nothing, or one PNG for each image and model where told.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from visavis import run_folder
from visavis.config import MODEL_NAMES
from visavis.data.images import png, read_image
from visavis.errors import CheckpointError, DataError
from visavis.files import write_bytes
from visavis.report import figures
from visavis.stages.trained import load

GUESSES = 3


def predict(
    experiment: Path, paths: Sequence[Path], *, out: Path | None = None
) -> list[dict[str, Any]]:
    """Show `paths` to every trained model in `experiment`, the CNN, the ViT, or both.

    Args:
        out: folder for the images with the heatmap of the first guess laid over them.

    Returns:
        For each path `{"image", "models": {name: {"top": [{"class", "confidence"}, …]}}}`, the
        most probable class first, or `{"image", "error"}` for what is not a image.

    Raises:
        CheckpointError: no model there is trained, or one is damaged.
    """
    names = [name for name in MODEL_NAMES if (experiment / name / run_folder.TRAINING).exists()]
    if not names:
        raise CheckpointError(
            f"{experiment} holds no trained model: neither cnn/ nor vit/ has a finished training"
        )
    models = [load(experiment / name) for name in names]
    answers: list[dict[str, Any]] = []
    for number, path in enumerate(paths, start=1):
        try:
            pixels = read_image(path)[None]
        except DataError as error:
            answers.append({"image": str(path), "error": str(error)})
            continue
        found: dict[str, dict[str, Any]] = {}
        for model in models:
            probabilities = model.predict(pixels)[0]
            found[model.name] = {
                "top": [
                    {"class": model.class_names[label], "confidence": float(probabilities[label])}
                    for label in np.argsort(-probabilities)[:GUESSES]
                ]
            }
            if out is not None:
                # Numbered, since images of two folders may have one name.
                target = out / f"{number}-{path.stem}-{model.name}.png"
                write_bytes(target, png(figures.overlay(pixels[0], model.explain(pixels)[0])))
                found[model.name]["overlay"] = str(target)
        answers.append({"image": str(path), "models": found})
    return answers
