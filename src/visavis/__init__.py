"""visavis: two image classifiers, trained from scratch, explained and compared.

import visavis

cnn = visavis.load("runs/first/cnn")
pixels = visavis.read_image("cat.jpg")[None]
probabilities = cnn.predict(pixels)
heatmaps = cnn.explain(pixels)
image = visavis.overlay(pixels[0], heatmaps[0])
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from visavis.attribution import Subject, explain, methods_for
    from visavis.cli.main import main
    from visavis.data.images import read_image
    from visavis.registry import register_model
    from visavis.report.figures.heatmaps import overlay
    from visavis.stages.trained import Trained, load

__all__ = [
    "Subject",
    "Trained",
    "explain",
    "load",
    "main",
    "methods_for",
    "overlay",
    "read_image",
    "register_model",
]

_HOME = {
    "Subject": "attribution",
    "Trained": "stages.trained",
    "explain": "attribution",
    "main": "cli.main",
    "methods_for": "attribution",
    "register_model": "registry",
    "load": "stages.trained",
    "overlay": "report.figures.heatmaps",
    "read_image": "data.images",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that `visavis --help` does not import torch."""
    if name not in _HOME:
        raise AttributeError(f"module 'visavis' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"visavis.{_HOME[name]}"), name)
