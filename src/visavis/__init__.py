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
    from visavis.attribution import Subject as Subject
    from visavis.attribution import explain as explain
    from visavis.attribution import methods_for as methods_for
    from visavis.cli.main import main as main
    from visavis.data.images import read_image as read_image
    from visavis.registry import register_model as register_model
    from visavis.report.figures.heatmaps import overlay as overlay
    from visavis.stages.trained import Trained as Trained
    from visavis.stages.trained import load as load

_HOME = {
    "Subject": "attribution",
    "Trained": "stages.trained",
    "explain": "attribution",
    "load": "stages.trained",
    "main": "cli.main",
    "methods_for": "attribution",
    "overlay": "report.figures.heatmaps",
    "read_image": "data.images",
    "register_model": "registry",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that `visavis --help` does not import torch."""
    if name not in _HOME:
        raise AttributeError(f"module 'visavis' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"visavis.{_HOME[name]}"), name)
