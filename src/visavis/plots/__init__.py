"""Arrays in, figures out: charts, and grids of pictures with their heatmaps. No torch, no files."""

from visavis.plots.charts import (
    accuracy_curve,
    class_counts,
    f1_per_class,
    layer_sweep,
    loss_curve,
    overlap,
    scores,
    similarity,
    wall_clock,
)
from visavis.plots.confusion import confusion, confusion_difference
from visavis.plots.pictures import (
    Cell,
    Group,
    attention_gallery,
    attention_heads,
    class_examples,
    face_to_face,
    grad_cam_detail,
    grad_cam_gallery,
    heat_gradient,
    heat_picture,
    overlay,
    picture_figure,
)
from visavis.plots.style import svg

__all__ = [
    "Cell",
    "Group",
    "accuracy_curve",
    "attention_gallery",
    "attention_heads",
    "class_counts",
    "class_examples",
    "confusion",
    "confusion_difference",
    "f1_per_class",
    "face_to_face",
    "grad_cam_detail",
    "grad_cam_gallery",
    "heat_gradient",
    "heat_picture",
    "layer_sweep",
    "loss_curve",
    "overlap",
    "overlay",
    "picture_figure",
    "scores",
    "similarity",
    "svg",
    "wall_clock",
]
