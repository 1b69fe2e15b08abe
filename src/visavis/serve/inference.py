"""Predictions and heatmaps of the trained models for one image, as JSON types.

One thread at a time may use a model: explaining registers hooks on it and computes gradients.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from starlette.exceptions import HTTPException
from torch import Tensor

from visavis import attribution, run_folder
from visavis.attribution import METHODS, Subject
from visavis.data.batches import to_images
from visavis.data.images import data_address
from visavis.metrics import localization
from visavis.report import labels
from visavis.report.figures.heatmaps import heat_colours, where
from visavis.report.text import trust
from visavis.run_folder import ModelFolder
from visavis.serve import requests
from visavis.serve.requests import Pixels, Query, one_of
from visavis.stages.trained import Trained, load

TOP = 3
COLOURS = 64
"""Colours of a heatmap that the page receives."""


@dataclass(frozen=True)
class Served:
    """A trained model, with its run folder as it is now."""

    trained: Trained
    folder: ModelFolder

    @property
    def subject(self) -> Subject:
        return self.trained.subject

    @property
    def names(self) -> dict[str, str]:
        """The model's name, and its label in prose."""
        return {"name": self.trained.name, "label": self.folder.label}


class Models:
    """The trained models of an experiment; each is loaded when it is first used."""

    def __init__(self, experiment: Path) -> None:
        self.experiment = experiment
        self._loaded: dict[str, Trained] = {}

    def served(self) -> dict[str, Served]:
        """The trained models by role; status 409 if there is none, or their images differ."""
        folders = run_folder.trained_models(self.experiment)
        if not folders:
            raise HTTPException(409, "no model is trained here yet")
        if len({folder.data["fingerprint"] for folder in folders.values()}) > 1:
            raise HTTPException(409, "the two models were trained on different images")
        for folder in folders.values():
            if folder.name not in self._loaded:
                self._loaded[folder.name] = load(folder.path)
        return {role: Served(self._loaded[of.name], of) for role, of in folders.items()}

    def facts(self) -> dict[str, Any]:
        """The experiment's data and classes, and each model's methods with their checks."""
        models = self.served()
        first = next(iter(models.values()))
        data = first.folder.data
        mean = first.subject.fill.flatten().tolist()
        return {
            "experiment": self.experiment.name,
            "class_names": data["class_names"],
            "data": {"description": data["description"], "notice": data["notice"]},
            "side": _side(models),
            "grid": _grid(models),
            "hidden_colour": [round(255 * value) for value in mean],
            "colours": heat_colours(COLOURS),
            "models": {role: self._model_facts(role, model) for role, model in models.items()},
        }

    def _model_facts(self, role: str, model: Served) -> dict[str, Any]:
        folder = model.folder
        explained: dict[str, Any] = {"n": 0, "methods": {}}
        explained = folder.explanations if folder.explained else explained
        path = self.experiment / run_folder.CROSS_MODEL
        card = {}
        if folder.explained and path.exists():
            card = trust.scorecard(explained, run_folder.read_json(path), role)
        methods = {}
        for name in attribution.methods_for(model.subject):
            measured = explained["methods"].get(name)
            methods[name] = {
                "label": METHODS[name].label,
                "class_specific": METHODS[name].class_specific,
                "signed": METHODS[name].signed,
                "baseline": METHODS[name].baseline,
                **_layers(model.trained, name),
                "srg": measured and measured["scores"]["srg"],
                "contrast": measured and measured["scores"]["contrast"],
                "n": explained["n"],
                "checks": [
                    {"what": trust.CHECKS[check], "outcome": outcome, "value": value}
                    for check, (outcome, value) in card.get(name, {}).items()
                ],
            }
        return {
            **model.names,
            "parameters": folder.training["parameters"],
            "test_accuracy": folder.evaluation["accuracy"] if folder.tested else None,
            "default_method": attribution.default_method(model.subject),
            "methods": methods,
            "not_offered": _not_offered(model.subject),
        }

    def side(self) -> int:
        """Height and width of the images that the models take, pixels."""
        return _side(self.served())

    def predict(self, pixels: Pixels, query: Query) -> dict[str, Any]:
        """The most probable classes, and the pixels that the models were given, as a PNG."""
        models = self.served()
        images = _received(models, pixels, query)
        found = {}
        for role, model in models.items():
            probabilities = _probabilities(model.subject, images[role])
            names = model.trained.class_names
            found[role] = {
                **model.names,
                "top": [
                    {"class": names[k], "confidence": float(probabilities[k])}
                    for k in np.argsort(-probabilities)[:TOP]
                ],
            }
        return {"models": found, "seen": data_address(pixels)}

    def explain(self, pixels: Pixels, query: Query) -> dict[str, Any]:
        """The raw heatmap of each model, with its method, target class and layer."""
        models = self.served()
        roles = [one_of(query["model"], models, "model")] if "model" in query else models
        images = _received(models, pixels, query)
        return {"models": {role: _explain(models[role], images[role], query) for role in roles}}

    def blank(self) -> Pixels:
        """A grey image."""
        side = self.side()
        return np.full((side, side, 3), 128, dtype=np.uint8)


def _side(models: Mapping[str, Served]) -> int:
    """Height and width of the images, pixels."""
    return next(iter(models.values())).subject.side


def _grid(models: Mapping[str, Served]) -> int:
    """Cells along a side that can be hidden: those of the coarser grid, where the models differ."""
    return min(model.subject.grid for model in models.values())


def _received(
    models: Mapping[str, Served], pixels: Pixels, query: Query
) -> dict[str, Float[Tensor, "1 3 side side"]]:
    """For each model the image, its hidden cells in the model's mean colour."""
    grid, side = _grid(models), _side(models)
    hidden = requests.hidden(query, grid)
    images = {}
    for role, model in models.items():
        images[role] = to_images(pixels[None])
        for cell in hidden:
            row, column = (side // grid * place for place in divmod(cell, grid))
            area = np.s_[:, :, row : row + side // grid, column : column + side // grid]
            images[role][area] = model.subject.fill
    return images


def _probabilities(
    subject: Subject, image: Float[Tensor, "1 3 side side"]
) -> Float[np.ndarray, " classes"]:
    return subject.predict(image).softmax(dim=1)[0].numpy()


def _layers(trained: Trained, method: str) -> dict[str, Any]:
    """The layers and the number of heads to choose from, with the default layer."""
    subject = trained.subject
    if METHODS[method].needs == "layers":
        layer = trained.layer or subject.default_layer
        return {"layers": list(subject.layers), "layer": layer, "heads": 0}
    if method == "attention":
        blocks = [str(i + 1) for i in range(subject.blocks)]
        return {"layers": blocks, "layer": blocks[-1], "heads": subject.heads}
    return {"layers": [], "layer": None, "heads": 0}


def _not_offered(subject: Subject) -> list[dict[str, Any]]:
    """The methods, as they are called within a sentence, that cannot explain a model, and why."""
    found: dict[str, list[str]] = {}
    for name, method in METHODS.items():
        if method.needs in subject.lacks:
            found.setdefault(subject.lacks[method.needs], []).append(labels.named(name))
    return [{"methods": names, "because": reason} for reason, names in found.items()]


def _explain(model: Served, image: Float[Tensor, "1 3 side side"], query: Query) -> dict[str, Any]:
    subject, names = model.subject, model.trained.class_names
    method = query.get("method", attribution.default_method(subject))
    one_of(method, attribution.methods_for(subject), "method")
    choices = _layers(model.trained, method)
    layer, head = choices["layer"], None
    if "layer" in query:
        layer = one_of(query["layer"], choices["layers"], "layer")
    if "head" in query:
        head = int(one_of(query["head"], [str(i + 1) for i in range(choices["heads"])], "head"))
    probabilities = _probabilities(subject, image)
    target = int(probabilities.argmax())
    if "class" in query:
        target = names.index(one_of(query["class"], names, "class"))
    if method == "attention":
        weights = attribution.attention_weights(subject, image)[int(layer) - 1]
        heads = attribution.patch_attention(subject, weights)
        found = heads.mean(dim=1) if head is None else heads[:, head - 1]
    else:
        found = attribution.explain(subject, image, torch.tensor([target]), method, layer=layer)
    heatmap = found[0].float().cpu().numpy()
    (reason,) = localization.degenerate_reasons(heatmap[None])
    return {
        **model.names,
        "method": method,
        "method_label": METHODS[method].label,
        "class_specific": METHODS[method].class_specific,
        "class": names[target],
        "confidence": float(probabilities[target]),
        "layer": layer,
        "head": head,
        "map": None if reason else heatmap.tolist(),
        "degenerate_because": reason,
        "highest": None if reason else where(heatmap),
    }
