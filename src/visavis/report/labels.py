"""What models, methods, baselines and buckets are called in prose and charts: one place for all."""

MODELS = {"cnn": "CNN", "vit": "ViT"}

METHODS = {
    "grad_cam": "Grad-CAM",
    "gradient_attention": "gradient-weighted attention",
    "attention": "the last block's attention",
    "rollout": "attention rollout",
    "integrated_gradients": "integrated gradients",
    "occlusion": "occlusion",
    "random": "a random map",
    "centre": "the centre map",
    "edges": "the edge map",
    "mean": "the mean map",
}
"""Methods and baselines within a sentence."""

_SHORT = {
    "grad_cam": "Grad-CAM",
    "attention": "attention, last block",
    "rollout": "rollout",
    "gradient_attention": "gradient attention",
}

BUCKETS = {
    "both_correct": "Both correct",
    "only_cnn": "Only the CNN correct",
    "only_vit": "Only the ViT correct",
    "both_wrong_same": "Both wrong, same class",
    "both_wrong_different": "Both wrong, different classes",
}
"""Every test image is in one of them."""


def short(method: str) -> str:
    """A method's name where there is little room."""
    return _SHORT.get(method, method.replace("_", " "))
