"""What the trained models say of one image, as JSON types.

A model is asked by one thread at a time: explaining hangs hooks on it and takes gradients.
"""

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from visavis import attribution, run_folder
from visavis.config import GRID, IMAGE_SIDE, MODEL_NAMES
from visavis.data.batches import to_images
from visavis.data.images import data_address
from visavis.metrics import localization
from visavis.models.vit import Block, ViT
from visavis.report import figures
from visavis.report.text import trust
from visavis.serve.asked import Refusal, Wanted
from visavis.stages.explain import layers
from visavis.stages.trained import Trained, load

GUESSES = 3
CELL = IMAGE_SIDE // GRID
SHADES = 64
"""Colours of a heatmap that the page is given."""


class Models:
    """The models of an experiment that are trained; each is loaded when it is first asked for."""

    def __init__(self, experiment: Path) -> None:
        self.experiment = experiment
        self._loaded: dict[str, Trained] = {}

    def trained(self) -> dict[str, Trained]:
        """The models that are there, by name.

        Raises:
            Refusal: there is none yet.
            CheckpointError: one is damaged.
        """
        for name in MODEL_NAMES:
            folder = self.experiment / name
            if name not in self._loaded and (folder / run_folder.TRAINING).exists():
                self._loaded[name] = load(folder)
        if not self._loaded:
            raise Refusal(409, "no model is trained here yet")
        return {name: self._loaded[name] for name in MODEL_NAMES if name in self._loaded}

    def facts(self) -> dict[str, Any]:
        """What the experiment is: data, classes, and of each model its methods and their checks."""
        models = self.trained()
        data, *others = (
            run_folder.read_json(self.experiment / name / run_folder.DATA) for name in models
        )
        if any(other["fingerprint"] != data["fingerprint"] for other in others):
            raise Refusal(409, "the two models were trained on different images")
        mean = next(iter(models.values())).model.normalize.mean.flatten()
        return {
            "experiment": self.experiment.resolve().name,
            "class_names": data["class_names"],
            "data": {"description": data["description"], "notice": data["notice"]},
            "grid": GRID,
            "hidden_colour": [round(255 * value) for value in mean.tolist()],
            "colours": figures.heat_colours(SHADES),
            "models": {name: self._model_facts(model) for name, model in models.items()},
        }

    def _model_facts(self, trained: Trained) -> dict[str, Any]:
        folder = self.experiment / trained.name
        training = run_folder.read_json(folder / run_folder.TRAINING)
        tested = (folder / run_folder.EVALUATION).exists()
        explained = (folder / run_folder.EXPLANATIONS).exists()
        found = run_folder.read_json(folder / run_folder.EXPLANATIONS) if explained else None
        path = self.experiment / run_folder.CROSS_MODEL
        card = {}
        if found and path.exists():
            card = trust.scorecard(found, run_folder.read_json(path))
        return {
            "parameters": training["parameters"],
            "test_accuracy": run_folder.read_json(folder / run_folder.EVALUATION)["accuracy"]
            if tested
            else None,
            "default_method": attribution.DEFAULT_METHOD[trained.name],
            "methods": {
                name: {
                    "label": attribution.METHODS[name].label,
                    "class_specific": attribution.METHODS[name].class_specific,
                    "signed": attribution.METHODS[name].signed,
                    **_places(trained, name),
                    "deletion": found["methods"][name]["scores"]["deletion"] if found else None,
                    "n": found["n"] if found else 0,
                    "checks": [
                        {"what": trust.CHECKS[check], "outcome": outcome, "value": value}
                        for check, (outcome, value) in card.get(name, {}).items()
                    ],
                }
                for name in attribution.methods_for(trained.model)
            },
        }

    def predict(self, pixels: UInt8[np.ndarray, "32 32 3"], hidden: list[int]) -> dict[str, Any]:
        """As `visavis predict --json`, and the image that the models saw."""
        answers = {}
        for name, trained in self.trained().items():
            probabilities = _probabilities(trained, _image(trained, pixels, hidden))
            best = np.argsort(-probabilities)[:GUESSES]
            answers[name] = {
                "top": [
                    {"class": trained.class_names[k], "confidence": float(probabilities[k])}
                    for k in best
                ]
            }
        return {"models": answers, "seen": data_address(pixels)}

    def explain(
        self, pixels: UInt8[np.ndarray, "32 32 3"], hidden: list[int], wanted: Wanted
    ) -> dict[str, Any]:
        """The heatmap of each model that is asked, raw, with what it is of.

        Raises:
            Refusal: what is wanted is not there.
        """
        models = self.trained()
        if wanted.model is not None:
            models = {wanted.model: _one_of(wanted.model, models, "model")}
        return {
            "models": {name: _explained(of, pixels, hidden, wanted) for name, of in models.items()}
        }


def _places(trained: Trained, method: str) -> dict[str, Any]:
    """The layers and heads that a method can be asked for, with the default ones."""
    if method == "grad_cam":
        default = trained.layer or attribution.default_layer(trained.model)
        return {"layers": layers.candidates(trained.model), "layer": default, "heads": 0}
    if method == "attention":
        assert isinstance(trained.model, ViT)
        depth = len(trained.model.blocks)
        heads = cast(Block, trained.model.blocks[0]).attention.heads
        return {"layers": [str(i + 1) for i in range(depth)], "layer": str(depth), "heads": heads}
    return {"layers": [], "layer": None, "heads": 0}


def _explained(
    trained: Trained, pixels: UInt8[np.ndarray, "32 32 3"], hidden: list[int], wanted: Wanted
) -> dict[str, Any]:
    methods = {m: attribution.METHODS[m] for m in attribution.methods_for(trained.model)}
    method = wanted.method or attribution.DEFAULT_METHOD[trained.name]
    facts = _one_of(method, methods, "method")
    images = _image(trained, pixels, hidden)
    probabilities = _probabilities(trained, images)
    classes = {name: k for k, name in enumerate(trained.class_names)}
    label = int(probabilities.argmax())
    if wanted.class_name is not None:
        label = _one_of(wanted.class_name, classes, "class")
    places = _places(trained, method)
    layer = places["layer"]
    if wanted.layer is not None:
        layer = _one_of(wanted.layer, {name: name for name in places["layers"]}, "layer")
    if wanted.head is not None and not 1 <= wanted.head <= places["heads"]:
        raise Refusal(422, f"head {wanted.head}: {method} has {places['heads'] or 'no'} heads here")
    if method == "attention":
        assert isinstance(trained.model, ViT)
        heads = attribution.class_attention(attribution.attention_weights(trained.model, images))
        of_layer = heads[int(layer) - 1]
        found = of_layer.mean(dim=1) if wanted.head is None else of_layer[:, wanted.head - 1]
    else:
        asked = layer if method == "grad_cam" else None
        found = attribution.explain(
            trained.model, images, torch.tensor([label]), method, layer=asked
        )
    heatmap = found[0].float().cpu().numpy()
    (reason,) = localization.degenerate_reasons(heatmap[None])
    return {
        "method": method,
        "label": facts.label,
        "class_specific": facts.class_specific,
        "class": trained.class_names[label],
        "confidence": float(probabilities[label]),
        "layer": layer,
        "head": wanted.head,
        "map": None if reason else [[float(value) for value in row] for row in heatmap],
        "degenerate_because": reason,
        "highest": None if reason else figures.where(heatmap),
    }


def _one_of(name: str, known: dict[str, Any], what: str) -> Any:
    if name not in known:
        raise Refusal(422, f"there is no {what} {name[:80]!r} here; use {', '.join(known) or '-'}")
    return known[name]


def _image(
    trained: Trained, pixels: UInt8[np.ndarray, "32 32 3"], hidden: list[int]
) -> Float[Tensor, "1 3 32 32"]:
    """The image with the hidden cells in the training images' mean colour."""
    image = to_images(pixels[None])
    for cell in hidden:
        row, column = (CELL * place for place in divmod(cell, GRID))
        hole = image[:, :, row : row + CELL, column : column + CELL]
        hole[:] = trained.model.normalize.mean
    return image


def _probabilities(
    trained: Trained, images: Float[Tensor, "1 3 32 32"]
) -> Float[np.ndarray, " classes"]:
    with torch.inference_mode():
        return trained.model(images).softmax(dim=1)[0].numpy()
