"""The models: the CNN, the ViT, registered ones, and those of libraries."""

from visavis.models.building import (
    Model,
    build,
    config_from_json,
    config_to_json,
    explanation_layers,
    fit_input,
    known_of,
    modules_of,
    name_of,
)
from visavis.models.saved import load, load_brought, save

__all__ = [
    "Model",
    "build",
    "config_from_json",
    "config_to_json",
    "explanation_layers",
    "fit_input",
    "known_of",
    "load",
    "load_brought",
    "modules_of",
    "name_of",
    "save",
]
