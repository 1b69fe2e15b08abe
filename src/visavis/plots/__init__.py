"""Arrays in, figures out: charts, and grids of pictures with their heatmaps. No torch, no files."""

from visavis.plots.charts import (
    Score,
    class_counts,
    f1_per_class,
    layer_sweep,
    overlap,
    scores,
    similarity,
)
from visavis.plots.confusion import confusion, confusion_difference
from visavis.plots.curves import accuracy_curve, loss_curve, reliability, wall_clock
from visavis.plots.galleries import (
    attention_gallery,
    attention_heads,
    class_examples,
    face_to_face,
    film,
    grad_cam_detail,
    grad_cam_gallery,
    short_label,
)
from visavis.plots.pictures import (
    Cell,
    Group,
    heat_colours,
    heat_gradient,
    heat_picture,
    overlay,
    picture_figure,
    stretched,
    where,
)
from visavis.plots.style import BASELINE_COLOUR, MODEL_COLOURS, svg
from visavis.plots.trust import cascade, crosstest, few_cells, likeness

__all__ = [
    "BASELINE_COLOUR",
    "MODEL_COLOURS",
    "Cell",
    "Group",
    "Score",
    "accuracy_curve",
    "attention_gallery",
    "attention_heads",
    "cascade",
    "class_counts",
    "class_examples",
    "confusion",
    "confusion_difference",
    "crosstest",
    "f1_per_class",
    "face_to_face",
    "few_cells",
    "film",
    "grad_cam_detail",
    "grad_cam_gallery",
    "heat_colours",
    "heat_gradient",
    "heat_picture",
    "layer_sweep",
    "likeness",
    "loss_curve",
    "overlap",
    "overlay",
    "picture_figure",
    "reliability",
    "scores",
    "short_label",
    "similarity",
    "stretched",
    "svg",
    "wall_clock",
    "where",
]
