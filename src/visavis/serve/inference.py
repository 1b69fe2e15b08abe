"""Predictions and heatmaps of the trained models for one image, as JSON types.

One thread at a time may use a model: explaining registers hooks on it and computes gradients.
"""

import contextlib
import functools
import logging
from collections.abc import Iterator, Mapping
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
from visavis.errors import VisavisError
from visavis.files import file_sha256
from visavis.report import labels
from visavis.report.text import trust
from visavis.run_folder import ModelFolder
from visavis.serve import requests
from visavis.serve.pair import Shown, pair_of, together
from visavis.serve.requests import Pixels, Query, one_of
from visavis.stages.trained import Trained, load

log = logging.getLogger(__name__)

TOP = 3
COLOURS = 64
"""Colours of a heatmap that the page receives."""
KEPT = 8
"""Models in memory; of a study with more trainings, those that were used last."""


@dataclass(frozen=True)
class Served:
    """A loaded model."""

    trained: Trained
    shown: Shown

    @property
    def subject(self) -> Subject:
        return self.trained.subject

    @property
    def names(self) -> dict[str, str]:
        """The model's name, and its label in prose."""
        return {"name": self.trained.name, "label": self.shown.label}


class Models:
    """The trained models of an experiment or a study.

    Each is loaded when it is first used, and again when its files have changed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._load = functools.lru_cache(KEPT)(lambda shown: load(shown.path))

    def served(self, query: Query) -> dict[str, Served]:
        """The models by role; status 409 if there is none, or their images differ."""
        pair = pair_of(self._folder, query)
        if not pair:
            raise HTTPException(409, "no model is trained here yet")
        if len({of.folder.data["fingerprint"] for of in pair.values()}) > 1:
            raise HTTPException(409, f"{together(pair)} were trained on different images")
        return {role: Served(self._load(of), of) for role, of in pair.items()}

    def facts(self, query: Query) -> dict[str, Any]:
        """The data and classes, and each model's methods with their checks."""
        from visavis.report.figures.heatmaps import heat_colours

        models = self.served(query)
        first = next(iter(models.values()))
        data = first.shown.folder.data
        mean = first.subject.fill.flatten().tolist()
        return {
            "experiment": self._folder.name,
            "class_names": data["class_names"],
            "data": {"description": data["description"], "notice": data["notice"]},
            "side": _side(models),
            "grid": _grid(models),
            "hidden_colour": [round(255 * value) for value in mean],
            "colours": heat_colours(COLOURS),
            "models": {role: self._model_facts(role, model) for role, model in models.items()},
        }

    def _model_facts(self, role: str, model: Served) -> dict[str, Any]:
        folder = model.shown.folder
        refused = attribution.not_offered(model.subject)
        explained: dict[str, Any] = {"n": 0, "methods": {}, "not_offered": refused}
        explained = folder.explanations if folder.explained else explained
        card = self._checks(role, folder) if folder.explained else {}
        methods = {}
        for name in attribution.methods_for(model.subject):
            if name in explained["not_offered"]:
                continue
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
            "default_method": model.trained.default_method,
            "methods": methods,
            "not_offered": _not_offered(explained["not_offered"]),
        }

    def _checks(self, role: str, folder: ModelFolder) -> dict[str, dict[str, trust.Check]]:
        """The outcome of each check of a model's methods, unless it was explained again since."""
        path = self._folder / run_folder.CROSS_MODEL
        cross_model = run_folder.read_json(path) if path.exists() else {"heatmaps_sha256": {}}
        heatmaps = file_sha256(folder.path / run_folder.HEATMAPS)
        if cross_model["heatmaps_sha256"].get(role) != heatmaps:
            return {}
        return trust.scorecard(folder.explanations, cross_model, role)

    def side(self, query: Query) -> int:
        """Height and width of the images that the models take, pixels."""
        return _side(self.served(query))

    def predict(self, pixels: Pixels, query: Query) -> dict[str, Any]:
        """The most probable classes, and the pixels that the models were given, as a PNG."""
        models = self.served(query)
        images = _received(models, pixels, query)
        found = {}
        for role, model in models.items():
            with _failures_told(model):
                probabilities = _probabilities(model, images[role])
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
        models = self.served(query)
        roles = [one_of(query["model"], models, "model")] if "model" in query else models
        images = _received(models, pixels, query)
        return {"models": {role: _explain(models[role], images[role], query) for role in roles}}

    def blank(self) -> Pixels:
        """A grey image."""
        side = self.side({})
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


@contextlib.contextmanager
def _failures_told(model: Served) -> Iterator[None]:
    """A model of the user's may raise anything: one sentence with status 500, and all goes on."""
    try:
        yield
    except (VisavisError, HTTPException):
        raise
    except (Exception, SystemExit) as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        sentence = f"{labels.the(model.shown.label)} fails on this image with {what}"
        log.error("%s", sentence, exc_info=log.isEnabledFor(logging.DEBUG))
        raise HTTPException(500, sentence) from error


def _probabilities(
    model: Served, image: Float[Tensor, "1 3 side side"]
) -> Float[np.ndarray, " classes"]:
    logits = model.subject.predict(image)[0]
    if not torch.isfinite(logits).all():
        raise ValueError("its logits are NaN or infinite")
    return logits.softmax(dim=0).numpy()


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


def _not_offered(reasons: dict[str, str]) -> list[dict[str, Any]]:
    """The methods, as they are called within a sentence, that cannot explain a model, and why."""
    found: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        found.setdefault(reason, []).append(labels.named(name))
    return [{"methods": names, "because": reason} for reason, names in found.items()]


def _explain(model: Served, image: Float[Tensor, "1 3 side side"], query: Query) -> dict[str, Any]:
    # SciPy and matplotlib: predictions need neither, and are sooner without.
    from visavis.attribution.degenerate import degenerate_reasons
    from visavis.report.figures.heatmaps import where

    subject, names = model.subject, model.trained.class_names
    method = query.get("method", model.trained.default_method)
    one_of(method, attribution.methods_for(subject), "method")
    choices = _layers(model.trained, method)
    layer, head = choices["layer"], None
    if "layer" in query:
        layer = one_of(query["layer"], choices["layers"], "layer")
    if "head" in query:
        head = int(one_of(query["head"], [str(i + 1) for i in range(choices["heads"])], "head"))
    with _failures_told(model):
        probabilities = _probabilities(model, image)
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
    (reason,) = degenerate_reasons(heatmap[None])
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
