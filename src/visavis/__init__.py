"""visavis: a CNN and a Vision Transformer, trained, explained, and set face to face.

import visavis

cnn = visavis.load("runs/first/cnn")
pixels = visavis.read_picture("cat.jpg")[None]
probabilities = cnn.predict(pixels)
heatmaps = cnn.explain(pixels)
picture = visavis.overlay(pixels[0], heatmaps[0])
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from visavis.pictures import read_picture
    from visavis.plots import overlay
    from visavis.trained import Trained, load

__all__ = ["Trained", "load", "overlay", "read_picture"]

_HOME = {"Trained": "trained", "load": "trained", "overlay": "plots", "read_picture": "pictures"}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: `visavis --help` waits for no torch."""
    if name not in _HOME:
        raise AttributeError(f"module 'visavis' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"visavis.{_HOME[name]}"), name)
