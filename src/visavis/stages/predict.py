"""Stage: predictions of trained models for any images.

Reads each model's config.json, data.json, training.json, split.npz and weights.safetensors, and
explanations.json if it exists. Writes nothing, or one PNG per image and model to a given folder.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from visavis import run_folder
from visavis.data.images import png, read_image
from visavis.errors import CheckpointError, DataError
from visavis.files import write_bytes
from visavis.report.figures.heatmaps import overlay
from visavis.stages.trained import load

TOP = 3


def predict(
    experiment: Path, paths: Sequence[Path], *, out: Path | None = None
) -> list[dict[str, Any]]:
    """Predict the images at `paths` with every trained model in `experiment`.

    Args:
        out: folder for the images overlaid with the heatmap of the predicted class.

    Returns:
        For each path `{"image", "models": {name: {"label", "top": [{"class", "confidence"}, …]}}}`,
        the most probable class first, or `{"image", "error"}` for a file that is not an image.

    Raises:
        CheckpointError: no model there is trained, or one is damaged.
    """
    trained = list(run_folder.trained_models(experiment).values())
    if not trained:
        raise CheckpointError(f"{experiment} holds no trained model: no folder in it is finished")
    models = {folder.name: load(folder.path) for folder in trained}
    labels = {folder.name: folder.label for folder in trained}
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    predictions: list[dict[str, Any]] = []
    for number, path in enumerate(paths, start=1):
        try:
            pixels = read_image(path, trained[0].data["side"])[None]
        except DataError as error:
            predictions.append({"image": str(path), "error": str(error)})
            continue
        found: dict[str, dict[str, Any]] = {}
        for name, model in models.items():
            probabilities = model.predict(pixels)[0]
            found[name] = {
                "label": labels[name],
                "top": [
                    {"class": model.class_names[label], "confidence": float(probabilities[label])}
                    for label in np.argsort(-probabilities)[:TOP]
                ],
            }
            if out is not None:
                # Numbered, since images of two folders may have one name.
                target = out / f"{number}-{path.stem}-{name}.png"
                write_bytes(target, png(overlay(pixels[0], model.explain(pixels)[0])))
                found[name]["overlay"] = str(target)
        predictions.append({"image": str(path), "models": found})
    return predictions
