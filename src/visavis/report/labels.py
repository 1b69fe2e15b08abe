"""What models, methods, baselines and buckets are called in prose and charts: one place for all."""

from collections.abc import Mapping
from typing import Any

METHODS = {
    "grad_cam": "Grad-CAM",
    "layer_cam": "LayerCAM",
    "gradient_attention": "gradient-weighted attention",
    "attention": "the last block's attention",
    "rollout": "attention rollout",
    "integrated_gradients": "integrated gradients",
    "smooth_grad": "SmoothGrad",
    "gradient_shap": "Gradient SHAP",
    "occlusion": "occlusion",
    "random": "a random map",
    "blob": "a blob at a random place",
    "centre": "the centre map",
    "edges": "the edge map",
    "mean": "the mean map",
}
"""Methods and baselines within a sentence."""

SCORES = {
    "srg": "SRG",
    "srg_mean_fill": "SRG, mean colour",
    "srg_blur_fill": "SRG, blur",
    "deletion": "Deletion",
    "insertion": "Insertion",
    "contrast": "Contrast",
    "idsds": "IDSDS",
    "keep_top_20": "Accuracy with 20 % kept",
    "central_mass": "Share in the central quarter",
    "relevance_mass": "Relevance mass accuracy",
    "pointing_hit": "Pointing game",
    "mask_auc": "Area under the ROC curve",
}
"""Scores of maps, by their keys in explanations.json, as the headings of tables."""

IN_PERCENT = {"keep_top_20", "central_mass", "relevance_mass", "pointing_hit"}
"""Scores that are shown so."""

_SHORT = {
    "attention": "attention, last block",
    "rollout": "rollout",
    "gradient_attention": "gradient attention",
}

_KINDS = ("CNN", "ViT")
"""Labels that are words; every other one is a name, which takes no article."""

Methods = Mapping[str, Mapping[str, Any]]
"""The `methods` of explanations.json, whose labels stand in for names that are not here."""


def the(label: str, article: str = "the") -> str:
    """A model within a sentence: "the CNN", but "resnet20"; with "The" at its start."""
    return f"{article} {label}" if label in _KINDS else label


def named(method: str, methods: Methods | None = None) -> str:
    """A method or baseline within a sentence."""
    if method in METHODS:
        return METHODS[method]
    return methods[method]["label"] if methods else method.replace("_", " ")


def short(method: str, methods: Methods | None = None) -> str:
    """A method's name where there is little room."""
    return _SHORT.get(method) or named(method, methods)


def bucket_names(labels: Mapping[str, str]) -> dict[str, str]:
    """What `metrics.classification.buckets` are called; `labels` are those of the two models."""
    return {
        "both_correct": "Both correct",
        "only_first": f"Only {the(labels['first'])} correct",
        "only_second": f"Only {the(labels['second'])} correct",
        "both_wrong_same": "Both wrong, same class",
        "both_wrong_different": "Both wrong, different classes",
    }


def family(explanations: Mapping[str, Any]) -> str:
    """What a model's maps are introduced as: attention if it has any, else the default method."""
    default: str = explanations["default_method"]
    return "attention" if "attention" in explanations["methods"] else default
