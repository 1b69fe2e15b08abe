"""Predictions and heatmaps of the trained models for one image, as JSON types.

One thread at a time may use a model: explaining registers hooks on it and computes gradients.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, UInt8
from starlette.exceptions import HTTPException
from torch import Tensor

from visavis import attribution, run_folder
from visavis.config import GRID, IMAGE_SIDE, MODEL_NAMES
from visavis.data.batches import predict, to_images
from visavis.data.images import data_address
from visavis.metrics import localization
from visavis.models.vit import Block, ViT
from visavis.report.figures.heatmaps import heat_colours, where
from visavis.report.text import trust
from visavis.run_folder import ModelFolder
from visavis.serve.requests import one_of
from visavis.stages.explain import layers
from visavis.stages.trained import Trained, load

TOP = 3
CELL = IMAGE_SIDE // GRID
COLOURS = 64
"""Colours of a heatmap that the page receives."""

Pixels = UInt8[np.ndarray, "32 32 3"]


class Models:
    """The trained models of an experiment; each is loaded when it is first used."""

    def __init__(self, experiment: Path) -> None:
        self.experiment = experiment
        self._loaded: dict[str, Trained] = {}

    def trained(self) -> dict[str, Trained]:
        """The trained models by name; status 409 if there is none."""
        for name in MODEL_NAMES:
            folder = ModelFolder(self.experiment / name)
            if name not in self._loaded and folder.trained:
                self._loaded[name] = load(folder.path)
        if not self._loaded:
            raise HTTPException(409, "no model is trained here yet")
        return {name: self._loaded[name] for name in MODEL_NAMES if name in self._loaded}

    def facts(self) -> dict[str, Any]:
        """The experiment's data and classes, and each model's methods with their checks."""
        models = self.trained()
        data, *others = (ModelFolder(self.experiment / name).data for name in models)
        if any(other["fingerprint"] != data["fingerprint"] for other in others):
            raise HTTPException(409, "the two models were trained on different images")
        mean = next(iter(models.values())).model.normalize.mean.flatten()
        return {
            "experiment": self.experiment.resolve().name,
            "class_names": data["class_names"],
            "data": {"description": data["description"], "notice": data["notice"]},
            "grid": GRID,
            "hidden_colour": [round(255 * value) for value in mean.tolist()],
            "colours": heat_colours(COLOURS),
            "models": {name: self._model_facts(model) for name, model in models.items()},
        }

    def _model_facts(self, trained: Trained) -> dict[str, Any]:
        folder = ModelFolder(self.experiment / trained.name)
        explained = folder.explanations if folder.explained else None
        path = self.experiment / run_folder.CROSS_MODEL
        card = {}
        if explained and path.exists():
            card = trust.scorecard(explained, run_folder.read_json(path))
        return {
            "parameters": folder.training["parameters"],
            "test_accuracy": folder.evaluation["accuracy"] if folder.tested else None,
            "default_method": attribution.DEFAULT_METHOD[trained.name],
            "methods": {
                name: {
                    "label": attribution.METHODS[name].label,
                    "class_specific": attribution.METHODS[name].class_specific,
                    "signed": attribution.METHODS[name].signed,
                    **_layers(trained, name),
                    "deletion": explained and explained["methods"][name]["scores"]["deletion"],
                    "n": explained["n"] if explained else 0,
                    "checks": [
                        {"what": trust.CHECKS[check], "outcome": outcome, "value": value}
                        for check, (outcome, value) in card.get(name, {}).items()
                    ],
                }
                for name in attribution.methods_for(trained.model)
            },
        }

    def predict(self, pixels: Pixels, hidden: list[int]) -> dict[str, Any]:
        """As `visavis predict --json`, and the pixels that the models were given, as a PNG."""
        found = {}
        for name, trained in self.trained().items():
            image = _image(trained, pixels, hidden)
            probabilities = predict(trained.model, image).softmax(dim=1)[0].numpy()
            found[name] = {
                "top": [
                    {"class": trained.class_names[k], "confidence": float(probabilities[k])}
                    for k in np.argsort(-probabilities)[:TOP]
                ]
            }
        return {"models": found, "seen": data_address(pixels)}

    def explain(
        self, pixels: Pixels, hidden: list[int], query: Mapping[str, str]
    ) -> dict[str, Any]:
        """The raw heatmap of each model, with its method, target class and layer.

        `query` holds the parameters of /api/explain; status 422 if a value does not exist.
        """
        models = self.trained()
        names = [one_of(query["model"], models, "model")] if "model" in query else models
        return {"models": {n: _explain(models[n], pixels, hidden, query) for n in names}}


def _layers(trained: Trained, method: str) -> dict[str, Any]:
    """The layers and the number of heads to choose from, with the default layer."""
    if method == "grad_cam":
        default = trained.layer or attribution.default_layer(trained.model)
        return {"layers": layers.candidates(trained.model), "layer": default, "heads": 0}
    if method == "attention":
        assert isinstance(trained.model, ViT)
        depth = len(trained.model.blocks)
        heads = cast(Block, trained.model.blocks[0]).attention.heads
        return {"layers": [str(i + 1) for i in range(depth)], "layer": str(depth), "heads": heads}
    return {"layers": [], "layer": None, "heads": 0}


def _explain(
    trained: Trained, pixels: Pixels, hidden: list[int], query: Mapping[str, str]
) -> dict[str, Any]:
    model, names = trained.model, trained.class_names
    method = query.get("method", attribution.DEFAULT_METHOD[trained.name])
    one_of(method, attribution.methods_for(model), "method")
    choices = _layers(trained, method)
    layer, head = choices["layer"], None
    if "layer" in query:
        layer = one_of(query["layer"], choices["layers"], "layer")
    if "head" in query:
        head = int(one_of(query["head"], [str(i + 1) for i in range(choices["heads"])], "head"))
    image = _image(trained, pixels, hidden)
    probabilities = predict(model, image).softmax(dim=1)[0].numpy()
    target = int(probabilities.argmax())
    if "class" in query:
        target = names.index(one_of(query["class"], names, "class"))
    if method == "attention":
        assert isinstance(model, ViT)
        weights = attribution.attention_weights(model, image)
        block = attribution.class_attention(weights)[int(layer) - 1]
        found = block.mean(dim=1) if head is None else block[:, head - 1]
    else:
        found = attribution.explain(model, image, torch.tensor([target]), method, layer=layer)
    heatmap = found[0].float().cpu().numpy()
    (reason,) = localization.degenerate_reasons(heatmap[None])
    return {
        "method": method,
        "label": attribution.METHODS[method].label,
        "class_specific": attribution.METHODS[method].class_specific,
        "class": names[target],
        "confidence": float(probabilities[target]),
        "layer": layer,
        "head": head,
        "map": None if reason else heatmap.tolist(),
        "degenerate_because": reason,
        "highest": None if reason else where(heatmap),
    }


def _image(trained: Trained, pixels: Pixels, hidden: list[int]) -> Float[Tensor, "1 3 32 32"]:
    """The image with the hidden cells in the mean colour of the training images."""
    image = to_images(pixels[None])
    for cell in hidden:
        row, column = (CELL * place for place in divmod(cell, GRID))
        image[:, :, row : row + CELL, column : column + CELL] = trained.model.normalize.mean
    return image
