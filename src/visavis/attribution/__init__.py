"""Explain a model's prediction by a heatmap over the image: one file for each family of methods."""

from visavis.attribution.attention import attention_weights, class_attention
from visavis.attribution.grad_cam import default_layer
from visavis.attribution.methods import DEFAULT_METHOD, METHODS, explain, kind_of, methods_for

__all__ = [
    "DEFAULT_METHOD",
    "METHODS",
    "attention_weights",
    "class_attention",
    "default_layer",
    "explain",
    "kind_of",
    "methods_for",
]
