"""Explain a model's prediction by a heatmap over the image: one file for each family of methods."""

from visavis.attribution.attention import attention_weights, patch_attention
from visavis.attribution.methods import (
    METHODS,
    default_method,
    explain,
    methods_for,
    not_offered,
)
from visavis.attribution.subject import Subject

__all__ = [
    "METHODS",
    "Subject",
    "attention_weights",
    "default_method",
    "explain",
    "methods_for",
    "not_offered",
    "patch_attention",
]
