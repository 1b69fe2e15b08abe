"""Arrays in, figures out: charts, and grids of images with their heatmaps. No torch, no files."""

from visavis.report.figures.charts import (
    Score,
    class_counts,
    f1_per_class,
    layer_sweep,
    overlap,
    scores,
    similarity,
)
from visavis.report.figures.confusion import confusion, confusion_difference
from visavis.report.figures.curves import accuracy_curve, loss_curve, reliability, wall_clock
from visavis.report.figures.galleries import (
    attention_gallery,
    attention_heads,
    class_examples,
    grad_cam_detail,
    grad_cam_gallery,
    side_by_side,
    snapshots,
)
from visavis.report.figures.heatmaps import (
    Cell,
    Group,
    heat_colours,
    heat_gradient,
    heat_image,
    image_figure,
    overlay,
    stretched,
    where,
)
from visavis.report.figures.style import BASELINE_COLOUR, MODEL_COLOURS, svg
from visavis.report.figures.trust import agreement, cascade, cross_model, keep_top_k

__all__ = [
    "BASELINE_COLOUR",
    "MODEL_COLOURS",
    "Cell",
    "Group",
    "Score",
    "accuracy_curve",
    "agreement",
    "attention_gallery",
    "attention_heads",
    "cascade",
    "class_counts",
    "class_examples",
    "confusion",
    "confusion_difference",
    "cross_model",
    "f1_per_class",
    "grad_cam_detail",
    "grad_cam_gallery",
    "heat_colours",
    "heat_gradient",
    "heat_image",
    "image_figure",
    "keep_top_k",
    "layer_sweep",
    "loss_curve",
    "overlap",
    "overlay",
    "reliability",
    "scores",
    "side_by_side",
    "similarity",
    "snapshots",
    "stretched",
    "svg",
    "wall_clock",
    "where",
]
